"""Log files turn over, are packed, and lose nothing on the way."""

import gzip
import logging
import os
import threading
import time

import pytest

from marserve.observe import log_files
from marserve.observe.log_files import FILES_KEPT, LogFile, pack


def record(text):
    return logging.LogRecord("marserve", logging.INFO, __file__, 0, text, None, None)


def text_of(path):
    if path.suffix == ".gz":
        return gzip.decompress(path.read_bytes()).decode()
    return path.read_text()


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(log_files, "FILE_BYTES", 1_000)


@pytest.fixture
def packed(monkeypatch):
    """Packing that is done when the line is written."""

    class AtOnce(threading.Thread):
        def start(self):
            super().start()
            self.join()

    monkeypatch.setattr(log_files.threading, "Thread", AtOnce)


def test_a_full_file_is_packed_under_its_day_and_no_line_is_lost(tmp_path, small, packed):
    path = tmp_path / "ts_log.log"
    file = LogFile(path, None)
    for number in range(40):
        file.emit(record(f"line {number:03d} {'x' * 30}"))
    file.close()
    day = time.strftime("%d-%b")
    names = sorted(one.name for one in tmp_path.iterdir())
    assert names[-1] == "ts_log.log"
    assert f"ts_log.{day}.log.gz" in names
    assert f"ts_log.{day}.2.log.gz" in names
    whole = "".join(text_of(one) for one in tmp_path.iterdir())
    numbers = sorted(int(line.split("line ")[1][:3]) for line in whole.splitlines())
    assert numbers == list(range(40))


def test_so_many_former_files_are_kept_and_no_more(tmp_path, small, packed):
    file = LogFile(tmp_path / "ts_log.log", None)
    neighbour = tmp_path / "ts_log.notes.log"
    neighbour.write_text("mine")
    for number in range(250):
        file.emit(record(f"line {number:03d} {'x' * 30}"))
    file.close()
    former = [one for one in tmp_path.iterdir() if one.suffix == ".gz"]
    assert len(former) == FILES_KEPT
    newest = (tmp_path / "ts_log.log").read_text() + "".join(map(text_of, former))
    assert "line 249" in newest
    assert "line 000" not in newest
    assert neighbour.read_text() == "mine"


def test_a_new_day_begins_a_new_file_under_the_name_of_the_old_day(tmp_path, packed, monkeypatch):
    path = tmp_path / "access_log.log"
    path.write_text("yesterday\n")
    yesterday = time.time() - 24 * 3600
    os.utime(path, (yesterday, yesterday))
    file = LogFile(path, None)
    file.emit(record("today"))
    file.close()
    day = time.strftime("%d-%b", time.localtime(yesterday))
    assert text_of(tmp_path / f"access_log.{day}.log.gz") == "yesterday\n"
    assert path.read_text().endswith("- today\n")


def test_an_empty_file_does_not_turn_over(tmp_path):
    path = tmp_path / "model_log.log"
    path.touch()
    yesterday = time.time() - 24 * 3600
    os.utime(path, (yesterday, yesterday))
    file = LogFile(path, None)
    file.emit(record("first"))
    file.close()
    assert [one.name for one in tmp_path.iterdir()] == ["model_log.log"]


def test_a_file_that_cannot_turn_over_goes_on_and_tries_again_later(tmp_path, small, monkeypatch):
    path = tmp_path / "ts_log.log"
    file = LogFile(path, None)
    tries = []

    def refuse(self, target):
        tries.append(target)
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "rename", refuse)
    for number in range(100):
        file.emit(record(f"line {number}"))
    file.close()
    assert len(path.read_text().splitlines()) == 100
    assert len(tries) == 1
    assert file.unwritten == 0


def test_a_file_that_somebody_else_moved_is_made_again(tmp_path, small, packed):
    path = tmp_path / "ts_log.log"
    file = LogFile(path, None)
    for number in range(15):
        file.emit(record(f"line {number} {'x' * 60}"))
        if number == 3:
            path.rename(tmp_path / "moved")
    file.close()
    assert "line 14" in path.read_text()
    assert "line 3" in (tmp_path / "moved").read_text()


def test_what_an_earlier_server_left_unpacked_is_packed(tmp_path):
    left = tmp_path / "ts_log.01-Nov.log"
    left.write_text("left\n")
    (tmp_path / "ts_log.02-Nov.log.gz.part").write_bytes(b"half")
    other = tmp_path / "access_log.01-Nov.log"
    other.write_text("another\n")
    pack(tmp_path / "ts_log.log")
    assert text_of(tmp_path / "ts_log.01-Nov.log.gz") == "left\n"
    assert not left.exists()
    assert other.exists()


def test_a_device_does_not_turn_over(tmp_path, small):
    path = tmp_path / "ts_log.log"
    path.symlink_to("/dev/null")
    file = LogFile(path, None)
    for number in range(100):
        file.emit(record(f"line {number} {'x' * 60}"))
    file.close()
    assert [one.name for one in tmp_path.iterdir()] == ["ts_log.log"]
