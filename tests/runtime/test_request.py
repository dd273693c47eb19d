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
    assert (job.queued_at, job.dispatched_at, job.attempts) == (7.5, 0.0, 0)


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


def test_pieces_go_to_whoever_wants_them_and_then_the_answer():
    heard = []
    job = Job(
        REQUEST,
        7.5,
        lambda _, reply: heard.append(("end", reply)),
        lambda _, piece: heard.append(("piece", piece)),
    )

    job.stream(Answer(b"a", 201))
    job.stream(Answer(b"b"))
    job.resolve(Answer(b"c"))
    job.stream(Answer(b"too late"))

    assert heard == [
        ("piece", Answer(b"a", 201)),
        ("piece", Answer(b"b")),
        ("end", Answer(b"c")),
    ]


def test_whoever_wants_no_pieces_gets_them_joined_with_the_first_one_s_head(job, replies):
    job.stream(Answer(b"a", 201, "Yes", [("x", "1")]))
    job.stream(Answer(b"b"))
    job.resolve(Answer(b"c"))

    assert replies == [(job, Answer(b"abc", 201, "Yes", [("x", "1")]))]


def test_an_error_after_pieces_is_the_error(job, replies):
    error = WorkerDied("it is gone")
    job.stream(Answer(b"a"))
    job.resolve(error)

    assert replies == [(job, error)]
    assert job.has_streamed


@pytest.mark.parametrize("end", [lambda job: job.abandon(), lambda job: job.resolve(Answer(b""))])
def test_the_queue_that_holds_a_job_hears_once_that_nobody_waits_for_it(job, end):
    closed = []
    job.on_closed = closed.append

    end(job)
    end(job)

    assert closed == [job]


class Alarm:
    is_cancelled = False

    def cancel(self):
        self.is_cancelled = True


@pytest.mark.parametrize("end", [lambda job: job.resolve(Answer(b"ok")), Job.abandon])
def test_the_limit_of_a_client_s_patience_goes_with_the_end_of_its_wait(job, end):
    alarm = job.time_limit = Alarm()

    end(job)

    assert alarm.is_cancelled
    assert job.time_limit is None
