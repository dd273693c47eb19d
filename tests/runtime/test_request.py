"""A job gets one answer, whoever tries to give it more."""

import pytest

from marserve.errors import QueueFull, WorkerDied
from marserve.request import Answer, Job, Request

REQUEST = Request("id-1", [("Host", "h")], [("body", "", b"12345")])


@pytest.fixture
def replies():
    return []


@pytest.fixture
def job(replies):
    return Job(REQUEST, 7.5, lambda job, reply: replies.append((job, reply)))


@pytest.mark.parametrize(
    ("parts", "size_bytes"),
    [
        ([], 0),
        ([("body", "", b"")], 0),
        ([("a", "text/plain", b"12"), ("b", "", b"345")], 5),
    ],
)
def test_the_size_of_a_request_is_that_of_its_bodies(parts, size_bytes):
    assert Request("id", [("Ignored", "header")], parts).size_bytes == size_bytes


def test_a_request_is_a_value():
    same = Request("id-1", [("Host", "h")], [("body", "", b"12345")])

    assert same == REQUEST
    with pytest.raises(AttributeError):
        REQUEST.id = "other"


def test_a_new_job_waits_since_it_was_queued_and_was_never_tried(job):
    assert job.is_open
    assert (job.queued_at, job.dispatched_at, job.attempts, job.ref) == (7.5, 7.5, 0, None)


@pytest.mark.parametrize("reply", [Answer(b"yes"), WorkerDied("it is gone")])
def test_a_job_hands_on_its_answer(job, replies, reply):
    job.resolve(reply)

    assert replies == [(job, reply)]
    assert not job.is_open


def test_a_second_answer_changes_nothing(job, replies):
    job.resolve(Answer(b"first"))
    job.resolve(Answer(b"second"))
    job.resolve(QueueFull("m", 1, 1))

    assert replies == [(job, Answer(b"first"))]


def test_an_abandoned_job_answers_nobody(job, replies):
    job.abandon()
    job.resolve(Answer(b"too late"))
    job.abandon()

    assert replies == []
    assert not job.is_open


def test_whoever_gets_the_answer_finds_the_job_closed():
    seen = []

    def reply_to(job, reply):
        seen.append(job.is_open)
        job.resolve(Answer(b"again"))

    Job(REQUEST, 0.0, reply_to).resolve(Answer(b"once"))

    assert seen == [False]
