"""The bare loop of the digits model: the handler of the example, full batches, no server.

    python benchmarks/digits_loop.py MODEL_DIR IMAGE BATCH SECONDS

Prints predictions per second and CPU microseconds per prediction. Decoding, transforms, forward
pass and postprocessing are in it; making bytes of the answers is not. `OMP_NUM_THREADS` says how
many threads torch has. For `digits.py`.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from marserve_handlers import Context

MANIFEST = {
    "model": {
        "modelName": "digits",
        "modelFile": "model.py",
        "serializedFile": "digits.pth",
        "handler": "digits_handler.py",
    }
}
WARM_S = 0.5


def main(folder: str, image: Path, batch: int, seconds: float) -> None:
    """Run, print."""
    sys.path.insert(0, folder)
    from digits_handler import DigitsHandler  # type: ignore[import-not-found]  # of the archive

    context = Context(
        model_name="digits", manifest=MANIFEST, model_dir=folder, batch_size=batch, gpu=None
    )
    handler = DigitsHandler()
    handler.initialize(context)
    body = image.read_bytes()
    ids, headers = [str(n) for n in range(batch)], [{} for _ in range(batch)]  # type: ignore[var-annotated]

    def loop(for_s: float) -> tuple[int, float, float]:
        batches, started, cpu = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - started < for_s:
            context.begin_batch(ids, headers)
            rows = [{"body": bytearray(body)} for _ in range(batch)]
            handler.handle(rows, context)
            batches += 1
        return batches * batch, time.perf_counter() - started, time.process_time() - cpu

    loop(WARM_S)
    count, took_s, cpu_s = loop(seconds)
    print(count / took_s, cpu_s / count * 1e6)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
