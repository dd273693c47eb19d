import socket
import struct

import pytest

from marserve.workers.idle_memory import IdleMemory, trim


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def limit_s(channel):
    return struct.unpack("@ll", channel.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16))[0]


def test_a_reader_that_has_worked_is_woken_to_rest_once(pair):
    channel, _ = pair
    memory = IdleMemory(channel)
    assert limit_s(channel) == 0
    memory.work_done()
    with pytest.raises(BlockingIOError):
        channel.recv(1)
    memory.rest()
    assert limit_s(channel) == 0
    memory.work_done()
    assert limit_s(channel) == 1


def test_what_comes_in_time_is_read_as_ever(pair):
    channel, other = pair
    memory = IdleMemory(channel)
    memory.work_done()
    other.sendall(b"batch")
    assert channel.recv(5) == b"batch"


def test_trimming_may_be_done_at_any_time():
    trim()
    trim()
