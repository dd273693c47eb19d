"""The metrics port over real sockets."""

import gzip
import http.client
import json
import queue
import socket
import threading

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, UnknownMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from tests.harness.answers import told

from marserve.events import Bus
from marserve.observe.metrics import Metrics
from marserve.servers import metrics as metrics_port
from marserve.servers.wsgi import WsgiServer


class Fixed:
    """A gauge, a histogram, and a gauge that is registered under no name beforehand."""

    def collect(self):
        gauge = GaugeMetricFamily("g", "A gauge.", labels=("a",))
        gauge.add_metric(("1",), 1.0)
        gauge.add_metric(("2",), 2.0)
        yield gauge
        histogram = HistogramMetricFamily("h", "A histogram.")
        histogram.add_metric((), [("1.0", 1), ("+Inf", 2)], 3.5)
        yield histogram
        yield UnknownMetricFamily("Requests2XX", "Answers.", 7)


class Port:
    def __init__(self, registry):
        sock = socket.create_server(("127.0.0.1", 0))
        self.address = sock.getsockname()
        self.events = queue.Queue()
        app = metrics_port.create_app(registry, self.events.put, "1.2.3")
        self.server = WsgiServer(app, sock, 4, "metrics", self.events.put)
        self.server.start()

    def ask(self, method, target, headers=None):
        connection = http.client.HTTPConnection(*self.address, timeout=10)
        try:
            connection.request(method, target, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()


@pytest.fixture
def open_port():
    ports = []

    def start(collector):
        registry = CollectorRegistry()
        registry.register(collector)
        ports.append(Port(registry))
        return ports[-1]

    yield start
    for port in ports:
        port.server.stop(5)


G = '# HELP g A gauge.\n# TYPE g gauge\ng{a="1"} 1.0\ng{a="2"} 2.0\n'
H_HEAD = "# HELP h A histogram.\n# TYPE h histogram\n"
H = H_HEAD + 'h_bucket{le="1.0"} 1.0\nh_bucket{le="+Inf"} 2.0\nh_count 2.0\nh_sum 3.5\n'
R = "# HELP Requests2XX Answers.\n# TYPE Requests2XX untyped\nRequests2XX 7.0\n"


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("/metrics", G + H + R),
        ("/metrics/", G + H + R),
        ("/metrics/more/of/it", G + H + R),
        ("/metrics?other=1", G + H + R),
        ("/metrics?name[]=g", G),
        ("/metrics?name%5B%5D=g", G),
        ("/metrics?name[]=g&name[]=Requests2XX", G + R),
        ("/metrics?name[]=h", H),
        ("/metrics?name[]=h_count", H_HEAD + "h_count 2.0\n"),
        ("/metrics?name[]=h_count&name[]=h_sum", H_HEAD + "h_count 2.0\nh_sum 3.5\n"),
        ("/metrics?name[]=none", ""),
    ],
)
def test_a_scrape_shows_all_or_what_is_named(open_port, target, text):
    port = open_port(Fixed())
    status, headers, body = port.ask("GET", target)
    assert (status, body.decode()) == (200, text)
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert headers["content-length"] == str(len(body))
    event = port.events.get(timeout=5)
    assert (event.port, event.status, "?" in event.path) == ("metrics", 200, False)


@pytest.mark.parametrize(
    ("method", "target", "status", "kind"),
    [
        ("GET", "/", 405, "MethodNotAllowedException"),
        ("GET", "/metricsx", 404, "ResourceNotFoundException"),
        ("GET", "/models", 404, "ResourceNotFoundException"),
        ("POST", "/metrics", 405, "MethodNotAllowedException"),
        ("DELETE", "/metrics/x", 405, "MethodNotAllowedException"),
    ],
)
def test_other_paths_and_methods_are_refused_in_torchserves_form(
    open_port, method, target, status, kind
):
    port = open_port(Fixed())
    got, headers, body = port.ask(method, target)
    assert (got, json.loads(body)["type"]) == (status, kind)
    assert headers["content-type"] == "application/json"
    assert headers["Pragma"] == "no-cache"
    assert port.events.get(timeout=5).status == status


def test_head_has_the_headers_of_get_and_no_body(open_port):
    port = open_port(Fixed())
    _, expected, _ = port.ask("GET", "/metrics")
    status, headers, body = port.ask("HEAD", "/metrics")
    assert (status, body) == (200, b"")
    assert headers["content-length"] == expected["content-length"]
    assert headers["content-type"] == expected["content-type"]


