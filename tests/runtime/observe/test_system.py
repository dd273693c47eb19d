"""The machine's figures appear under TorchServe's names."""

from marserve.observe.system import SYSTEM_METRICS, SystemCollector, read


def test_every_gauge_has_one_sample_with_torchserves_labels(tmp_path):
    families = list(SystemCollector("box", tmp_path).collect())
    assert {family.name for family in families} == SYSTEM_METRICS
    assert len(families) == 7
    for family in families:
        [sample] = family.samples
        assert (sample.name, sample.labels) == (family.name, {"Level": "Host", "Hostname": "box"})
        assert family.type == "gauge"


def test_a_reading_makes_sense(tmp_path):
    reading = read(tmp_path)
    assert 0 <= reading.cpu_percent <= 100
    assert 0 < reading.memory_percent <= 100
    assert 0 <= reading.disk_percent <= 100
    assert reading.memory_used_mb > 1
    assert reading.memory_available_mb > 0
    assert reading.disk_used_gb >= 0
    assert reading.disk_available_gb >= 0


def test_a_reading_is_kept_for_a_moment(tmp_path, monkeypatch):
    readings = []

    def counted(disk):
        readings.append(read(disk))
        return readings[-1]

    monkeypatch.setattr("marserve.observe.system.read", counted)
    now = [0.0]
    collector = SystemCollector("box", tmp_path, max_age_s=1.0, clock=lambda: now[0])
    for moment, expected in ((0.0, 1), (0.9, 1), (1.0, 2), (1.5, 2), (2.1, 3)):
        now[0] = moment
        list(collector.collect())
        assert len(readings) == expected
