import sys
from types import SimpleNamespace

import pytest

from marserve_handlers.contract import Context
from marserve_handlers.timing import timed


class Handler:
    def __init__(self, context=None):
        if context is not None:
            self.context = context

    @timed
    def preprocess(self, data, *, factor=1):
        """Doubles."""
        return data * 2 * factor


def context_with(yaml):
    return Context(
        model_name="m",
        manifest={},
        model_dir=".",
        batch_size=1,
        gpu=None,
        model_yaml_config=yaml,
    )


def test_a_stage_is_measured_when_the_model_asks_for_it():
    context = context_with({"handler": {"profile": True}})
    assert Handler(context).preprocess(2, factor=3) == 12
    [sample] = context.metrics.drain()
    assert (sample.name, sample.unit, sample.kind) == (
        "ts_handler_preprocess",
        "Milliseconds",
        "gauge",
    )
    assert sample.value >= 0


@pytest.mark.parametrize("yaml", [{}, {"handler": None}, {"handler": {"profile": False}}])
def test_a_stage_is_not_measured_otherwise(yaml):
    context = context_with(yaml)
    assert Handler(context).preprocess(2) == 4
    assert context.metrics.drain() == []


def test_a_handler_without_context_works():
    assert Handler().preprocess(2) == 4


def test_the_method_keeps_its_name_and_docstring():
    assert (Handler.preprocess.__name__, Handler.preprocess.__doc__) == ("preprocess", "Doubles.")


@pytest.mark.parametrize(("initialized", "waits"), [(True, 2), (False, 0)])
def test_a_stage_is_not_over_before_the_gpu_is_done(initialized, waits, monkeypatch):
    waited = []
    cuda = SimpleNamespace(
        is_initialized=lambda: initialized, synchronize=lambda: waited.append(True)
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    Handler(context_with({"handler": {"profile": True}})).preprocess(2)
    assert len(waited) == waits
