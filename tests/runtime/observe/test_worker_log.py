"""The lives of workers, in the words that people's tools look for."""

import re

import pytest

from marserve.events import (
    BatchLate,
    Bus,
    RequestAbandoned,
    VersionGone,
    WorkerExited,
    WorkerReady,
    WorkerStarted,
)
from marserve.observe.worker_log import WorkerLog
from marserve.refs import ModelRef

REF = ModelRef("m", "1.0")
STARTED = WorkerStarted(REF, "9000")
READY = WorkerReady(REF, "9000", 7, 0.5)
LATE = BatchLate(REF, "9000", 3)


def died(cause="exited with code 3", retry_s=1.0):
    return WorkerExited(REF, "9000", 7, False, cause, retry_s)


STOPPED = WorkerExited(REF, "9000", 7, True, "stopped")
LIVES = [
    "W-9000-m_1.0 State change null -> WORKER_STARTED",
    "W-9000-m_1.0 State change WORKER_STARTED -> WORKER_MODEL_LOADED",
]
DIES = [
    "9000 Worker disconnected. WORKER_MODEL_LOADED",
    "Backend worker error\nexited with code 3",
    "W-9000-m_1.0 State change WORKER_MODEL_LOADED -> WORKER_STOPPED",
    "Auto recovery start timestamp: N",
    "Retry worker: 9000 in 1 seconds.",
]
FAILS_AGAIN = [
    "W-9000-m_1.0 State change WORKER_STOPPED -> WORKER_STARTED",
    "9000 Worker disconnected. WORKER_STARTED",
    "Backend worker error\nno",
    "W-9000-m_1.0 State change WORKER_STARTED -> WORKER_STOPPED",
    "Auto recovery failed again",
    "Retry worker: 9000 in 0.5 seconds.",
]
RECOVERS = [
    "W-9000-m_1.0 State change WORKER_STOPPED -> WORKER_STARTED",
    "W-9000-m_1.0 State change WORKER_STARTED -> WORKER_MODEL_LOADED",
    "Auto recovery succeeded, reset recoveryStartTS",
]


@pytest.mark.parametrize(
    ("events", "lines"),
    [
        ([STARTED, READY], LIVES),
        (
            [STARTED, READY, STOPPED],
            [
                *LIVES,
                "W-9000-m_1.0 State change WORKER_MODEL_LOADED -> WORKER_SCALED_DOWN",
            ],
        ),
        ([STARTED, READY, STOPPED, STARTED], None),
        ([STARTED, READY, died(retry_s=None)], [*LIVES, *DIES[:-1]]),
        (
            [STARTED, READY, died(), STARTED, died("no", 0.5), STARTED, READY],
            [*LIVES, *DIES, *FAILS_AGAIN, *RECOVERS],
        ),
        (
            [STARTED, READY, LATE, died()],
            [*LIVES, "Number or consecutive unsuccessful inference 1", *DIES],
        ),
        (
            [RequestAbandoned("m", "r1")],
            ["Connection to client got closed; Removing job: r1"],
        ),
        ([STARTED, VersionGone(REF), STARTED], [LIVES[0], LIVES[0]]),
    ],
)
def test_lives_are_told(caplog, events, lines):
    bus = Bus()
    WorkerLog(bus)
    with caplog.at_level("INFO"):
        for event in events:
            bus.publish(event)
    told = [re.sub(r"timestamp: \d{13}$", "timestamp: N", text) for text in caplog.messages]
    if lines is None:  # a worker that was stopped and a new one of its name are two
        assert told[-1] == LIVES[0]
    else:
        assert told == lines


def test_each_line_bears_the_workers_name_as_its_thread(caplog):
    bus = Bus()
    WorkerLog(bus)
    with caplog.at_level("INFO"):
        bus.publish(STARTED)
    assert [record.worker for record in caplog.records] == ["W-9000-m_1.0"]
