"""The metrics port and the metrics logs say what TorchServe's say."""

from __future__ import annotations

import re
import time
from functools import partial

import pytest
from contract import Case, Differs, table
from prometheus_client.parser import text_string_to_metric_families

PORT = partial(Case, port="metrics")
TEXT = {"content-type": "text/plain; version=0.0.4; charset=utf-8"}

SHIPPED = """
dimensions:
  - &level "Level"
  - &hostname "Hostname"
ts_metrics:
  counter:
    - {name: Requests2XX, unit: Count, dimensions: [*level, *hostname]}
    - {name: Requests4XX, unit: Count, dimensions: [*level, *hostname]}
    - {name: Requests5XX, unit: Count, dimensions: [*level, *hostname]}
    - {name: ts_inference_requests_total, unit: Count,
       dimensions: [model_name, model_version, hostname]}
    - {name: ts_inference_latency_microseconds, unit: Microseconds,
       dimensions: [model_name, model_version, hostname]}
    - {name: ts_queue_latency_microseconds, unit: Microseconds,
       dimensions: [model_name, model_version, hostname]}
  gauge:
    - {name: QueueTime, unit: Millis, dimensions: [Floor, Box]}
    - {name: WorkerLoadTime, unit: Milliseconds, dimensions: [WorkerName, *level, *hostname]}
    - {name: MemoryUsed, unit: Megabytes, dimensions: [*level, *hostname]}
  histogram:
    - {name: WorkerThreadTime, unit: Milliseconds, dimensions: [*level, *hostname]}
model_metrics:
  gauge:
    - {name: HandlerTime, unit: ms, dimensions: [ModelName, *level]}
    - {name: Listed, unit: Things, dimensions: [Phase, Model, Lev]}
  histogram:
    - {name: Spread, unit: ms, dimensions: [ModelName, *level]}
"""


@pytest.fixture(scope="module")
def start(make_target):
    """Starts a server with metrics.yaml and a model that was asked three times."""

    def start(mode, **settings):
        target = make_target()
        config = target.root / "metrics.yaml"
        config.write_text(SHIPPED)
        target.pack("m", "measures.py")
        target.start(
            **{
                "load_models": "m.mar",
                "metrics_mode": mode,
                "metrics_config": config,
                "model_metrics_auto_detect": "true",
                "disable_system_metrics": "false",
                "metric_time_interval": 1,
            }
            | settings
        )
        for path in ("m", "m", "m/1.0", "ghost"):
            target.call(Case(f"POST /predictions/{path}", 200, sent=b"x"))
        return target

    return start


@pytest.fixture(scope="module")
def served(start):
    target = start("prometheus")
    # the figures of the machine come when they come; those of the last batch after its answer
    target.wait_until(lambda: families(target)["MemoryUsed"].samples)
    target.wait_until(lambda: families(target)["Printed"].samples)
    return target


@pytest.fixture(scope="module")
def strict(start):
    target = start("prometheus", model_metrics_auto_detect="false")
    target.wait_until(lambda: families(target)["Spread"].samples)
    return target


@pytest.fixture(scope="module")
def logging_(start):
    target = start("log")
    wait_for_lines(target)
    return target


@pytest.fixture(scope="module")
def legacy(start):
    target = start("legacy")
    wait_for_lines(target)
    return target


def families(target, query=""):
    text = target.call(f"GET /metrics{query}", "metrics").body.decode()
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    found = dict(zip(names, text_string_to_metric_families(text), strict=True))
    for name, family in found.items():
        if family.type == "counter":  # the parser names them as OpenMetrics would
            family.samples = [sample._replace(name=name) for sample in family.samples]
    return found


def lines(target, name):
    return (target.root / "logs" / f"{name}.log").read_text().splitlines()


def wait_for_lines(target):
    def are_there():
        return (
            any("Printed" in line for line in lines(target, "model_metrics"))
            and any("MemoryUsed" in line for line in lines(target, "ts_metrics"))
            and any("Requests4XX" in line for line in lines(target, "ts_metrics"))
            and any("m/1.0" in line for line in lines(target, "access_log"))
        )

    target.wait_until(are_there)


