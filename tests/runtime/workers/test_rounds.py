"""One step of continuous batching: who is answered, who goes on, who is counted where."""

import pytest

from marserve.errors import HandlerFailed
from marserve.model_version import SequenceHeaders
from marserve.request import Answer, Job, Request
from marserve.workers.rounds import Rounds

HEADERS = SequenceHeaders("seq-id", "seq-start", "seq-end")


class Listener:
    def __init__(self):
        self.answered = []
        self.ended = []
        self.waiting = []

    def on_answered(self, jobs, took_s):
        self.answered += [job.request.id for job in jobs]

    def on_room(self, worker, room):
        joining, self.waiting = self.waiting[:room], self.waiting[room:]
        return joining

    def on_sequences_end(self, sequences):
        self.ended += sequences


@pytest.fixture
def listener():
    return Listener()


def job(name, heard, on_piece=None):
    def reply_to(one, reply):
        heard.append((one.request.id, reply))

    return Job(Request(name, [], []), 0.0, reply_to, on_piece or reply_to)


def piece(body=b"-"):
    return Answer(body, headers=[("ts_stream_next", "true")])


def ids(jobs):
    return [one.request.id for one in jobs]


def test_some_go_on_and_the_others_have_their_answer(listener):
    heard = []
    jobs = [job(name, heard) for name in "abc"]
    error = HandlerFailed("no")

    going_on = Rounds(4, None, listener).step(jobs, [piece(), Answer(b"end"), error], 0.1)

    assert ids(going_on) == ["a"]
    assert listener.answered == ["b", "c"]
    assert heard == [("a", piece()), ("b", Answer(b"end")), ("c", error)]
    assert [one.is_open for one in jobs] == [True, False, False]


def test_a_client_that_left_before_the_step_is_counted_out_once(listener):
    jobs = [job(name, []) for name in "ab"]
    jobs[0].abandon()

    going_on = Rounds(4, None, listener).step(jobs, [piece(), piece()], 0.1)

    assert ids(going_on) == ["b"]
    assert listener.answered == ["a"]


def test_a_client_that_leaves_over_a_piece_is_counted_out_once(listener):
    jobs = [job("a", [], lambda one, _: one.abandon()), job("b", [])]

    going_on = Rounds(4, None, listener).step(jobs, [piece(), Answer(b"end")], 0.1)

    assert going_on == []
    assert sorted(listener.answered) == ["a", "b"]


def test_a_reply_may_end_sequences(listener):
    ends = Answer(b"", headers=[("SEQ-END", "s; t ;")])

    Rounds(4, HEADERS, listener).step([job("a", [])], [ends], 0.1)

    assert listener.ended == ["s", "t"]


def test_as_many_join_as_there_is_room_for(listener):
    listener.waiting = [job(name, []) for name in "cde"]
    rounds = Rounds(4, None, listener)

    assert ids(rounds.joining("w", 2)) == ["c", "d"]
    assert rounds.joining("w", 4) == []
