"""How requests meet workers: streams, async handlers, rounds, sequences, tickets, scaling."""

import json
import os
import signal
import time
from collections import Counter

import pytest
from running_server import Crowd


def started(server, name, handler, yaml="", **settings):
    """The server with one model whose YAML file says `yaml`."""
    server.root.joinpath("model-config.yaml").write_text(yaml or "{}")
    config = str(server.root / "model-config.yaml")
    server.pack(name, handler, config_file=config)
    return server.start(load_models=f"{name}.mar", **settings)


def chunks(server, name, body):
    """The pieces of a streamed answer as they come over the wire, and whether it was whole."""
    with server.raw() as sock:
        sock.sendall(
            f"POST /predictions/{name} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n"
            f"Connection: close\r\n\r\n{body}".encode()
        )
        received = b""
        while data := sock.recv(65536):
            received += data
    head, _, rest = received.partition(b"\r\n\r\n")
    pieces = []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        if int(size, 16) == 0:
            return head.decode(), pieces, True
        pieces.append(rest[: int(size, 16)].decode())
        rest = rest[int(size, 16) + 2 :]
    return head.decode(), pieces, False


# --- streams --------------------------------------------------------------------------------------


def test_pieces_reach_the_client_one_by_one_and_the_return_value_is_the_last(server):
    started(server, "talk", "streamer.py")

    head, pieces, is_whole = chunks(server, "talk", "3")

    assert head.startswith("HTTP/1.1 200")
    assert "ts_stream_next: true" in head
    assert "transfer-encoding: chunked" in head.lower()
    assert "content-length" not in head.lower()
    assert (pieces, is_whole) == (["0 ", "1 ", "2 ", "end"], True)


def test_without_pieces_the_answer_is_an_ordinary_one(server):
    started(server, "talk", "streamer.py")

    reply = server.predict("talk", b"0")

    assert (reply.status, reply.body) == (200, b"end")
    assert reply.headers["content-length"] == "3"


@pytest.mark.parametrize("end", ["raise", "die"])
def test_what_fails_after_a_piece_cuts_the_connection_and_is_not_tried_again(server, end):
    started(server, "talk", "streamer.py")

    head, pieces, is_whole = chunks(server, "talk", f"2 {end}")

    assert head.startswith("HTTP/1.1 200")
    assert (pieces, is_whole) == (["0 ", "1 "], False)
    server.wait_until(lambda: server.predict("talk", b"0").status == 200)


def test_pieces_come_while_the_handler_still_runs(server, tmp_path):
    started(server, "talk", "streamer.py")
    gate = tmp_path / "gate"
    with server.raw() as sock:
        body = f"1 wait {gate}"
        sock.sendall(
            f"POST /predictions/talk HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n"
            f"{body}".encode()
        )
        received = b""
        while b"0 " not in received:
            received += sock.recv(65536)
        gate.touch()
        while not received.endswith(b"0\r\n\r\n"):
            received += sock.recv(65536)
    assert b"3\r\nend\r\n0\r\n\r\n" in received


def test_a_client_that_leaves_in_mid_stream_costs_the_others_nothing(server, tmp_path):
    started(server, "talk", "streamer.py")
    gate = tmp_path / "gate"
    before = server.pids("talk")
    with server.raw() as sock:
        body = f"1 wait {gate}"
        sock.sendall(
            f"POST /predictions/talk HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n"
            f"{body}".encode()
        )
        while b"0 " not in sock.recv(65536):
            pass
    gate.touch()

    assert server.predict("talk", b"0").body == b"end"
    assert server.pids("talk") == before


# --- asynchronous handlers ------------------------------------------------------------------------


def test_requests_of_an_asynchronous_handler_run_at_the_same_time_in_one_worker(server):
    started(server, "meet", "awaited.py", "asyncCommunication: true")

    replies = Crowd(lambda _: server.predict("meet", b"meet 8"), 8).join()

    assert {reply.body for reply in replies} == {b"8 met"}


