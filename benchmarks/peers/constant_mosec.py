"""mosec answering a constant: `python constant_mosec.py --address HOST --port PORT`."""

from typing import Any

from mosec import Server, Worker

BATCH, WAIT_MS = 32, 1  # mosec's least: 0 means its default of 10 ms


class Constant(Worker):
    """One constant per row."""

    def forward(self, data: list[Any]) -> list[str]:
        """The batch's answers."""
        return ["ok"] * len(data)


if __name__ == "__main__":
    server = Server()
    server.append_worker(Constant, num=1, max_batch_size=BATCH, max_wait_time=WAIT_MS)
    server.run()
