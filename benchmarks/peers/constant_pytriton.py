"""PyTriton answering a constant: `python constant_pytriton.py HTTP_PORT GRPC_PORT METRICS_PORT`."""

import sys
from typing import Any

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

BATCH = 32


@batch
def constant(x: Any) -> list[Any]:
    """One constant per row."""
    return [np.ones((len(x), 1), dtype=np.int8)]


if __name__ == "__main__":
    http, grpc, metrics = map(int, sys.argv[1:4])
    config = TritonConfig(http_port=http, grpc_port=grpc, metrics_port=metrics, log_verbose=0)
    with Triton(config=config) as triton:
        triton.bind(
            model_name="constant",
            infer_func=constant,
            inputs=[Tensor(name="x", dtype=np.float32, shape=(-1,))],
            outputs=[Tensor(name="y", dtype=np.int8, shape=(1,))],
            config=ModelConfig(
                max_batch_size=BATCH, batcher=DynamicBatcher(max_queue_delay_microseconds=0)
            ),
        )
        triton.serve()