@table(
    PORT("GET /metrics", 200, headers=TEXT),
    PORT("GET /metrics/and/more", 200, headers=TEXT),
    PORT("GET /metrics?other=1", 200, headers=TEXT),
    PORT(
        "GET /metrics",
        200,
        headers=TEXT,
        sent_headers={"Accept": "application/openmetrics-text; version=1.0.0"},
        title="GET /metrics with an Accept header",
    ),
    PORT("GET /metrics?name[]=no_such", 200, "", headers=TEXT),
    PORT(
        "POST /metrics",
        405,
        differs=Differs("only GET and HEAD can ask for metrics without a surprise", status=200),
    ),
    PORT(
        "GET /metrics?name[]=Spread",
        200,
        re.compile(r"# HELP Spread .*Spread_count\S* 3\.0\n.*", re.DOTALL),
        differs=Differs(
            "a histogram can be picked by its own name, too",
            body="",
            told=("all its samples", "nothing"),
        ),
    ),
    PORT(
        "GET /metrics?name[]=QueueTime",
        200,
        re.compile(
            r"# HELP QueueTime Torchserve prometheus gauge metric with unit: Millis\n"
            r"# TYPE QueueTime gauge\n"
            r'QueueTime\{Box="[^"]+",Floor="Host"\} \S+\n'
        ),
        differs=Differs(
            "the library sorts labels by name; their order means nothing to a scraper",
            told=("labels in the order of their names", "in the order of metrics.yaml"),
            body=re.compile(
                r"# HELP QueueTime Torchserve prometheus gauge metric with unit: Millis\n"
                r"# TYPE QueueTime gauge\n"
                r'QueueTime\{Floor="Host",Box="[^"]+",\} \S+\n'
            ),
        ),
    ),
)
def test_the_port_answers_as_torchserves_does(served, case):
    served.check(case)


HOST = {"Level": "Host", "Hostname": ...}
REQUEST = {"model_name": "m", "hostname": ...}
MODEL = {"ModelName": "m", "Level": "Model", "Hostname": ...}


@pytest.mark.parametrize(
    ("name", "kind", "unit", "labels"),
    [
        ("Requests2XX", "counter", "Count", HOST),
        ("Requests4XX", "counter", "Count", HOST),
        ("ts_inference_requests_total", "counter", "Count", REQUEST),
        ("ts_inference_latency_microseconds", "counter", "Microseconds", REQUEST),
        ("ts_queue_latency_microseconds", "counter", "Microseconds", REQUEST),
        ("QueueTime", "gauge", "Millis", {"Floor": "Host", "Box": ...}),
        ("WorkerThreadTime", "histogram", "Milliseconds", HOST),
        (
            "WorkerLoadTime",
            "gauge",
            "Milliseconds",
            {"WorkerName": "W-9000-m_1.0", "Level": "Host", "Hostname": ...},
        ),
        ("MemoryUsed", "gauge", "Megabytes", HOST),
        ("HandlerTime", "gauge", "ms", MODEL),
        ("PredictionTime", "gauge", "Milliseconds", MODEL),
        ("Spread", "histogram", "ms", MODEL),
        (
            "Listed",
            "gauge",
            "Things",
            {"Phase": "a", "Model": "m", "Lev": "Model", "Hostname": ...},
        ),
        ("Hits", "counter", "Count", MODEL),
        ("StageTime", "gauge", "Seconds", MODEL),
        ("Printed", "gauge", "Count", {"A": "b", "Hostname": ...}),
    ],
)
def test_a_family_has_its_type_its_help_and_its_labels(served, name, kind, unit, labels):
    family = families(served)[name]
    assert family.type == kind
    assert family.documentation == f"Torchserve prometheus {kind} metric with unit: {unit}"
    assert family.samples != []
    for sample in family.samples:
        named = {k: v for k, v in sample.labels.items() if k not in ("le", "model_version")}
        assert set(named) == set(labels)
        assert labels.items() <= {**named, **dict.fromkeys(_any(labels), ...)}.items()


