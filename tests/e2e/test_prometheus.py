"""A real Prometheus scrapes the server, and dashboards' queries get their answers.

`scripts/prometheus` finds the program, or fetches it into a cache folder.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from running_server import DEADLINE_S

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "examples" / "grafana" / "marserve.json"


class Prometheus:
    """One Prometheus process that scrapes one address every second."""

    def __init__(self, program: str, folder: Path, target: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        config = {
            "global": {"scrape_interval": "250ms", "scrape_timeout": "250ms"},
            "scrape_configs": [{"job_name": "marserve", "static_configs": [{"targets": [target]}]}],
        }
        path = folder / "prometheus.yml"
        path.write_text(json.dumps(config))  # YAML takes JSON
        self._log = folder / "prometheus.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    program,
                    f"--config.file={path}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
            )

    def ask(self, path, **parameters):
        """The `data` of an answer of its API; None while it is not up."""
        assert self._process.poll() is None, self._log.read_text()
        url = f"http://127.0.0.1:{self._port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if error.code == 503:  # it is still starting
                return None
            raise AssertionError(f"{path} {parameters}: {error.read()!r}") from error
        except urllib.error.URLError as error:
            if isinstance(error.reason, ConnectionRefusedError):
                return None
            raise

    def query(self, expression):
        """The rows of an instant query: labels and value."""
        data = self.ask("query", query=expression)
        rows = data["result"] if data else []
        return [(row["metric"], float(row["value"][1])) for row in rows]

    def stop(self):
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(DEADLINE_S)


@pytest.fixture(scope="module")
def prometheus(shared_server, tmp_path_factory):
    found = subprocess.run(
        [ROOT / "scripts" / "prometheus"], stdout=subprocess.PIPE, text=True, timeout=100
    )
    assert found.returncode == 0, "see above why there is no Prometheus"
    program = found.stdout.strip()
    shared_server.pack("m", "measures.py")
    shared_server.start(load_models="m.mar", disable_system_metrics="false")
    host, port = shared_server.address("metrics")
    one = Prometheus(program, tmp_path_factory.mktemp("prometheus"), f"{host}:{port}")
    try:
        for _ in range(5):
            assert shared_server.predict("m").status == 200
        shared_server.wait_until(lambda: one.query("Hits == 10"))
        yield one
    finally:
        one.stop()


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("up", 1),
        ("ts_inference_requests_total", 5),
        ('ts_inference_requests_total{model_name="m",model_version="default"}', 5),
        ("HandlerTime", 1.5),
        ("Hits", 10),
        ("Spread_count", 5),
        ('Spread_bucket{le="0.5"}', 5),
        ("histogram_quantile(0.5, Spread_bucket)", pytest.approx(0.375)),
        ('sum(marserve_workers{state="ready"})', 1),
        ('marserve_requests_total{code="200"}', 5),
        ("count(Requests2XX >= 5)", 1),
        ("count(ts_inference_latency_microseconds > 0)", 1),
        ("count(MemoryUsed > 0)", 1),
        ("count(PredictionTime > 0)", 1),
    ],
)
def test_queries_of_dashboards_are_answered(prometheus, query, value):
    assert [found for _, found in prometheus.query(query)] == [value]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Requests2XX", "counter"),
        ("ts_inference_latency_microseconds", "counter"),
        ("Hits", "counter"),
        ("QueueTime", "gauge"),
        ("Spread", "histogram"),
        ("marserve_requests_total", "counter"),
    ],
)
def test_it_knows_the_type_of_each_metric(prometheus, name, kind):
    [told] = prometheus.ask("metadata", metric=name)[name]
    assert told["type"] == kind


def test_every_query_of_the_example_dashboard_is_valid_and_names_metrics_that_exist(prometheus):
    panels = json.loads(DASHBOARD.read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    assert len(queries) > 10
    known = set(prometheus.ask("metadata"))
    for query in queries:
        prometheus.ask("query", query=query.replace("$__rate_interval", "1m"))
        named = {word for word in _words(query) if word in known}
        assert named, query


def _words(query):
    for end in ("_bucket", "_count", "_sum"):
        query = query.replace(f"{end}[", "[").replace(f"{end}{{", "{")
    return "".join(c if c.isalnum() or c == "_" else " " for c in query).split()
