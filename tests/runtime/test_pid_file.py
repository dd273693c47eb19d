import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from marserve.errors import ConfigInvalid
from marserve.pid_file import PidFile, PidTaken


@pytest.fixture
def pid_file(tmp_path):
    return PidFile(tmp_path)


def test_it_lies_where_temporary_files_lie():
    assert PidFile().path == Path(tempfile.gettempdir(), ".model_server.pid")


def test_a_claimed_file_holds_the_pid_and_nothing_else(pid_file, tmp_path):
    with pid_file.claimed():
        assert pid_file.path.read_text() == str(os.getpid())
        process = pid_file.process()
        assert process is not None
        assert process.pid == os.getpid()
        assert [path.name for path in tmp_path.iterdir()] == [".model_server.pid"]
    assert not pid_file.exists()


def test_a_living_server_keeps_its_file(pid_file):
    with pid_file.claimed():
        with pytest.raises(PidTaken, match=str(os.getpid())), pid_file.claimed():
            pass
        assert pid_file.exists()


@pytest.mark.parametrize("content", ["", "x", "-1", "0", "99999999999", "1\n2", "٣"])
def test_what_is_no_pid_is_no_server(pid_file, content):
    pid_file.path.write_text(content)
    assert pid_file.process() is None
    assert pid_file.exists()


def test_a_server_that_has_ended_is_none(pid_file):
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        pid_file.path.write_text(str(process.pid))
    assert pid_file.process() is None
    with pid_file.claimed():
        assert pid_file.path.read_text() == str(os.getpid())


def test_a_process_younger_than_the_file_has_only_got_the_number_again(pid_file):
    pid_file.path.write_text(str(os.getpid()))
    os.utime(pid_file.path, (1, 1))
    assert pid_file.process() is None


def test_a_link_is_not_followed_and_not_written_through(pid_file, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text(str(os.getpid()))
    pid_file.path.symlink_to(precious)
    assert pid_file.process() is None
    with pid_file.claimed():
        assert not pid_file.path.is_symlink()
    assert precious.read_text() == str(os.getpid())


def test_a_file_that_never_ends_is_not_read(pid_file):
    os.mkfifo(pid_file.path)
    assert pid_file.process() is None


def test_a_file_that_others_have_taken_over_stays(pid_file):
    with pid_file.claimed():
        pid_file.path.write_text("1")
    assert pid_file.path.read_text() == "1"


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path):
    absent = PidFile(tmp_path / "absent")
    with pytest.raises(ConfigInvalid, match="let TMPDIR name a folder"), absent.claimed():
        pass