def test_each_request_has_a_context_and_an_answer_of_its_own(server):
    started(server, "meet", "awaited.py", "asyncCommunication: true\nbatchSize: 4")

    def ask(index):
        word = [b"hello", b"raise up", b"status 404"][index % 3]
        return server.predict("meet", word)

    replies = Crowd(ask, 12).join()

    assert Counter(reply.status for reply in replies) == {200: 4, 503: 4, 404: 4}
    for reply in replies:
        if reply.status == 200:
            assert reply.body.decode() == f"1 {reply.headers['x-request-id']}"
        if reply.status == 503:
            assert "ValueError: up" in reply.json()["message"]


def test_an_asynchronous_handler_streams(server):
    started(server, "meet", "awaited.py", "asyncCommunication: true")

    _, pieces, is_whole = chunks(server, "meet", "stream 3")

    assert ("".join(pieces), is_whole) == ("0 1 2 end", True)


def test_the_requests_of_a_worker_that_dies_are_answered_by_the_next(server, tmp_path):
    started(server, "meet", "awaited.py", "asyncCommunication: true")

    reply = server.predict("meet", f"die-once {tmp_path / 'died'}".encode())

    assert reply.status == 200
    assert (tmp_path / "died").exists()


def test_a_request_that_kills_every_worker_costs_nobody_beside_it_an_answer(server):
    started(server, "meet", "awaited.py", "asyncCommunication: true")

    naps = Crowd(lambda _: server.predict("meet", b"nap 0.6"), 4)
    time.sleep(0.3)  # they are all in the worker
    assert server.predict("meet", b"die").status == 500

    assert {reply.status for reply in naps.join()} == {200}


def test_a_piece_that_comes_after_the_answer_harms_nobody(server):
    started(server, "meet", "awaited.py", "asyncCommunication: true")
    before = server.pids("meet")

    assert server.predict("meet", b"late 0.1").status == 200
    assert server.predict("meet", b"nap 0.5").status == 200

    assert server.pids("meet") == before


@pytest.mark.parametrize(
    ("handler", "yaml", "cause"),
    [
        ("awaited.py", "{}", "asyncCommunication"),
        ("echo.py", "asyncCommunication: true", "async def"),
    ],
)
def test_a_handler_of_the_other_kind_is_refused_with_the_remedy(server, handler, yaml, cause):
    started(server, "wrong", handler, yaml)

    [problem] = server.problems
    assert cause in problem


# --- rounds ---------------------------------------------------------------------------------------


def test_a_request_goes_on_round_after_round_until_its_criterion_says_it_is_done(server):
    started(server, "count", "rounds.py", "continuousBatching: true\nbatchSize: 4")

    head, pieces, is_whole = chunks(server, "count", "3")

    assert "ts_stream_next: true" in head
    assert (pieces, is_whole) == (["1:2 ", "1:1 ", "1:0 "], True)


def test_a_request_that_comes_later_joins_those_that_run(server, tmp_path):
    started(server, "count", "rounds.py", "continuousBatching: true\nbatchSize: 4")
    gate = tmp_path / "gate"
    first = Crowd(lambda _: server.predict("count", f"4 {gate}".encode()), 1)
    server.wait_until((tmp_path / "gate.started").exists)
    second = Crowd(lambda _: server.predict("count", b"2"), 1)
    server.wait_until(lambda: server.pending("count") == 1)
    gate.touch()

    [one], [two] = first.join(), second.join()

    assert (one.body, two.body) == (b"1:3 2:2 2:1 1:0 ", b"2:1 2:0 ")


def test_a_client_that_leaves_takes_its_request_out_of_the_rounds(server, tmp_path):
    started(server, "count", "rounds.py", "continuousBatching: true\nbatchSize: 4")
    gate = tmp_path / "gate"
    with server.raw() as sock:
        body = f"1000000000 {gate}"
        sock.sendall(
            f"POST /predictions/count HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n"
            f"{body}".encode()
        )
        server.wait_until((tmp_path / "gate.started").exists)
    gate.touch()

    server.wait_until(lambda: server.predict("count", b"1").body == b"1:0 ")


# --- sequences ------------------------------------------------------------------------------------

SEQUENCES = """\
sequenceBatching: true
sequenceMaxIdleMSec: 60000
maxNumSequence: 4
maxSequenceJobQueueSize: 2
batchSize: 4
minWorkers: 2
maxWorkers: 2
"""


