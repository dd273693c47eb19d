"""What a misbehaving handler breaks is its own worker, which is replaced (F38)."""

import pytest
from running_server import Server, end

HARMLESS = [
    *("fork_and_return", "fork_many", "leave_the_folder", "ignore_signals", "open_the_umask"),
    *("wipe_the_environment", "print_much", "print_without_end_of_line", "print_garbage"),
    *("delete_itself", "empty_the_modules", "close_stdout", "close_descriptors"),
]
"""After these the same worker goes on."""
DEADLY = ["exit_at_once", "close_all_descriptors", "write_into_the_channel", "stop_itself"]
"""benchmarks/reliability/evil_handlers.py has the others, many times."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    one = Server(tmp_path_factory.mktemp("server"))
    one.pack("evil", "evil.py")
    one.pack("innocent", "version.py")
    one.start(load_models="evil.mar,innocent.mar", default_response_timeout=1)
    yield one
    end(one)


@pytest.mark.parametrize("deed", [*HARMLESS, *DEADLY])
def test_a_misbehaving_handler_harms_its_own_worker_at_most(server, deed):
    innocent, before = server.pids("innocent"), server.pids("evil")
    front = server.process.pid

    reply = server.predict("evil", deed.encode())

    assert reply.status in ({200} if deed in HARMLESS else {500, 503, 504}), reply
    server.wait_until(lambda: server.predict("evil", b"good").status == 200)
    assert (server.pids("evil") == before) == (deed in HARMLESS)
    assert server.pids("innocent") == innocent
    assert server.predict("innocent").status == 200
    assert server.process.poll() is None
    assert server.process.pid == front
    assert server.call("GET", "inference", "/ping").status == 200


def test_the_processes_that_a_handler_leaves_end_with_their_worker(server):
    """Those of fork_many, whose worker died long ago."""
    server.wait_until(lambda: len(server.children()) == 3)  # the zygote and two workers
