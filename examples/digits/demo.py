"""The main job, end to end: train, pack, serve, classify over HTTP, look at the figures.

    python demo.py [--once] [--work DIR]

Trains only if the work folder has no model yet. Uses the ports 8080 to 8082 when they are free.
"""

import argparse
import contextlib
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import local
from urllib.parse import urlsplit

HERE = Path(__file__).resolve().parent
LEAST_ACCURACY = 0.97
CLIENTS = 8
ROUNDS = 5
SHADES = " .:-=+*#%@"
PORTS = {"inference": 8080, "management": 8081, "metrics": 8082}


def main() -> int:
    options = parse()
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    trained(work)
    packed(work)
    config = configured(work)
    say("Starting the server")
    marserve(config, "start", "--ncs", "--models", "digits=digits.mar")
    try:
        addresses = json.loads((work / "logs" / "marserve.json").read_text())["addresses"]
        accuracy = classified(work / "held_out", addresses["inference"])
        show_metrics(addresses["metrics"])
        show_what_to_try(work, addresses)
        if not options.once:
            print("\nThe server stays up. Ctrl-C stops it.", flush=True)
            signal.sigwait({signal.SIGINT, signal.SIGTERM})
            print()
    finally:
        marserve(config, "stop")
    if accuracy < LEAST_ACCURACY:
        print(f"The accuracy is below {LEAST_ACCURACY}.", file=sys.stderr)
        return 1
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--once", action="store_true", help="exit when done")
    parser.add_argument("--work", type=Path, default=Path(".demo"), help="where everything goes")
    return parser.parse_args()


# --- the steps ------------------------------------------------------------------------------------


def trained(work: Path) -> None:
    if (work / "digits.pth").exists() and (work / "held_out" / "labels.json").exists():
        say("The model is trained already")
        return
    say("Training a small convolutional network on 1,437 handwritten digits")
    import runpy

    def report(line: str) -> None:
        epoch = line.split(":")[0].removeprefix("epoch ")
        if "/" in epoch:
            done, total = map(int, epoch.split("/"))
            progress(done, total, line.partition(": ")[2])
        else:
            print(f"  {line}")

    runpy.run_path(str(HERE / "train.py"))["train"](work, report)


def packed(work: Path) -> None:
    say("Packing it")
    command = ["--model-name", "digits", "--version", "1.0"]
    command += ["--model-file", shown(HERE / "model.py")]
    command += ["--serialized-file", shown(work / "digits.pth")]
    command += ["--handler", shown(HERE / "digits_handler.py")]
    command += ["--config-file", shown(HERE / "model-config.yaml")]
    command += ["--export-path", shown(work / "model_store"), "--force"]
    run("archiver", *command)


def configured(work: Path) -> Path:
    ports = PORTS if all(map(is_free, PORTS.values())) else dict.fromkeys(PORTS, 0)
    lines = [f"{name}_address=http://127.0.0.1:{port}\n" for name, port in ports.items()]
    lines += [f"model_store={work / 'model_store'}\n", f"log_dir={work / 'logs'}\n"]
    lines += [f"cache_dir={work / 'cache'}\n"]
    path = work / "config.properties"
    path.write_text("".join(lines))
    return path


def classified(held_out: Path, inference: str) -> float:
    labels = json.loads((held_out / "labels.json").read_text())
    images = {name: (held_out / name).read_bytes() for name in labels}
    say(f"Classifying {len(images)} held-out images over HTTP, {CLIENTS} clients, {ROUNDS} rounds")
    clients = Clients(inference)
    work = [name for _ in range(ROUNDS) for name in images]
    answers = []
    latencies_ms = []
    started = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        for answer, latency_ms in pool.map(lambda name: clients.predict(images[name]), work):
            answers.append(answer)
            latencies_ms.append(latency_ms)
            if len(answers) % 64 == 0 or len(answers) == len(work):
                progress(len(answers), len(work), "answered")
    took_s = time.perf_counter() - started
    right = sum(labels[name] == a["digit"] for name, a in zip(work, answers, strict=True))
    accuracy = right / len(work)
    first = next(iter(images))
    print(f"\n{drawing(held_out / first)}\n  → {answers[0]['digit']}  ({first})\n")
    print(f"  accuracy    {accuracy:.4f}")
    print(f"  throughput  {len(work) / took_s:,.0f} images/s")
    show_latency(latencies_ms)
    return accuracy


