import logging
import sys
from types import ModuleType

import pytest
import torch

from marserve_handlers.devices import choose_device, on_device, prepare, settle


@pytest.fixture
def present(monkeypatch):
    def only(*kinds):
        for module, kind in ((torch.cuda, "cuda"), (torch.xpu, "xpu"), (torch.backends.mps, "mps")):
            monkeypatch.setattr(module, "is_available", lambda kind=kind: kind in kinds)

    return only


@pytest.mark.parametrize(
    ("kinds", "ipex", "gpu_id", "device"),
    [
        ({"cuda", "xpu"}, "true", 1, "cuda:1"),
        ({"xpu", "mps"}, "true", 1, "xpu:1"),
        ({"xpu", "mps"}, "false", 1, "mps"),
        ({"xpu"}, "", 1, "cpu"),
        ({"mps"}, "true", 1, "mps"),
        (set(), "true", 1, "cpu"),
        ({"cuda", "xpu", "mps"}, "true", None, "cpu"),
    ],
)
def test_a_worker_uses_the_accelerator_it_was_given(
    kinds, ipex, gpu_id, device, present, monkeypatch
):
    present(*kinds)
    monkeypatch.setenv("TS_IPEX_GPU_ENABLE", ipex)
    assert choose_device(gpu_id) == torch.device(device)


def test_an_xpu_that_the_server_does_not_use_is_said(present, monkeypatch, caplog):
    present("xpu")
    monkeypatch.delenv("TS_IPEX_GPU_ENABLE", raising=False)
    with caplog.at_level(logging.WARNING):
        choose_device(0)
    assert "set ipex_gpu_enable=true" in caplog.text


def test_torch_xla_brings_a_device_where_nothing_else_does(present, monkeypatch):
    present()
    package = ModuleType("torch_xla")
    package.__spec__ = __import__("importlib.machinery").machinery.ModuleSpec("torch_xla", None)
    model = ModuleType("torch_xla.core.xla_model")
    model.xla_device = lambda: torch.device("xla:0")
    monkeypatch.setitem(sys.modules, "torch_xla", package)
    monkeypatch.setitem(sys.modules, "torch_xla.core.xla_model", model)
    assert choose_device(None) == torch.device("xla:0")
    present("cuda")
    assert choose_device(2) == torch.device("cuda:2")


@pytest.mark.parametrize(("capability", "precision"), [((7, 5), "highest"), ((8, 0), "high")])
def test_tensor_cores_are_used_where_there_are_some(capability, precision, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    for name in ("set_device", "set_stream", "Stream"):
        monkeypatch.setattr(torch.cuda, name, lambda _: None)
    before = torch.get_float32_matmul_precision()
    try:
        prepare(torch.device("cuda:0"))
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)


class Recorder:
    """Stands in for torch.cuda, which no test machine need have: it notes what is asked of it."""

    def __init__(self, monkeypatch):
        self.calls = []
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
        monkeypatch.setattr(torch, "set_float32_matmul_precision", lambda _: None)
        for name in ("set_device", "set_stream", "synchronize"):
            monkeypatch.setattr(torch.cuda, name, self._noted(name))
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: f"stream of {device}")
        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: self._pinned(tensor))
        monkeypatch.setattr(
            torch.Tensor, "to", lambda tensor, *args, **named: self._moved(tensor, *args, **named)
        )

    def _noted(self, name):
        return lambda *args: self.calls.append((name, *map(str, args)))

    def _pinned(self, tensor):
        self.calls.append(("pin_memory",))
        return tensor

    def _moved(self, tensor, device, non_blocking=False):
        self.calls.append(("to", str(device), non_blocking))
        return tensor


def test_a_worker_on_a_gpu_has_a_stream_and_copies_from_pinned_memory(monkeypatch):
    """What is asked of torch, on a recorder: this does not show that a GPU does it."""
    recorder, device = Recorder(monkeypatch), torch.device("cuda:1")
    prepare(device)
    on_device(torch.zeros(2), device)
    settle(device)
    assert recorder.calls == [
        ("set_device", "cuda:1"),
        ("set_stream", "stream of cuda:1"),
        ("pin_memory",),
        ("to", "cuda:1", True),
        ("synchronize", "cuda:1"),
    ]


def test_elsewhere_nothing_is_pinned(monkeypatch):
    recorder, cpu = Recorder(monkeypatch), torch.device("cpu")
    prepare(cpu)
    settle(cpu)
    on_device(torch.zeros(2), cpu)
    on_device(torch.zeros(2), "cuda:0")  # handlers set their device to texts as well
    assert recorder.calls == [("to", "cpu", False), ("to", "cuda:0", False)]


def test_what_is_no_tensor_is_moved_by_itself():
    class Batch:
        def to(self, device):
            return f"on {device}"

    assert on_device(Batch(), torch.device("cuda:0")) == "on cuda:0"
    assert on_device(torch.ones(1), torch.device("cpu")).item() == 1
