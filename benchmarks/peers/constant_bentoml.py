"""BentoML answering a constant: `bentoml serve constant_bentoml:Constant --port PORT`."""

import bentoml

BATCH = 32
PATIENCE_MS = 60_000  # its batcher answers 503 to what it expects to take longer


@bentoml.service(
    workers=1,
    traffic={"timeout": 60},
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
)
class Constant:
    """One constant per row."""

    @bentoml.api(batchable=True, max_batch_size=BATCH, max_latency_ms=PATIENCE_MS)
    def predict(self, instances: list[list[float]]) -> list[str]:
        """The batch's answers: rows of all requests come together."""
        return ["ok"] * len(instances)
