"""Ray Serve answering a constant: `python constant_ray.py PORT`."""

import signal
import sys
from typing import Any

import ray
from ray import serve
from ray.serve.schema import LoggingConfig

BATCH, WAIT_S = 32, 0.001
MOST_WAITING = 2000


@serve.deployment(
    num_replicas=1,
    max_ongoing_requests=MOST_WAITING,
    ray_actor_options={"num_cpus": 0.5},
    logging_config=LoggingConfig(enable_access_log=False, log_level="ERROR"),
)
class Constant:
    """One constant per row."""

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=WAIT_S)
    async def batched(self, rows: list[Any]) -> list[str]:
        """The batch's answers."""
        return ["ok"] * len(rows)

    async def __call__(self, request: Any) -> str:
        """One request, answered with its batch."""
        answer: str = await self.batched(await request.json())
        return answer


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(sys.argv[1])},
        logging_config=LoggingConfig(enable_access_log=False, log_level="ERROR"),
    )
    serve.run(Constant.bind())
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
