"""The machine's figures appear under TorchServe's names."""

from marserve.observe import metrics_config
from marserve.observe.gpus import GpuReading
from marserve.observe.metric_specs import GPU_METRICS, SYSTEM_METRICS
from marserve.observe.system import SystemCollector, read


class Gpus:
    def __init__(self, *readings):
        self._readings = readings

    def read(self):
        return self._readings


def test_every_gauge_has_one_sample_with_torchserves_labels(tmp_path):
    families = list(SystemCollector("box", disk=tmp_path, gpus=Gpus()).collect())
    assert {family.name for family in families} == set(SYSTEM_METRICS)
    assert len(families) == 10
    for family in families:
        if family.name in GPU_METRICS:
            assert family.samples == []
            continue
        [sample] = family.samples
        assert (sample.name, sample.labels) == (family.name, {"Level": "Host", "Hostname": "box"})
        assert family.type == "gauge"


def test_gpus_are_shown_by_device_with_what_they_tell(tmp_path):
    gpus = Gpus(GpuReading(0, 97.0, 12.5, 10_000.0), GpuReading(1, None, 50.0, 40_000.0))
    collector = SystemCollector("box", disk=tmp_path, gpus=gpus)
    shown = {
        family.name: {tuple(sample.labels.items()): sample.value for sample in family.samples}
        for family in collector.collect()
        if family.name in GPU_METRICS
    }
    first = (("Level", "Host"), ("DeviceId", "0"), ("Hostname", "box"))
    second = (("Level", "Host"), ("DeviceId", "1"), ("Hostname", "box"))
    assert shown == {
        "GPUUtilization": {first: 97.0},
        "GPUMemoryUtilization": {first: 12.5, second: 50.0},
        "GPUMemoryUsed": {first: 10_000.0, second: 40_000.0},
    }


def test_only_listed_metrics_are_shown_under_the_listed_labels(tmp_path):
    config = metrics_config.parse(
        "ts_metrics: {gauge: [{name: MemoryUsed, unit: MiB, dimensions: [L, H]}]}"
    )
    [family] = SystemCollector("box", config.server, tmp_path, gpus=Gpus()).collect()
    assert family.documentation.endswith("with unit: MiB")
    assert family.samples[0].labels == {"L": "Host", "H": "box"}


def test_a_reading_makes_sense(tmp_path):
    reading = read(tmp_path, Gpus())
    assert 0 <= reading.cpu_percent <= 100
    assert 0 < reading.memory_percent <= 100
    assert 0 <= reading.disk_percent <= 100
    assert reading.memory_used_mb > 1
    assert reading.memory_available_mb > 0
    assert reading.disk_used_gb >= 0
    assert reading.disk_available_gb >= 0


def test_a_reading_is_kept_for_a_moment(tmp_path, monkeypatch):
    readings = []

    def counted(disk, gpus):
        readings.append(read(disk, gpus))
        return readings[-1]

    monkeypatch.setattr("marserve.observe.system.read", counted)
    now = [0.0]
    collector = SystemCollector("box", disk=tmp_path, max_age_s=1.0, clock=lambda: now[0])
    for moment, expected in ((0.0, 1), (0.9, 1), (1.0, 2), (1.5, 2), (2.1, 3)):
        now[0] = moment
        list(collector.collect())
        assert len(readings) == expected
