"""Events add up to TorchServe's metrics and to ours."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families as parse_text
from tests.harness.answers import called, told

from marserve.events import (
    BatchAnswered,
    Bus,
    HandlerMetric,
    HttpAnswered,
    QueueChanged,
    RequestRefused,
    VersionGone,
    WorkerExited,
    WorkerReady,
    WorkersChanged,
)
from marserve.observe import metrics_config
from marserve.observe.metrics import Metrics
from marserve.observe.system import SystemCollector
from marserve.refs import ModelRef

REF = ModelRef("m", "1.0")
HOST = {"Level": "Host", "Hostname": "box"}
DEFAULT = {"model_name": "m", "model_version": "default"}
VERSION = {"model_name": "m", "model_version": "1.0"}


def answered(name="m", version=None, status=200, latency_s=0.01, method="POST"):
    path = f"/predictions/{name}"
    return told(name, version, status, latency_s, method, path, "127.0.0.1:1")


def grpc(path, code):
    return called(path, "127.0.0.1:1", code, 0.01)


def http(status):
    return HttpAnswered("management", "GET", "/models", "127.0.0.1:1", status, 0.001)


def reported(name, value, kind="gauge", ref=REF, **dimensions):
    return HandlerMetric(ref, name, value, "ms", kind, dimensions)


BATCH = BatchAnswered(REF, 2, (0.002, 0.004), handler_s=0.010, worker_s=0.013)
READY = WorkerReady(REF, "9000", 7, 1.5)


class Watched:
    def __init__(self, config=None):
        self.bus = Bus()
        self.metrics = Metrics(self.bus, "box", config)

    def after(self, *events):
        for event in events:
            self.bus.publish(event)
        return self

    def value(self, name, labels):
        return self.metrics.registry.get_sample_value(name, labels)

    def names(self, **labels):
        return {
            sample.name
            for family in self.metrics.registry.collect()
            for sample in family.samples
            if labels.items() <= sample.labels.items()
        }


@pytest.fixture
def watched():
    return Watched()


@pytest.mark.parametrize(
    ("events", "name", "labels", "value"),
    [
        ([http(200), http(204), answered()], "Requests2XX", HOST, 3),
        ([http(404), answered(status=429)], "Requests4XX", HOST, 2),
        ([http(500), http(302), answered(status=503)], "Requests5XX", HOST, 3),
        (
            [answered(), answered(status=503)],
            "ts_inference_requests_total",
            {**DEFAULT, "hostname": "box"},
            2,
        ),
        (
            [answered(version="1.0")],
            "ts_inference_requests_total",
            {**VERSION, "hostname": "box"},
            1,
        ),
        (
            [answered(latency_s=0.25), answered(latency_s=0.5)],
            "ts_inference_latency_microseconds",
            {**DEFAULT, "hostname": "box"},
            750_000,
        ),
        ([BATCH], "ts_queue_latency_microseconds", {**VERSION, "hostname": "box"}, 6_000),
        ([BATCH], "QueueTime", HOST, 4),
        ([BATCH], "WorkerThreadTime", HOST, pytest.approx(3)),
        ([READY], "WorkerLoadTime", {"WorkerName": "W-9000-m_1.0", **HOST}, 1500),
        (
            [BATCH],
            "PredictionTime",
            {"ModelName": "m", "Level": "Model", "Hostname": "box"},
            pytest.approx(10),
        ),
        (
            [BATCH, reported("HandlerTime", 8.5, ModelName="m", Level="Model")],
            "HandlerTime",
            {"ModelName": "m", "Level": "Model", "Hostname": "box"},
            8.5,
        ),
        ([answered(), answered(method="gRPC")], "Requests2XX", HOST, 1),
        (
            [answered(), answered(method="gRPC")],
            "ts_inference_requests_total",
            {**DEFAULT, "hostname": "box"},
            2,
        ),
        (
            [grpc("a.B/C", 0), grpc("a.B/C", 0), grpc("a.B/C", 5)],
            "marserve_grpc_calls_total",
            {"method": "a.B/C", "code": "OK"},
            2,
        ),
        (
            [grpc("a.B/C", 0), grpc("a.B/C", 5)],
            "marserve_grpc_call_duration_seconds_count",
            {"method": "a.B/C"},
            2,
        ),
        (
            [reported("Pixels", 3.0, ModelName="m", Level="Model")],
            "Pixels",
            {"ModelName": "m", "Level": "Model", "Hostname": "box"},
            3.0,
        ),
        ([answered(), answered()], "marserve_requests_total", {**DEFAULT, "code": "200"}, 2),
        ([answered()], "marserve_request_latency_seconds_count", DEFAULT, 1),
        (
            [answered(latency_s=0.01)],
            "marserve_request_latency_seconds_bucket",
            {**DEFAULT, "le": "0.01"},
            1,
        ),
        ([BATCH], "marserve_queue_time_seconds_count", VERSION, 2),
        ([BATCH], "marserve_handler_time_seconds_sum", VERSION, pytest.approx(0.010)),
        ([BATCH], "marserve_batch_size_bucket", {**VERSION, "le": "1.0"}, 0),
        ([BATCH], "marserve_batch_size_bucket", {**VERSION, "le": "2.0"}, 1),
        ([WorkersChanged(REF, 3, 2, 1)], "marserve_workers", {**VERSION, "state": "wanted"}, 3),
        ([WorkersChanged(REF, 3, 2, 1)], "marserve_workers", {**VERSION, "state": "alive"}, 2),
        ([WorkersChanged(REF, 3, 2, 1)], "marserve_workers", {**VERSION, "state": "ready"}, 1),
        (
            [
                WorkerExited(REF, "9000", 7, expected=False, cause="signal 9"),
                WorkerExited(REF, "9000", 8, expected=True, cause="scaled down"),
            ],
            "marserve_worker_restarts_total",
            VERSION,
            1,
        ),
        ([QueueChanged(REF, 5)], "marserve_queue_depth", VERSION, 5),
        (
            [RequestRefused("m", "queue_full")] * 2,
            "marserve_requests_refused_total",
            {"reason": "queue_full"},
            2,
        ),
    ],
)
def test_events_add_up(watched, events, name, labels, value):
    assert watched.after(*events).value(name, labels) == value


def test_torchserves_metrics_keep_names_types_and_help(watched):
    watched.after(answered(), BATCH)
    text = generate_latest(watched.metrics.registry).decode()
    for name, kind, unit in (
        ("Requests2XX", "counter", "Count"),
        ("ts_inference_requests_total", "counter", "Count"),
        ("ts_inference_latency_microseconds", "counter", "Microseconds"),
        ("QueueTime", "gauge", "Milliseconds"),
        ("HandlerTime", "gauge", "ms"),
        ("PredictionTime", "gauge", "ms"),
    ):
        words = f"Torchserve prometheus {kind} metric with unit: {unit}"
        assert f"# HELP {name} {words}\n# TYPE {name} {kind}\n" in text
    assert '\nRequests2XX{Hostname="box",Level="Host"} 1.0\n' in text


LISTED = """
ts_metrics:
  counter:
    - {name: Requests2XX, unit: Answers, dimensions: [Floor, Box]}
  histogram:
    - {name: QueueTime, unit: Millis, dimensions: [Level, Hostname]}
