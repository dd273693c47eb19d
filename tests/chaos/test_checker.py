"""The checker finds planted violations of each of its rules, and nothing in a clean run."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections import Counter
from pathlib import Path

import pytest
from chaos import journal
from chaos.checker import Allowed, Evidence, Verdict, check
from chaos.counters import Counters, of_model
from chaos.leaks import Holdings, holdings
from chaos.ledger import BROKEN, GONE, GRPC, Ledger, id_text

NONCE = "n"
HELD = Holdings(Counter({"socket": 3}), 4, 5, 0, frozenset(), 6, 0, 0)


def body(id_: int) -> bytes:
    digest = hashlib.sha256(f"{NONCE}{id_text(id_)}".encode()).hexdigest()
    return f"{digest} 4711 {id_text(id_)}".encode()


def ledger(count: int, kind: str = "plain") -> Ledger:
    """A clean ledger of `count` requests, all but the last answered."""
    one = Ledger(NONCE)
    for id_ in range(count):
        one.plan(one.kind(kind), 1.0)
        if id_ < count - 1:
            one.answered(id_, 200, body(id_), 1.5, 2.0)
    return one


def rules(evidence: Evidence, **allowed: Allowed) -> dict[str, int]:
    return dict(check(evidence, allowed).broken)


def test_a_clean_run_breaks_no_rule_and_keeps_latencies_from_the_planned_moments() -> None:
    clean = ledger(3)
    clean.answered(2, 200, body(2), 1.5, 3.0)
    evidence = Evidence(
        clean, Counter({0: 1, 1: 3, 2: 1}), Counters({200: 3}, 0, 0), before=HELD, after=HELD
    )

    assert check(evidence) == Verdict({}, {}, 3, 3, 3, [1.0, 1.0, 2.0])


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (None, {"lost": 1}),
        ((BROKEN, b""), {"broken off": 1}),
        ((200, body(0)), {"crossed": 1}),
        ((200, b"0" * 64 + b" 1 x"), {"wrong body": 1}),
        ((200, b""), {"wrong body": 1}),
        ((500, b""), {"status": 1}),
        ((GRPC + 14, b""), {"status": 1}),
        ((GONE, b""), {}),
        ((200, body(2)), {}),
    ],
)
def test_each_request_has_exactly_its_own_answer(
    answer: tuple[int, bytes] | None, found: dict[str, int]
) -> None:
    one = ledger(3)
    if answer is not None and answer[0] < 0:
        one.ended(2, answer[0], "reset", 3.0)
    elif answer is not None:
        one.answered(2, *answer, 2.5, 3.0)

    assert rules(Evidence(one)) == found


def test_a_second_answer_and_bytes_after_an_answer_are_doubled() -> None:
    one = ledger(2)
    one.answered(1, 200, body(1), 1.5, 2.0)
    one.answered(1, 200, body(1), 1.5, 2.0)
    one.stray(0, b"HTTP/1.1 200 OK")

    assert rules(Evidence(one)) == {"doubled": 2}


def test_a_status_is_judged_by_the_kind_of_request() -> None:
    one = ledger(2, "late")
    one.answered(1, 504, b"", 1.5, 2.0)

    assert rules(Evidence(one), late=Allowed((504,))) == {"status": 1}
    assert rules(Evidence(one), late=Allowed((200, 504))) == {}


@pytest.mark.parametrize(
    ("ran", "found"),
    [(0, {"made up": 1}), (1, {}), (3, {}), (4, {"executions": 1})],
)
def test_a_success_ran_at_least_once_and_at_most_three_times(
    ran: int, found: dict[str, int]
) -> None:
    one = ledger(2)
    one.answered(1, 200, body(1), 1.5, 2.0)

    assert rules(Evidence(one, {0: 1, 1: ran})) == found


def test_a_request_that_must_not_be_retried_ran_once() -> None:
    one = ledger(2, "no retry")
    one.answered(1, 500, b"", 1.5, 2.0)
    allowed = {"no retry": Allowed((200, 500), executions=1)}

    assert check(Evidence(one, {0: 1, 1: 1}), allowed).is_clean
    assert dict(check(Evidence(one, {0: 1, 1: 2}), allowed).broken) == {"executions": 1}


@pytest.mark.parametrize(
    ("answered", "waiting", "found"),
    [
        ({200: 2}, 0, {}),
        ({200: 1}, 0, {"counters": 2}),
        ({200: 3}, 0, {"counters": 2}),
        ({200: 2, 500: 1}, 0, {"counters": 1}),
        ({200: 2}, 1, {"queue": 1}),
    ],
)
def test_the_server_counts_what_the_clients_count(
    answered: dict[int, int], waiting: int, found: dict[str, int]
) -> None:
    one = ledger(2)
    one.answered(1, 200, body(1), 1.5, 2.0)

    assert rules(Evidence(one, counted=Counters(answered, waiting, 0))) == found


def test_what_was_received_is_answered_abandoned_or_in_flight() -> None:
    """I9: at rest nothing is in flight, and nothing is missing."""
    one = ledger(2)
    one.answered(1, 200, body(1), 1.5, 2.0)

    assert rules(Evidence(one, counted=Counters({200: 2}, 0, 0, unaccounted=1))) == {"counters": 1}
    assert rules(Evidence(one, counted=Counters({200: 2}, 0, 0, in_flight=1))) == {"queue": 1}


@pytest.mark.parametrize(
    "more",
    [
        {"descriptors": Counter({"socket": 4})},
        {"threads": 9},
        {"processes": 6},
        {"zombies": 1},
        {"shared_memory": frozenset({"psm_1"})},
        {"temporary": 7},
    ],
)
def test_what_is_held_afterwards_and_was_not_before_is_a_leak(more: dict[str, object]) -> None:
    after = dataclasses.replace(HELD, **more)  # type: ignore[arg-type]

    assert rules(Evidence(ledger(1), before=HELD, after=after)) == {"lost": 1, "leak": 1}
    assert rules(Evidence(ledger(1), before=after, after=HELD)) == {"lost": 1}


def test_a_journal_tells_runs_their_workers_and_their_ends() -> None:
    lines = [b"b 1000000000 7 0,1", b"b 1500000000 8 2", b"e 2000000000 7 0,1", b"b 3000000000 9 2"]
    data = b"\n".join(lines) + b"\nb 400"

    runs = journal.parse(data)

    assert runs == [
        journal.Run(1.0, 7, (0, 1), 2.0),
        journal.Run(1.5, 8, (2,), None),
        journal.Run(3.0, 9, (2,), None),
    ]
    assert journal.executions(runs) == {0: 1, 1: 1, 2: 2}
    assert journal.resumed_after(runs, [(2.0, 8), (2.5, 7)]) == [1.0]


def test_counters_are_of_one_model_and_can_be_subtracted() -> None:
    samples = {
        'marserve_requests_total{code="200",model_name="echo",model_version="1.0"}': 5.0,
        'marserve_requests_total{code="200",model_name="echo",model_version="default"}': 2.0,
        'marserve_requests_total{code="504",model_name="echo",model_version="default"}': 1.0,
        'marserve_requests_total{code="200",model_name="other",model_version="1.0"}': 9.0,
        'marserve_queue_depth{model_name="echo",model_version="1.0"}': 3.0,
        'marserve_worker_restarts_total{model_name="echo",model_version="1.0"}': 4.0,
        "marserve_requests_received_total": 23.0,
        "marserve_requests_abandoned_total": 2.0,
        "marserve_requests_in_flight": 1.0,
    }
    counted = of_model(samples, "echo")

    assert counted == Counters({200: 7, 504: 1}, 3, 4, in_flight=1, unaccounted=3)
    assert counted.since(Counters({200: 7}, 0, 1)) == Counters({504: 1}, 3, 3, 1, 3)


def test_shared_memory_of_strangers_is_nobodys_leak() -> None:
    """Other programs use /dev/shm as well; what has the name of a process of theirs is theirs."""
    me, parent = os.getpid(), os.getppid()
    names = {f"chaos-{me}-x", f"chaos_{parent}_x", "chaos-x"}
    try:
        for name in names:
            Path("/dev/shm", name).touch()
        seen = holdings(me, Path("/nonexistent")).shared_memory & names
    finally:
        for name in names:
            Path("/dev/shm", name).unlink()

    assert seen == {f"chaos-{me}-x", "chaos-x"}
