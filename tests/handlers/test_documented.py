"""The code that docs/handlers.md shows does what it says there."""

import re
import sys
import textwrap
from pathlib import Path

import pytest

import marserve_handlers.torchserve as ts_names
from marserve_handlers import Dimension, MetricTypes
from marserve_handlers.builtin import BUILT_INS
from marserve_handlers.contract import Context
from marserve_handlers.envelopes import ENVELOPES
from marserve_handlers.testing import run_handler
from marserve_handlers.torchserve.names import MODULES

TEXT = (Path(__file__).parents[2] / "docs" / "handlers.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def names(monkeypatch):
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    before = set(sys.modules)
    ts_names.install()
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == "ts":
            del sys.modules[name]


def section(heading):
    found = re.search(rf"^## {heading}$(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found[1]


def blocks(heading):
    return re.findall(r"^```python\n(.*?)^```$", section(heading), re.MULTILINE | re.DOTALL)


def executed(code, **given):
    namespace = dict(given)
    exec(textwrap.dedent(code), namespace)
    return namespace


def texts(handler, bodies, **settings):
    return [result.text for result in run_handler(handler, bodies, **settings)]


def test_the_contract():
    class_, function = (executed(code) for code in blocks("The contract"))
    assert texts(class_["Greeter"], ["Ada", "Bob"]) == ["Hello, Ada", "Hello, Bob"]
    assert texts(function["handle"], [b"abc"]) == ["3"]


def test_streaming():
    [code] = blocks("Streaming")
    results = run_handler(executed(code)["Counts"], [b"", b""])
    assert [(one.pieces, one.text) for one in results] == [((b"0 ", b"1 ", b"2 "), "done")] * 2


def test_asynchronous_handlers():
    [code] = blocks("Asynchronous handlers")
    assert texts(executed(code)["Waits"], [b"", b""]) == [
        "1 row, request request-0",
        "1 row, request request-1",
    ]


def test_micro_batching():
    [code] = blocks("Micro-batching")
    bodies = list("abcdefg")
    in_slices = executed(code)["InSlices"]
    for yaml in ({}, {"micro_batching": {"micro_batch_size": 3, "parallelism": {"inference": 2}}}):
        assert texts(in_slices, bodies, model_yaml_config=yaml) == list("ABCDEFG")


def test_metrics():
    [code] = blocks("Metrics")
    context = Context("m", "/m", {}, 1)
    context.begin_batch(["r"], [{}])
    executed(code, context=context, Dimension=Dimension, MetricTypes=MetricTypes)
    found = [(one.name, one.value, one.unit, one.kind) for one in context.metrics.drain()]
    assert found == [
        ("ImagesSeen", 3.0, "Count", "counter"),
        ("Decode", 1.5, "Milliseconds", "gauge"),
        ("Input", 2.0, "Kilobytes", "gauge"),
        ("Fill", 80.0, "Percent", "gauge"),
        ("BadRows", 1.0, "unit", "counter"),
        ("Queue", 4.0, "Count", "gauge"),
        ("Seen", 2.0, "Count", "counter"),
        ("HandlerTime", 1.5, "Milliseconds", "gauge"),
    ]


def test_testing_a_handler():
    [code] = blocks("Testing a handler")
    greeter = executed(blocks("The contract")[0])["Greeter"]
    executed(code, Greeter=greeter)["test_greeting"]()


def test_every_built_in_handler_and_envelope_is_listed():
    listed = set(re.findall(r"`(\w+)`", section("Built-in handlers")))
    assert set(BUILT_INS) <= listed
    assert set(ENVELOPES) <= set(re.findall(r"^\| `(\w+)`", section("Envelopes"), re.MULTILINE))


def test_every_name_of_torchserve_is_listed():
    rows = section("Names of TorchServe")
    for module, members in MODULES.items():
        parts = module.split(".")
        assert module in rows or parts[-1] in rows, module
        for member in members:
            shown = member.removeprefix("MetricsCache").removesuffix("Error")
            assert member in rows or shown in rows, f"{module}.{member}"


def test_every_link_of_the_contents_leads_to_a_heading():
    headings = re.findall(r"^## (.+)$", TEXT, re.MULTILINE)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    links = re.findall(r"^- \[.+\]\(#(.+)\)$", TEXT, re.MULTILINE)
    assert set(links) == anchors
