"""LitServe answering a constant: `python constant_litserve.py PORT`."""

import sys
from typing import Any

import litserve

BATCH, WAIT_S = 32, 0.001


class Constant(litserve.LitAPI):
    """One constant per row."""

    def setup(self, device: str) -> None:
        """Nothing to load."""

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # LitServe reads the types
        """The JSON body."""
        return request["instances"]

    def batch(self, inputs: list[Any]) -> list[Any]:
        """Rows stay a list."""
        return inputs

    def predict(self, x: list[Any]) -> list[str]:
        """The batch's answers."""
        return ["ok"] * len(x)

    def unbatch(self, output: list[str]) -> list[str]:
        """One answer each."""
        return output

    def encode_response(self, output: str) -> str:
        """The answer as JSON."""
        return output


if __name__ == "__main__":
    api = Constant(max_batch_size=BATCH, batch_timeout=WAIT_S)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning"
    )