def _any(labels):
    return [name for name, value in labels.items() if value is ...]


@pytest.mark.parametrize(
    ("sample", "labels", "value"),
    [
        ("ts_inference_requests_total", {"model_version": "default"}, 2),
        ("ts_inference_requests_total", {"model_version": "1.0"}, 1),
        ("ts_inference_requests_total", {"model_name": "ghost"}, None),
        ("Hits", {}, 6),
        ("Spread_bucket", {"le": "0.25"}, 0),
        ("Spread_bucket", {"le": "0.5"}, 3),
        ("Spread_bucket", {"le": "10.0"}, 3),
        ("Spread_bucket", {"le": "+Inf"}, 3),
        ("Spread_sum", {}, pytest.approx(0.9)),
        ("Listed", {}, 4),
        ("StageTime", {}, 3.5),
        ("HandlerTime", {}, 1.5),
        ("Printed", {}, 5),
    ],
)
def test_figures_add_up(served, sample, labels, value):
    found = [
        one.value
        for family in families(served).values()
        for one in family.samples
        if one.name == sample and labels.items() <= one.labels.items()
    ]
    assert found == ([] if value is None else [value])


def test_histograms_end_where_torchserves_do(served):
    samples = families(served)["Spread"].samples
    bounds = [one.labels["le"] for one in samples if one.name == "Spread_bucket"]
    ends = (
        *("0.005", "0.01", "0.025", "0.05", "0.075", "0.1", "0.25", "0.5", "0.75"),
        *("1.0", "2.5", "5.0", "7.5", "10.0", "+Inf"),
    )
    assert tuple(bounds) == ends


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("name[]=Hits", {"Hits": ["Hits"]}),
        ("name%5B%5D=Hits", {"Hits": ["Hits"]}),
        ("name[]=Spread_count", {"Spread": ["Spread_count"]}),
        (
            "name[]=Spread_sum&name[]=Requests2XX",
            {"Spread": ["Spread_sum"], "Requests2XX": ["Requests2XX"]},
        ),
        ("name[]=Hits&name[]=no_such", {"Hits": ["Hits"]}),
    ],
)
def test_samples_are_picked_by_name(served, query, expected):
    found = families(served, f"?{query}")
    assert {k: [one.name for one in v.samples] for k, v in found.items()} == expected


def test_only_what_is_listed_is_shown(strict):
    found = families(strict)
    assert {"Spread", "Listed", "HandlerTime", "Requests2XX"} <= set(found)
    gone = {"Hits", "StageTime", "Printed", "PredictionTime", "MemoryAvailable"}
    assert gone.isdisjoint(found)


def test_the_mode_prometheus_leaves_the_metrics_logs_empty(served):
    assert lines(served, "ts_metrics") == lines(served, "model_metrics") == []


def test_the_mode_log_shows_nothing(logging_):
    logging_.check(PORT("GET /metrics", 200, "", headers=TEXT))


LATENCY = "ts_inference_latency_microseconds"
THREE = {"ts_inference_requests_total", LATENCY, "ts_queue_latency_microseconds"}


def test_the_mode_legacy_shows_three_and_logs_the_others(legacy):
    assert set(families(legacy)) == THREE
    logged = {line.split(" - ")[1].partition(".")[0] for line in lines(legacy, "ts_metrics")}
    assert logged == {
        *("Requests2XX", "Requests4XX", "QueueTime", "WorkerThreadTime", "WorkerLoadTime"),
        "MemoryUsed",
    }


STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d,\d{3}"
FIGURE = r"\d+(\.\d+)?(E-?\d+|e-?\d+)?"
END = r"\|#hostname:[^,|]+,timestamp:\d{10}"


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("ts_metrics", rf"Requests2XX\.Count:1\.0\|#Level:Host{END}"),
        (
            "ts_metrics",
            rf"ts_inference_requests_total\.Count:1\.0\|#model_name:m,model_version:default{END}",
        ),
        ("ts_metrics", rf"{LATENCY}\.Microseconds:{FIGURE}\|#model_name:m,model_version:1\.0{END}"),
        ("ts_metrics", rf"QueueTime\.Millis:{FIGURE}\|#Floor:Host{END}"),
        ("ts_metrics", rf"WorkerThreadTime\.Milliseconds:{FIGURE}\|#Level:Host{END}"),
        (
            "ts_metrics",
            rf"WorkerLoadTime\.Milliseconds:{FIGURE}\|#WorkerName:W-9000-m_1\.0,Level:Host{END}",
        ),
        ("ts_metrics", rf"MemoryUsed\.Megabytes:{FIGURE}\|#Level:Host{END}"),
    ],
)
def test_the_mode_log_writes_the_servers_figures(logging_, file, pattern):
    assert [line for line in lines(logging_, file) if re.fullmatch(f"{STAMP} - {pattern}", line)]


@pytest.mark.parametrize(
    ("start_of_line", "labels"),
    [
        (r"Hits\.Count:2\.0", "ModelName:m,Level:Model"),
        (r"StageTime\.Seconds:3\.5", "ModelName:m,Level:Model"),
        (r"Spread\.ms:0\.3", "ModelName:m,Level:Model"),
        (r"Listed\.Things:4\.0", "Phase:a,Model:m,Lev:Model"),
        (r"HandlerTime\.ms:1\.5", "ModelName:m,Level:Model"),
        (rf"PredictionTime\.Milliseconds:{FIGURE}", "ModelName:m,Level:Model"),
    ],
)
def test_the_mode_log_writes_the_figures_of_handlers(logging_, start_of_line, labels):
    identity = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    pattern = (
        rf"{STAMP} - {start_of_line}\|#{labels}\|#hostname:[^,|]+,requestID:{identity},"
        r"timestamp:\d{10}"
    )
    found = [line for line in lines(logging_, "model_metrics") if re.fullmatch(pattern, line)]
    assert len(found) == 3


def test_a_printed_metric_is_logged_with_its_own_request(logging_):
    pattern = (
        rf"{STAMP} - Printed\.Count:5\.0\|#A:b\|#hostname:[^,|]+,requestID:r1,timestamp:\d{{10}}"
    )
    found = [line for line in lines(logging_, "model_metrics") if re.fullmatch(pattern, line)]
    assert len(found) == 3
    assert not any("[METRICS]" in line for line in lines(logging_, "model_log"))


# --- the other logs ---


def test_every_answer_is_in_the_access_log(served):
    pattern = rf'{STAMP} - /127\.0\.0\.1:\d+ "POST /predictions/m HTTP/1\.1" 200 \d+'
    deadline = time.monotonic() + 10
    found = []
    while len(found) < 2 and time.monotonic() < deadline:
        found = [line for line in lines(served, "access_log") if re.fullmatch(pattern, line)]
    assert len(found) == 2


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("model_log", r"\[INFO \] W-9000-m_1\.0-stdout \S+ - a line on stdout"),
        ("model_log", r"\[WARN \] W-9000-m_1\.0-stderr \S+ - a line on stderr"),
        (
            "ts_log",
            r"\[(INFO |DEBUG)\] W-9000-m_1\.0 \S+ - "
            r"W-9000-m_1\.0 State change null -> WORKER_STARTED",
        ),
        (
            "ts_log",
            r"\[(INFO |DEBUG)\] W-9000-m_1\.0 \S+ - "
            r"W-9000-m_1\.0 State change WORKER_STARTED -> WORKER_MODEL_LOADED",
        ),
    ],
)
def test_logs_have_torchserves_form(served, file, pattern):
    assert [line for line in lines(served, file) if re.fullmatch(f"{STAMP} {pattern}", line)]


def test_all_five_files_are_there(served):
    assert {path.name for path in (served.root / "logs").glob("*.log")} >= {
        *("access_log.log", "model_log.log", "ts_log.log"),
        *("ts_metrics.log", "model_metrics.log"),
    }