class Clients:
    """One connection per thread."""

    def __init__(self, url: str) -> None:
        self._host = urlsplit(url).netloc
        self._local = local()

    def predict(self, image: bytes) -> tuple[dict, float]:
        if not hasattr(self._local, "connection"):
            self._local.connection = http.client.HTTPConnection(self._host, timeout=60)
        connection = self._local.connection
        started = time.perf_counter()
        connection.request("POST", "/predictions/digits", image)
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise RuntimeError(f"the server answered {response.status}: {body.decode()}")
        return json.loads(body), (time.perf_counter() - started) * 1000


# --- what is shown --------------------------------------------------------------------------------


def show_latency(latencies_ms: list[float]) -> None:
    cuts = statistics.quantiles(latencies_ms, n=100)
    chosen = {"p50": cuts[49], "p90": cuts[89], "p95": cuts[94], "p99": cuts[98]}
    longest = max(chosen.values())
    for name, value in chosen.items():
        print(f"  {name} {value:8.2f} ms  {'█' * max(1, round(40 * value / longest))}")


def show_metrics(metrics: str) -> None:
    say("A few metrics")
    host = urlsplit(metrics).netloc
    connection = http.client.HTTPConnection(host, timeout=60)
    wanted = (
        "ts_inference_requests_total",
        "marserve_batch_size_sum",
        "marserve_batch_size_count",
        "marserve_workers",
        "HandlerTime",
    )
    query = "&".join(f"name[]={name}" for name in wanted)
    connection.request("GET", f"/metrics?{query}")
    for line in connection.getresponse().read().decode().splitlines():
        if not line.startswith("#"):
            print(f"  {line}")
    connection.close()


def show_what_to_try(work: Path, addresses: dict[str, str]) -> None:
    image = next(iter(sorted((work / "held_out").glob("*.png"))))
    say("Try it")
    print(f"  curl {addresses['inference']}/predictions/digits -T {shown(image)}")
    print(f"  curl {addresses['inference']}/ping")
    print(f"  curl {addresses['management']}/models/digits")
    print(f"  curl -X PUT '{addresses['management']}/models/digits?min_worker=2'")
    print(f"  curl {addresses['metrics']}/metrics")


def drawing(path: Path) -> str:
    from PIL import Image

    with Image.open(path) as image:
        grey = image.convert("L").resize((8, 8))
        values = list(grey.tobytes())
    rows = [values[start : start + 8] for start in range(0, 64, 8)]
    return "\n".join("    " + "".join(SHADES[v * 9 // 255] * 2 for v in row) for row in rows)


def progress(done: int, total: int, text: str) -> None:
    """A bar on a terminal, a line now and then elsewhere."""
    if sys.stdout.isatty():
        bar = "█" * round(30 * done / total)
        end = "\n" if done == total else ""
        print(f"\r  {bar:30} {done}/{total} {text}\x1b[K", end=end, flush=True)
    elif done == total or done % max(1, total // 5) < total / 100:
        print(f"  {done}/{total} {text}", flush=True)


def say(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


# --- small things ---------------------------------------------------------------------------------


def run(module: str, *arguments: str) -> None:
    """One of our commands, shown as a user would type it."""
    text = " ".join([module, *arguments])
    line = textwrap.fill(text, 90, break_long_words=False, break_on_hyphens=False)
    with contextlib.suppress(BrokenPipeError):  # the server is stopped even if nobody reads on
        print("  $ " + line.replace("\n", " \\\n      "), flush=True)
    name = {"archiver": "marserve_archiver"}.get(module, module)
    done = subprocess.run([sys.executable, "-m", name, *arguments], check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)


def marserve(config: Path, command: str, *arguments: str) -> None:
    run("marserve", command, "--config", shown(config), *arguments)


def shown(path: Path) -> str:
    """The path as somebody in this directory would write it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def is_free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


if __name__ == "__main__":
    sys.exit(main())
