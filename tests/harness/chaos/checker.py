"""Compares what clients saw, handlers ran, the server counted and what it left behind. Pure.

The rules are the programme's: every request has exactly one answer, its own, with a status that
the trouble allows; it ran no oftener than it may; the server's counters say what the clients'
ledger says; nothing is held afterwards that was not held before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from chaos.counters import Counters
from chaos.leaks import Holdings
from chaos.ledger import BROKEN, GONE, GRPC, OPEN, Ledger, Row, proof

_MOST_EXAMPLES = 5
MAX_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Allowed:
    """What may become of one kind of request."""

    statuses: Collection[int] = (200,)
    executions: int = MAX_ATTEMPTS
    must_run: bool = True
    """A success that no handler ran is made up."""
    has_proof: bool = True
    """False: the handler was told to answer something else."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that one run has left."""

    ledger: Ledger
    executions: Mapping[int, int] | None = None
    """From the journal; None: there is none."""
    counted: Counters | None = None
    """What the server counted during the run; None: not compared."""
    before: Holdings | None = None
    after: Holdings | None = None
    start: int = 0
    """The first row that counts."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong, rule by rule; nothing, if the run was clean."""

    broken: Mapping[str, int]
    """How often each rule was broken."""
    examples: Mapping[str, list[str]]
    requests: int
    succeeded: int
    executions_most: int = 0
    latencies_s: list[float] = field(default_factory=list, repr=False)
    """Of successes, from the planned moments."""

    @property
    def is_clean(self) -> bool:
        return not self.broken

    def count(self, *rules: str) -> int:
        """How often these rules were broken."""
        return sum(self.broken.get(rule, 0) for rule in rules)

    def report(self) -> str:
        lines = [f"{self.requests:,} requests, {self.succeeded:,} succeeded"]
        for rule, count in self.broken.items():
            lines.append(f"  {rule}: {count:,}; " + "; ".join(self.examples[rule]))
        return "\n".join(lines)


class _Findings:
    def __init__(self, ledger: Ledger) -> None:
        self.broken: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}
        self._ledger = ledger
        self._owners: dict[int, int] = {}

    def add(self, rule: str, example: str, count: int = 1) -> None:
        self.broken[rule] += count
        examples = self.examples.setdefault(rule, [])
        if len(examples) < _MOST_EXAMPLES:
            examples.append(example)

    def owner(self, digest: int) -> int | None:
        """Whose answer it is; nobody's where no request has this proof."""
        if not self._owners:  # a clean run never needs them
            nonce, count = self._ledger.nonce, len(self._ledger)
            self._owners = {proof(nonce, id_): id_ for id_ in range(count)}
        return self._owners.get(digest)


def check(evidence: Evidence, allowed: Mapping[str, Allowed] | None = None) -> Verdict:
    """Compare.

    Args:
        evidence: of one run that has ended.
        allowed: by kind of request; kinds that are not in it may only succeed.

    Returns:
        The rules that were broken: `lost`, `broken off`, `doubled`, `crossed`, `wrong body`,
        `status`, `executions`, `made up`, `counters`, `queue`, `leak`.
    """
    rules = allowed or {}
    plain = Allowed()
    ledger = evidence.ledger
    found = _Findings(ledger)
    succeeded, most, total = 0, 0, 0
    latencies: list[float] = []
    for row in ledger.rows(evidence.start):
        total += 1
        rule = rules.get(row.kind, plain)
        _check_answer(row, rule, ledger, found)
        if row.status == 200:
            succeeded += 1
            latencies.append(row.latency_s)
        if evidence.executions is not None:
            ran = evidence.executions.get(row.id, 0)
            most = max(most, ran)
            _check_executions(row, rule, ran, found)
    if ledger.strays_count:
        examples = "; ".join(repr(stray[:60]) for stray in ledger.strays[:2])
        found.add("doubled", f"bytes nobody waited for: {examples}", ledger.strays_count)
    if evidence.counted is not None:
        _check_counters(ledger, evidence, found)
    if evidence.before is not None and evidence.after is not None:
        for what, how in evidence.after.more_than(evidence.before).items():
            found.add("leak", f"{what}: {how}")
    return Verdict(dict(found.broken), found.examples, total, succeeded, most, latencies)


def _check_answer(row: Row, rule: Allowed, ledger: Ledger, found: _Findings) -> None:
    if row.status == OPEN:
        found.add("lost", f"request {row.id} ({row.kind}) has no answer")
    elif row.status == BROKEN and BROKEN not in rule.statuses:
        found.add("broken off", f"request {row.id} ({row.kind})")
    elif row.status not in rule.statuses and row.status != GONE:
        found.add("status", f"request {row.id} ({row.kind}): {row.status}")
    elif row.status == 200 and rule.has_proof and row.digest != proof(ledger.nonce, row.id):
        whose = found.owner(row.digest)
        if whose is None:
            found.add("wrong body", f"request {row.id} ({row.kind})")
        else:
            found.add("crossed", f"request {row.id} got the answer of {whose}")


def _check_executions(row: Row, rule: Allowed, ran: int, found: _Findings) -> None:
    if ran > rule.executions:
        found.add("executions", f"request {row.id} ({row.kind}) ran {ran} times")
    if ran == 0 and row.status == 200 and rule.must_run:
        found.add("made up", f"request {row.id} ({row.kind}) was answered and never ran")


def _check_counters(ledger: Ledger, evidence: Evidence, found: _Findings) -> None:
    """Successes must be equal, and so must all answers; who hung up may count or not."""
    assert evidence.counted is not None
    counted = evidence.counted
    seen: Counter[int] = Counter(row.status for row in ledger.rows(evidence.start))
    unsure = seen[GONE] + seen[BROKEN] + seen[OPEN] + seen[GRPC + 4]
    for status in (200, 400, 504):
        ours, its = seen[status], counted.answered.get(status, 0)
        over_grpc = sum(n for code, n in seen.items() if code > GRPC)
        slack = unsure + (over_grpc if status != 200 else 0)
        if not ours <= its <= ours + slack:
            found.add("counters", f"{status}: the server counted {its:,}, clients {ours:,}")
    ours = sum(count for status, count in seen.items() if status > 0)
    its = sum(counted.answered.values())
    if not ours - seen[GRPC + 4] <= its <= ours + unsure:
        found.add("counters", f"in all: the server counted {its:,}, clients {ours:,}")
    if counted.unaccounted:
        found.add("counters", f"{counted.unaccounted:+} received than were answered or have gone")
    if counted.in_flight:
        found.add("queue", f"{counted.in_flight} requests are in flight, and nobody waits for them")
    if counted.waiting:
        found.add("queue", f"{counted.waiting} requests wait, and nobody waits for them")