model_metrics:
  histogram:
    - {name: PredictionTime, unit: ms, dimensions: [Model, Level]}
"""


def test_metrics_yaml_says_what_is_shown_and_how():
    watched = Watched(metrics_config.parse(LISTED))
    watched.after(answered(), BATCH, BATCH, READY, reported("Pixels", 1.0))
    assert watched.value("Requests2XX", {"Floor": "Host", "Box": "box"}) == 1
    assert watched.value("QueueTime_sum", HOST) == 8
    assert watched.value("QueueTime_bucket", {**HOST, "le": "5.0"}) == 2
    model = {"Model": "m", "Level": "Model", "Hostname": "box"}
    assert watched.value("PredictionTime_bucket", {**model, "le": "10.0"}) == 2
    text = generate_latest(watched.metrics.registry).decode()
    assert "# HELP Requests2XX Torchserve prometheus counter metric with unit: Answers\n" in text
    own = {name for name in watched.names() if name.startswith("marserve_")}
    assert "marserve_queue_time_seconds_count" in own
    gone = {"Requests4XX", "WorkerThreadTime", "WorkerLoadTime", "Pixels"}
    assert gone.isdisjoint(watched.names())
    assert not any(name.startswith("ts_") for name in watched.names())


def test_methods_that_clients_make_up_do_not_become_labels(watched):
    watched.after(grpc("a.B/C", 0), grpc("a.B/C", 12))
    for number in range(1_000):
        watched.after(grpc(f"ghost.Ghost/{number}", 12))
    for number in range(1_000):
        watched.after(grpc(f"odd.Odd/{number}", 16))
    assert watched.value("marserve_grpc_calls_total", {"method": "a.B/C", "code": "OK"}) == 1
    ghosts = {"method": "(unknown)", "code": "UNIMPLEMENTED"}
    assert watched.value("marserve_grpc_calls_total", ghosts) == 1_000
    text = generate_latest(watched.metrics.registry).decode()
    assert "ghost" not in text
    assert text.count("marserve_grpc_call_duration_seconds_count") <= 101


def test_process_platform_and_release_are_shown(watched):
    assert {
        "process_resident_memory_bytes",
        "process_open_fds",
        "python_info",
        "marserve_build_info",
    } <= watched.names()


def test_the_machine_is_shown_where_it_is_wanted():
    assert "CPUUtilization" not in Watched().names()
    metrics = Metrics(Bus(), "box", system=SystemCollector("box"))
    assert metrics.registry.get_sample_value("MemoryUsed", HOST) > 0


def test_no_line_is_printed_twice_and_the_text_parses(watched):
    watched.after(
        answered(),
        answered(version="1.0"),
        answered("ghost", status=404),
        BATCH,
        READY,
        WorkersChanged(REF, 1, 1, 1),
        RequestRefused("m", "queue_full"),
        http(200),
        reported("Hits", 1.0, "counter", stage="a"),
        reported("Hits", 1.0, "counter", stage="b"),
        reported("Time", 1.0, "histogram"),
        reported("Time", 1.0, "histogram", ref=ModelRef("m", "2.0")),
    )
    text = generate_latest(watched.metrics.registry).decode()
    keys = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(keys) == len(set(keys))
    families = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(families) == len(set(families))
    assert len(list(parse_text(text))) == len(families)


def test_a_version_that_goes_takes_its_labels(watched):
    other = ModelRef("other", "1.0")
    watched.after(
        answered(),
        answered(version="1.0"),
        answered("other"),
        BATCH,
        READY,
        WorkersChanged(REF, 1, 1, 1),
        WorkersChanged(other, 1, 1, 1),
        reported("Pixels", 1.0, ModelName="m"),
        VersionGone(REF),
    )
    assert watched.names(model_name="m") == set()
    assert watched.names(ModelName="m") == set()
    assert watched.names(WorkerName="W-9000-m_1.0") == set()
    assert "marserve_requests_total" in watched.names(model_name="other")
    assert watched.value("Requests2XX", HOST) == 3


def test_the_default_labels_stay_while_another_version_lives(watched):
    following = ModelRef("m", "2.0")
    watched.after(answered(), answered(version="1.0"), BATCH)
    watched.after(WorkersChanged(following, 1, 1, 1), VersionGone(REF))
    assert watched.value("marserve_requests_total", {**DEFAULT, "code": "200"}) == 1
    assert watched.names(model_version="1.0") == set()


def test_a_worker_that_exits_takes_its_load_time(watched):
    watched.after(READY, WorkerExited(REF, "9000", 7, expected=True, cause="scaled down"))
    assert "WorkerLoadTime" not in watched.names()


def test_names_that_clients_make_up_do_not_become_labels(watched):
    watched.after(WorkersChanged(REF, 1, 1, 1))
    for number in range(2_000):
        watched.after(answered(f"ghost{number}", status=404), answered("m", f"v{number}", 404))
    unknown = {"model_name": "(unknown)", "model_version": "(unknown)", "code": "404"}
    assert watched.value("marserve_requests_total", unknown) == 4_000
    assert "ghost" not in generate_latest(watched.metrics.registry).decode()
    assert watched.names(model_name="m", model_version="v7") == set()
    # TorchServe's own counter does not count them
    assert "ts_inference_requests_total" not in watched.names()


def test_a_registered_models_own_404_is_its_own(watched):
    watched.after(WorkersChanged(REF, 1, 1, 1), answered(status=404), answered("m", "1.0", 404))
    assert watched.value("marserve_requests_total", {**DEFAULT, "code": "404"}) == 1
    assert watched.value("marserve_requests_total", {**VERSION, "code": "404"}) == 1


def test_a_handler_cannot_write_the_servers_own_metrics(watched):
    for name in ("Requests2XX", "marserve_workers", "ts_inference_requests_total", "MemoryUsed"):
        watched.after(reported(name, 9.0))
    dropped = {"model_name": "m", "reason": "conflict"}
    assert watched.value("marserve_handler_metrics_dropped_total", dropped) == 4
    assert watched.value("Requests2XX", HOST) == 0


def test_a_scrape_while_events_arrive_sees_whole_figures(watched):
    stop = threading.Event()

    def scrape():
        while not stop.is_set():
            text = generate_latest(watched.metrics.registry).decode()
            for family in parse_text(text):
                if family.name == "marserve_request_latency_seconds":
                    check(family)

    def check(family):
        last = {}
        for sample in family.samples:
            name = sample.labels["model_name"]
            if sample.name.endswith("_bucket"):
                assert sample.value >= last.get(name, 0)
                last[name] = sample.value
            elif sample.name.endswith("_count"):
                assert sample.value == last[name]

    with ThreadPoolExecutor(1) as pool:
        scraping = pool.submit(scrape)
        until = time.monotonic() + 1.0
        number = 0
        while time.monotonic() < until:
            number += 1
            ref = ModelRef(f"m{number % 50}", "1")
            watched.after(
                WorkersChanged(ref, 1, 1, 1),
                answered(ref.name, latency_s=number % 7 / 10),
                reported("X", 1.0, ref=ref, n=str(number % 20)),
            )
            if number % 10 == 0:
                watched.after(VersionGone(ref))
        stop.set()
        scraping.result(10)


def test_ten_thousand_lines_are_scraped_in_time(watched):
    for number in range(130):
        ref = ModelRef(f"m{number}", "1.0")
        watched.after(
            WorkersChanged(ref, 1, 1, 1),
            answered(ref.name),
            BatchAnswered(ref, 1, (0.001,), 0.01, 0.011),
        )
    durations = []
    for _ in range(5):
        started = time.perf_counter()
        text = generate_latest(watched.metrics.registry)
        durations.append(time.perf_counter() - started)
    assert text.count(b"\n") > 10_000
    assert min(durations) < 0.5  # about 0.05 s on an idle core; the bound is for busy ones
