"""SEC-25: no stranger makes series, by names of models or by what a handler reports or prints.

A handler's own metrics have an allowance; what goes beyond is dropped and counted.
"""

from __future__ import annotations

import random

import pytest
from running_server import Server
from tests.harness.answers import told

from marserve.events import Bus, GrpcAnswered, GrpcCallsAnswered, HandlerMetric, Origin
from marserve.observe.handler_metrics import MAX_LINES, MAX_LINES_PER_MODEL
from marserve.observe.metrics import Metrics
from marserve.observe.printed_metrics import parse
from marserve.refs import ModelRef


def samples(server: Server) -> list[str]:
    return server.call("GET", "metrics", "/metrics").body.decode().splitlines()


def shown(metrics: Metrics) -> list[str]:
    """The samples of a registry, without printing them."""
    return [f"{s.name}{s.labels}" for family in metrics.registry.collect() for s in family.samples]


def test_names_that_clients_invent_make_no_series(open_server):
    open_server.predict("no-such-model")  # the series that all strangers share
    open_server.call("POST", "inference", "/predictions/echo/9.9", b"x")
    open_server.call("GET", "inference", "/nowhere")
    before = {line.rpartition(" ")[0] for line in samples(open_server)}
    dice = random.Random(1)
    with open_server.raw() as sock:
        for number in range(300):
            name = f"m{dice.getrandbits(64):x}"
            target = (f"/predictions/{name}", f"/predictions/echo/{name}", f"/{name}")[number % 3]
            assert open_server.call("POST", "inference", target, b"x").status == 404
        sock.close()
    after = {line.rpartition(" ")[0] for line in samples(open_server)}
    assert after == before


def test_a_hundred_thousand_names_make_no_series_and_take_no_memory():
    bus = Bus()
    metrics = Metrics(bus, "box")
    bus.publish(told("stranger", None, 404, 0.1, "POST", "/predictions/stranger", "127.0.0.1:1"))
    bus.publish(told("stranger", None, 503, 0.1, "POST", "/predictions/stranger", "127.0.0.1:1"))
    before = len(shown(metrics))
    for number in range(100_000):
        path = f"/predictions/m{number}"
        bus.publish(told(f"m{number}", None, 404, 0.1, "POST", path, "127.0.0.1:1"))
    for number in range(1_000):
        origin = Origin("gRPC", f"a.B/{number}", "127.0.0.1:1")
        bus.publish(GrpcCallsAnswered([GrpcAnswered(origin, 12, 0.1)]))
        bus.publish(GrpcCallsAnswered([GrpcAnswered(origin, 16, 0.1)]))
    assert len(shown(metrics)) < before + 110 * 22  # gRPC methods: a hundred, and one for the rest


@pytest.mark.parametrize("kind", ["counter", "gauge", "histogram"])
def test_a_handlers_series_are_a_thousand_and_ten_thousand_in_all(kind):
    bus = Bus()
    metrics = Metrics(bus, "box")
    for model in range(15):
        ref = ModelRef(f"m{model}", "1.0")
        for number in range(2_000):
            dimensions = {"Model": ref.name, "Value": f"v{number}"}
            bus.publish(HandlerMetric(ref, "Strange", 1.0, "count", kind, dimensions))
    lines = [line for line in shown(metrics) if line.startswith("Strange")]
    assert len(lines) <= MAX_LINES
    assert len([line for line in lines if "'m0'" in line]) <= MAX_LINES_PER_MODEL
    assert any(line.startswith("marserve_handler_metrics_dropped_total") for line in shown(metrics))


def test_a_handler_that_reports_without_end_is_bounded_and_told_of(open_server):
    assert open_server.predict("hostile", b"series 0 1500").status == 200
    dropped = (
        'marserve_handler_metrics_dropped_total{model_name="hostile",reason="too_many_series"}'
    )
    open_server.wait_until(lambda: open_server.metrics().get(dropped, 0) > 0)
    text = samples(open_server)
    assert sum(line.startswith("Strange{") for line in text) <= MAX_LINES_PER_MODEL
    size_bytes = sum(map(len, text))
    assert open_server.predict("hostile", b"series 5000 5000").status == 200
    open_server.wait_until(lambda: open_server.metrics()[dropped] > 5000)
    grown = sum(map(len, samples(open_server))) - size_bytes
    assert grown < 0.01 * size_bytes


FORGED = (
    "[METRICS]Requests2XX.Count:999|#Level:Host|#type:COUNTER|#hostname:box,1714550400",
    "[METRICS]ts_inference_requests_total.Count:999|#model_name:echo|#type:COUNTER|#hostname:b,1",
    "[METRICS]marserve_requests_total.Count:999|#code:200|#type:COUNTER|#hostname:box,1714550400",
    "[METRICS]process_cpu_seconds_total.Count:999|#a:b|#type:COUNTER|#hostname:box,1714550400",
)


def test_a_print_cannot_forge_a_figure_of_the_server(open_server):
    """Handlers may report by printing, as with TorchServe; the server's names are its own."""
    before = open_server.metrics()
    for line in FORGED:
        assert parse(line, ModelRef("hostile", "1.0")) is not None  # it is well-formed
        assert (
            open_server.predict("hostile", b"print " + line.encode().hex().encode()).status == 200
        )
    conflict = 'marserve_handler_metrics_dropped_total{model_name="hostile",reason="conflict"}'
    open_server.wait_until(lambda: open_server.metrics().get(conflict, 0) >= len(FORGED))
    after = open_server.metrics()
    assert 999 not in {value - before.get(name, 0) for name, value in after.items()}
    assert not any(value == 999 for value in after.values())


def test_whatever_is_printed_behind_the_mark_is_a_figure_or_a_line_of_the_log(open_server):
    dice = random.Random(2)
    for _ in range(30):
        line = b"[METRICS]" + dice.randbytes(30).replace(b"\n", b"") + b"|#:,=\xff"
        assert open_server.predict("hostile", b"print " + line.hex().encode()).status == 200
    assert open_server.call("GET", "metrics", "/metrics").status == 200
