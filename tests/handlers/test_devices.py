import logging
import sys
from types import ModuleType

import pytest
import torch

from marserve_handlers.devices import choose_device, prepare


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
    before = torch.get_float32_matmul_precision()
    try:
        prepare(torch.device("cuda:0"))
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)
