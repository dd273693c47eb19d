"""MarServe's management port, as benchmarks use it, and what its processes have of memory.

with controlled(work, store, ["resnet50.mar"]) as control:
    control.scale("resnet50", 4)
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from servers import pack

HERE = Path(__file__).parent
RESNET50 = "resnet50"


class Control:
    """A running server. Calls block; each is a request on a connection that stays open."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.pid: int = facts["pid"]
        self.inference: str = facts["addresses"]["inference"]
        netloc = urlsplit(facts["addresses"]["management"]).netloc
        self._connection = http.client.HTTPConnection(netloc, timeout=300)

    def ask(self, method: str, path: str) -> Any:
        """The JSON that the management port answers; raises RuntimeError unless it is a 200."""
        self._connection.request(method, path)
        response = self._connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise RuntimeError(f"{method} {path}: {response.status} {body.decode()}")
        return json.loads(body)

    def scale(self, model: str, workers: int) -> float:
        """Have so many workers; the seconds until all serve."""
        started = time.perf_counter()
        count = f"min_worker={workers}&max_worker={workers}"
        self.ask("PUT", f"/models/{model}?{count}&synchronous=true")
        return time.perf_counter() - started

    def workers(self, model: str) -> list[int]:
        """The process ids of a model's workers."""
        return [worker["pid"] for worker in self.ask("GET", f"/models/{model}")[0]["workers"]]

    def wait_for_workers(self, model: str, count: int) -> None:
        """Wait until surplus workers have ended."""
        for _ in range(600):
            if len(self.workers(model)) == count:
                return
            time.sleep(0.05)
        raise RuntimeError(f"{model} does not come to {count} workers")

    def family(self) -> list[int]:
        """The server, its zygotes and all workers."""
        leader = psutil.Process(self.pid)
        return [self.pid, *(child.pid for child in leader.children(recursive=True))]


@contextmanager
def controlled(
    work: Path, store: Path, models: Sequence[str] = (), *, keeps: bool = False
) -> Iterator[Control]:
    """MarServe in the background, every port free on loopback, with these archives loaded.

    `keeps`: what is registered is there again after the next start with the same `work`.
    """
    work.mkdir(parents=True, exist_ok=True)
    config = work / "config.properties"
    ports = ("inference", "management", "metrics")
    config.write_text(
        "".join(f"{port}_address=http://127.0.0.1:0\n" for port in ports)
        + "grpc_inference_port=0\ngrpc_management_port=0\ndisable_system_metrics=true\n"
        + f"model_store={store}\nlog_dir={work / 'logs'}\ncache_dir={work / 'cache'}\n"
        + "default_workers_per_model=1\n"
    )
    run = [sys.executable, "-m", "marserve"]
    start = [*run, "start", "--config", str(config)]
    start += [] if keeps else ["--ncs"]
    start += ["--models", ",".join(models)] if models else []
    subprocess.run(start, check=True, stdout=subprocess.DEVNULL)
    try:
        yield Control(json.loads((work / "logs" / "marserve.json").read_text()))
    finally:
        stop = [*run, "stop", "--config", str(config)]
        subprocess.run(stop, check=True, stdout=subprocess.DEVNULL)


def pack_resnet50(work: Path, store: Path) -> int:
    """Make `store/resnet50.mar` with random weights; their size in bytes."""
    import torch  # only the benchmarks of ResNet-50 need it
    from resnet50_model import ResNet50

    work.mkdir(parents=True, exist_ok=True)
    store.mkdir(parents=True, exist_ok=True)
    weights = ResNet50().eval().state_dict()
    torch.save(weights, work / "resnet50.pth")
    model = ("--model-file", str(HERE / "resnet50_model.py"))
    files = (*model, "--serialized-file", str(work / "resnet50.pth"))
    pack(store, RESNET50, Path("image_classifier"), *files)
    return sum(tensor.numel() * tensor.element_size() for tensor in weights.values())


def memory_mib(pid: int) -> dict[str, float]:
    """`pss` (each shared page counted as its share), `private` and `rss` of a process, in MiB."""
    found = {}
    for line in Path("/proc", str(pid), "smaps_rollup").read_text().splitlines()[1:]:
        name, _, value = line.partition(":")
        found[name] = int(value.split()[0]) / 1024
    private = found["Private_Clean"] + found["Private_Dirty"]
    return {"pss": found["Pss"], "private": private, "rss": found["Rss"]}
