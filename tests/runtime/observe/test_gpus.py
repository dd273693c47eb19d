"""GPUs are read through NVIDIA's library, or are not there."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from marserve.observe.gpus import GpuReading, Gpus

MIB = 1024**2


class Library(ModuleType):
    """As much of NVIDIA's library as is asked."""

    class NVMLError(Exception):
        pass

    def __init__(self, has_driver=True, unsupported=()):
        super().__init__("pynvml")
        self.has_driver = has_driver
        self.unsupported = unsupported

    def nvmlInit(self):
        if not self.has_driver:
            raise self.NVMLError

    def nvmlDeviceGetCount(self):
        return 2

    def nvmlDeviceGetHandleByIndex(self, index):
        return self.answer("handle", index, index)

    def nvmlDeviceGetUtilizationRates(self, index):
        return self.answer("utilization", index, SimpleNamespace(gpu=40 + index, memory=1))

    def nvmlDeviceGetMemoryInfo(self, index):
        return self.answer("memory", index, SimpleNamespace(total=80 * MIB, used=20 * MIB))

    def answer(self, question, index, value):
        if (question, index) in self.unsupported:
            raise self.NVMLError
        return value


@pytest.mark.parametrize(
    ("unsupported", "expected"),
    [
        ((), (GpuReading(0, 40.0, 25.0, 20.0), GpuReading(1, 41.0, 25.0, 20.0))),
        ([("handle", 0)], (GpuReading(1, 41.0, 25.0, 20.0),)),
        (
            [("utilization", 0), ("memory", 1)],
            (GpuReading(0, None, 25.0, 20.0), GpuReading(1, 41.0, None, None)),
        ),
    ],
)
def test_every_device_tells_what_it_can(monkeypatch, unsupported, expected):
    monkeypatch.setitem(sys.modules, "pynvml", Library(unsupported=unsupported))
    assert Gpus().read() == expected


@pytest.mark.parametrize("library", [None, Library(has_driver=False)])
def test_without_library_or_driver_there_are_none(monkeypatch, library):
    monkeypatch.setitem(sys.modules, "pynvml", library)
    assert Gpus().read() == ()