def say(server, number, sequence=None):
    headers = {} if sequence is None else {"ts_request_sequence_id": sequence}
    return server.call("POST", "inference", "/predictions/talk", str(number).encode(), headers)


def test_a_sequence_keeps_its_worker_and_its_state(server):
    started(server, "talk", "dialogue.py", SEQUENCES)
    first = say(server, 1)
    sequence = first.headers["ts_request_sequence_id"]
    assert sequence.startswith("ts-seq-")

    rest = [say(server, number, sequence) for number in (2, 3)]

    assert [reply.json()["sum"] for reply in (first, *rest)] == [1, 3, 6]
    assert len({reply.json()["pid"] for reply in (first, *rest)}) == 1


def test_sequences_run_side_by_side_and_each_in_order(server):
    started(server, "talk", "dialogue.py", SEQUENCES)
    names = [say(server, 0).headers["ts_request_sequence_id"] for _ in range(4)]

    def converse(index):
        return [say(server, 1, names[index]).json()["sum"] for _ in range(10)]

    assert Crowd(converse, 4).join() == [list(range(1, 11))] * 4


def test_one_sequence_too_many_is_refused_and_taken_when_another_is_over(server):
    started(
        server,
        "talk",
        "dialogue.py",
        SEQUENCES.replace("60000", "300").replace("Size: 4", "Size: 1"),
    )
    assert [say(server, 1).status for _ in range(4)] == [200] * 4

    refused = say(server, 1)
    assert refused.status == 503
    assert "maxNumSequence" in refused.json()["message"]
    server.wait_until(lambda: say(server, 1).status == 200)


def test_a_sequence_whose_worker_died_gets_errors_and_can_begin_anew(server):
    started(server, "talk", "dialogue.py", SEQUENCES)
    sequence = say(server, 5).headers["ts_request_sequence_id"]

    died = say(server, "die", sequence)

    assert died.status == 500
    assert "state of this sequence" in died.json()["message"]
    server.wait_until(lambda: say(server, 2, sequence).status == 200)
    assert say(server, 2, sequence).json()["sum"] == 4


def test_a_worker_whose_sequence_is_open_is_not_ended_for_lack_of_work(server):
    yaml = SEQUENCES.replace("minWorkers: 2", "minWorkers: 0\nscaleDownIdleSec: 1")
    started(server, "talk", "dialogue.py", yaml.replace("60000", "4000"))
    reply = say(server, 5)
    pid, sequence = reply.json()["pid"], reply.headers["ts_request_sequence_id"]
    deadline = time.monotonic() + 3.2  # scaling down had three periods of idleness
    while time.monotonic() < deadline:
        assert pid in server.pids("talk")
        time.sleep(0.1)

    assert say(server, 2, sequence).json()["sum"] == 7
    server.wait_until(lambda: server.workers("talk") == [])


# --- limits of an archive -------------------------------------------------------------------------


def test_with_job_tickets_a_request_is_taken_only_while_a_worker_waits(server, tmp_path):
    started(server, "slow", "moody.py", "useJobTicket: true")
    gate = tmp_path / "gate"
    crowd = server.block("slow", gate)

    refused = server.predict("slow", b"hello")

    assert refused.status == 503
    assert "useJobTicket" in refused.json()["message"]
    gate.touch()
    assert [reply.status for reply in crowd.join()] == [200]
    assert server.predict("slow", b"hello").status == 200


def test_a_client_waits_no_longer_than_the_archive_allows(server, tmp_path):
    started(server, "slow", "moody.py", "clientTimeoutInMills: 300")
    gate = tmp_path / "gate"
    before = server.pids("slow")
    crowd = server.block("slow", gate)

    waiting = server.predict("slow", b"hello")

    assert (waiting.status, server.pending("slow")) == (504, 0)
    assert "clientTimeoutInMills" in waiting.json()["message"]
    assert [reply.status for reply in crowd.join()] == [504]
    gate.touch()
    server.wait_until(lambda: server.predict("slow", b"hello").status == 200)
    assert server.pids("slow") == before


