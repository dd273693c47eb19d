import io
import os

from marserve_handlers.torchserve.process_memory import check_process_mem_usage, get_cpu_usage


def test_the_memory_of_a_process_is_told_in_bytes():
    assert get_cpu_usage(str(os.getpid())) > 1_000_000


def test_a_process_that_is_not_there_has_none(caplog):
    assert get_cpu_usage(2**30) == 0
    assert "is not known" in caplog.text


def test_each_process_of_a_line_is_told(capsys):
    check_process_mem_usage(io.StringIO(f"{os.getpid()},,\n"))
    pid, _, size = capsys.readouterr().out.strip().partition(":")
    assert int(pid) == os.getpid()
    assert int(size) > 1_000_000
