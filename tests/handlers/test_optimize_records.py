import json
import threading

import pytest

from marserve_handlers.optimize_records import FILE, Records
from marserve_handlers.optimize_report import Report, Trial
from marserve_handlers.optimize_settings import Change

REPORT = Report(
    Change("bfloat16", "channels_last", compile={"mode": "default"}),
    Trial(10.0, 4.0, 8, 0.01, None),
    {"float16": "it is only 0.5 times as fast"},
)


@pytest.fixture
def model_dir(tmp_path):
    folder = tmp_path / ("0f" * 32)
    folder.mkdir()
    return folder


def test_a_finding_is_remembered_for_the_same_circumstances_only(model_dir):
    Records(model_dir, ["a"]).remember(REPORT)
    Records(model_dir, ["b"]).remember(Report())
    found = Records(model_dir, ["a"]).recall()
    assert found is not None
    assert found.is_remembered
    assert found.facts() == REPORT.facts()
    assert found.chosen == REPORT.chosen
    assert Records(model_dir, ["b"]).recall() == Report(is_remembered=True)
    assert Records(model_dir, ["c"]).recall() is None
    assert [path.name for path in model_dir.iterdir()] == [FILE]


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff", b'{"%s": {"chosen": {"x": 1}}}'])
def test_a_damaged_file_is_as_good_as_none(model_dir, damage):
    records = Records(model_dir, [])
    records.remember(REPORT)
    [key] = json.loads((model_dir / FILE).read_bytes())
    (model_dir / FILE).write_bytes(damage.replace(b"%s", key.encode()))
    assert records.recall() is None
    records.remember(REPORT)
    assert records.recall() is not None


def test_a_folder_of_somebody_elses_stays_as_it_is(tmp_path):
    records = Records(tmp_path, [])
    with records.alone(1):
        records.remember(REPORT)
    assert records.recall() is None
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_no_trouble(model_dir, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("marserve_handlers.optimize_records.tempfile.mkstemp", full)
    Records(model_dir, []).remember(REPORT)
    assert list(model_dir.iterdir()) == []


def test_one_worker_at_a_time_searches(model_dir):
    inside = threading.Event()
    order = []

    def second():
        inside.wait(10)
        with Records(model_dir, []).alone(60):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with Records(model_dir, []).alone(60):
        inside.set()
        thread.join(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_whoever_waited_long_enough_goes_on(model_dir):
    with Records(model_dir, []).alone(60), Records(model_dir, []).alone(0.01):
        pass


def test_a_report_says_what_was_chosen_and_why():
    assert REPORT.sentence() == (
        "optimize: bfloat16 + channels_last + compile(mode=default) is 2.50 times as fast as the "
        "plain model (4.0 instead of 10.0 ms for 8 rows), relative error 0.01; float16 was not "
        "taken: it is only 0.5 times as fast"
    )
    assert Report().sentence() == "optimize: the model is served as it is"
    assert Report(Change("float16")).sentence() == (
        "optimize: float16, not compared with the plain model"
    )
    slower = Report(Change("float16"), Trial(1.0, 2.0, 1, 0.0, 1.0))
    assert not slower.is_faster
    assert REPORT.is_faster
    assert "100% of rows agree" in slower.sentence()