def test_ping_turns_unhealthy_when_a_model_has_failed_for_longer_than_it_may(server):
    started(server, "bad", "broken_initialize.py", "maxRetryTimeoutInSec: 1\nminWorkers: 1")
    assert server.call("GET", "inference", "/ping").status == 200

    server.wait_until(lambda: server.call("GET", "inference", "/ping").status == 500)


# --- scaling --------------------------------------------------------------------------------------


def test_workers_come_with_the_queue_and_go_when_they_are_not_needed(server):
    started(
        server,
        "range",
        "moody.py",
        "minWorkers: 1\nmaxWorkers: 3\nscaleUpQueueMSec: 100\nscaleDownIdleSec: 1",
    )
    assert len(server.workers("range")) == 1
    crowd = Crowd(lambda _: [server.predict("range", b"sleep 0.05") for _ in range(40)], 8)

    server.wait_until(lambda: len(server.workers("range")) == 3)
    replies = [reply for some in crowd.join() for reply in some]

    assert {reply.status for reply in replies} == {200}
    server.wait_until(lambda: len(server.workers("range")) == 1)


def test_a_model_without_workers_starts_one_for_the_first_request_and_lets_it_go(server):
    started(server, "range", "echo.py", "minWorkers: 0\nmaxWorkers: 1\nscaleDownIdleSec: 1")
    assert server.workers("range") == []

    assert server.predict("range", b"hello").status == 200
    server.wait_until(lambda: server.workers("range") == [])
    assert server.predict("range", b"hello").status == 200


def test_a_worker_with_a_long_batch_is_not_ended_for_lack_of_work(server, tmp_path):
    started(server, "range", "moody.py", "minWorkers: 0\nmaxWorkers: 1\nscaleDownIdleSec: 1")
    gate = tmp_path / "gate"
    crowd = server.block("range", gate)
    deadline = time.monotonic() + 3.5
    while time.monotonic() < deadline:
        assert [worker["status"] for worker in server.workers("range")] == ["READY"]
        time.sleep(0.1)
    gate.touch()

    assert [reply.status for reply in crowd.join()] == [200]


def test_what_runs_is_answered_though_the_model_has_no_workers_any_more(server, tmp_path):
    started(server, "range", "moody.py")
    gate = tmp_path / "gate"
    crowd = server.block("range", gate)
    assert server.manage("PUT", "/models/range?min_worker=0&max_worker=0").status == 202

    gone = Crowd(lambda _: server.manage("DELETE", "/models/range"), 1)
    time.sleep(6.0)  # longer than a worker without work has to end
    gate.touch()

    assert [reply.status for reply in crowd.join()] == [200]
    assert [reply.status for reply in gone.join()] == [200]


def test_a_model_that_could_not_load_is_tried_again_by_the_next_request(server, monkeypatch):
    needed = server.root / "needed"
    monkeypatch.setenv("NEEDED", str(needed))
    yaml = "minWorkers: 0\nmaxWorkers: 1\nscaleDownIdleSec: 1"
    started(server, "range", "needs_file.py", yaml)
    assert server.predict("range").status == 503
    server.wait_until(lambda: server.manage("GET", "/models/range").json()[0]["workers"] == [])
    needed.touch()

    server.wait_until(lambda: server.predict("range", b"x").status == 200)


def test_a_range_set_by_the_operator_is_used(server):
    started(server, "range", "echo.py")
    assert server.manage("PUT", "/models/range?min_worker=0&max_worker=0").status == 202
    assert server.predict("range").status == 503

    assert server.manage("PUT", "/models/range?min_worker=0&max_worker=2").status == 202

    assert server.predict("range").status == 200
    described = server.manage("GET", "/models/range").json()[0]
    assert (described["minWorkers"], described["maxWorkers"]) == (0, 2)


def test_a_worker_that_is_killed_while_it_scales_is_replaced(server):
    started(server, "range", "echo.py", "minWorkers: 1\nmaxWorkers: 2")
    [pid] = server.pids("range")
    os.kill(pid, signal.SIGKILL)

    server.wait_until(lambda: server.pids("range") not in ([pid], [-1], []))
    assert json.loads(server.predict("range", b"1").body) is not None