def test_a_scraper_that_takes_gzip_gets_it(open_port):
    port = open_port(Fixed())
    _, headers, body = port.ask("GET", "/metrics", {"Accept-Encoding": "gzip"})
    assert headers["content-encoding"] == "gzip"
    assert gzip.decompress(body).decode() == G + H + R


@pytest.mark.parametrize(
    "accept",
    [
        "text/plain",
        "text/plain;version=1.0.0;escaping=allow-utf-8",
        "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    ],
)
def test_every_scraper_gets_the_text_format_with_torchserves_types(accept):
    bus = Bus()
    metrics = Metrics(bus, "box")
    bus.publish(told("m", None, 200, 0.01, "POST", "/predictions/m", "127.0.0.1:1"))
    port = Port(metrics.registry)
    try:
        status, headers, body = port.ask("GET", "/metrics", {"Accept": accept})
    finally:
        port.server.stop(5)
    assert status == 200
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name: family for family in text_string_to_metric_families(body.decode())}
    assert families["Requests2XX"].type == "counter"
    assert families["Requests2XX"].samples[0].value == 1
    assert families["ts_inference_requests"].samples[0].name == "ts_inference_requests_total"


def test_a_counter_that_is_picked_stays_a_counter():
    port = Port(Metrics(Bus(), "box").registry)
    try:
        _, _, body = port.ask("GET", "/metrics?name[]=Requests2XX")
    finally:
        port.server.stop(5)
    assert body.decode() == (
        "# HELP Requests2XX Torchserve prometheus counter metric with unit: Count\n"
        "# TYPE Requests2XX counter\n"
        'Requests2XX{Hostname="box",Level="Host"} 0.0\n'
    )


def test_a_second_scrape_waits_its_turn_and_then_is_told_to_come_back(open_port, monkeypatch):
    monkeypatch.setattr(metrics_port, "WAIT_S", 0.1)
    entered, go_on = threading.Event(), threading.Event()

    class Slow:
        def collect(self):
            entered.set()
            assert go_on.wait(10)
            return []

    port = open_port(Slow())
    first = queue.Queue()
    scraper = threading.Thread(target=lambda: first.put(port.ask("GET", "/metrics")[0]))
    scraper.start()
    assert entered.wait(10)
    status, headers, body = port.ask("GET", "/metrics")
    assert (status, json.loads(body)["type"]) == (503, "ServiceUnavailableException")
    assert headers["Retry-After"] == "1"
    go_on.set()
    scraper.join(10)
    assert first.get_nowait() == 200
    assert port.ask("GET", "/metrics")[0] == 200


def test_a_collector_that_fails_is_an_incident_and_the_next_scrape_runs(open_port, caplog):
    class Broken:
        is_broken = True

        def collect(self):
            if self.is_broken:
                raise ZeroDivisionError("secret")
            return []

    broken = Broken()
    port = open_port(broken)
    status, _, body = port.ask("GET", "/metrics")
    assert (status, json.loads(body)["type"], b"secret" in body) == (
        500,
        "InternalServerException",
        False,
    )
    assert "secret" in caplog.text
    broken.is_broken = False
    assert port.ask("GET", "/metrics")[0] == 200


def test_a_client_that_never_reads_does_not_keep_others_from_scraping(open_port):
    class Large:
        def collect(self):
            family = GaugeMetricFamily("g", "A gauge.", labels=("a",))
            for number in range(30_000):
                family.add_metric((f"{number:0100}",), number)
            return [family]

    port = open_port(Large())
    idle = []
    try:
        for _ in range(6):  # more than there are threads
            connection = socket.create_connection(port.address, timeout=10)
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
            idle.append(connection)
        for _ in idle:
            assert port.events.get(timeout=20).status == 200
        status, _, body = port.ask("GET", "/metrics")
        assert (status, body.count(b"\n")) == (200, 30_002)
    finally:
        for connection in idle:
            connection.close()


@pytest.mark.parametrize(("method", "target"), [("OPTIONS", "/"), ("GET", "/api-description")])
def test_the_port_describes_itself(open_port, method, target):
    status, headers, body = open_port(Fixed()).ask(method, target)

    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert "/metrics" in json.loads(body)["paths"]
