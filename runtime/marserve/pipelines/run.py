"""One request on its way through a workflow: each node once, after all its parents.

Runs on the event loop, as callbacks. Ends exactly once: with a result, with the first node that
fails, or by being abandoned.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from marserve.errors import DeadlineExceeded, HandlerFailed, MarServeError
from marserve.pipelines.results import joined
from marserve.pipelines.spec import Specification
from marserve.request import Answer, Job, Reply, ReplyTo, Request, RequestPart


class Infer(Protocol):
    """Gives a request to a model (`Inference.infer`)."""

    def __call__(self, name: str, version: None, request: Request, reply_to: ReplyTo, /) -> Job:
        """Start answering; raises if it is not taken."""
        ...


class Timer(Protocol):
    """Something that was called for later."""

    def cancel(self) -> None:
        """Never mind."""
        ...


CallLater = Callable[[float, Callable[[], None]], Timer]


@dataclass(frozen=True, slots=True)
class Plan:
    """What every request of a workflow follows."""

    specification: Specification
    models: Mapping[str, str]
    """The model that serves each node."""


class Run:
    """One request. `on_end` is called once, unless the run is abandoned before."""

    def __init__(
        self,
        plan: Plan,
        request: Request,
        infer: Infer,
        call_later: CallLater,
        on_end: Callable[[Run, Reply], None],
    ) -> None:
        self._plan = plan
        self._request = request
        self._infer = infer
        self._call_later = call_later
        self._on_end: Callable[[Run, Reply], None] | None = on_end
        self._begun: set[str] = set()
        self._results: dict[str, bytes] = {}
        self._failures: dict[str, int] = {}
        self._jobs: dict[str, Job] = {}
        self._timers: dict[str, Timer] = {}

    def start(self) -> None:
        """Give the request to the start node."""
        self._begin(self._plan.specification.dag.start)

    def abandon(self) -> None:
        """Nobody waits for the result any more."""
        self._on_end = None
        self._stop()

    def fail(self, error: MarServeError) -> None:
        """End with this error, unless it has ended."""
        self._end(error)

    def _begin(self, node: str) -> None:
        if node not in self._begun:  # a sibling that answered at once may have begun it already
            self._begun.add(node)
            self._try(node)

    def _try(self, node: str) -> None:
        if self._on_end is None:
            return
        attempt = self._failures.get(node, 0)
        timeout_ms = self._plan.specification.nodes[node].settings.timeout_ms
        late = DeadlineExceeded(f"there was no answer within {timeout_ms} ms (timeout-ms).")
        self._timers[node] = self._call_later(
            timeout_ms / 1000.0, lambda: self._replied(node, attempt, late)
        )
        try:
            job = self._infer(
                self._plan.models[node],
                None,
                self._input(node, attempt),
                lambda _, reply: self._replied(node, attempt, reply),
            )
        except MarServeError as error:
            self._replied(node, attempt, error)
            return
        if self._failures.get(node, 0) == attempt and node not in self._results:
            self._jobs[node] = job

    def _replied(self, node: str, attempt: int, reply: Reply) -> None:
        if self._on_end is None or self._failures.get(node, 0) != attempt:
            return  # it came too late, and another attempt is on its way
        self._timers.pop(node).cancel()
        job = self._jobs.pop(node, None)
        if isinstance(reply, Answer):
            self._succeeded(node, reply.body)
            return
        if job is not None:
            job.abandon()
        self._failures[node] = attempt + 1
        if attempt < self._plan.specification.nodes[node].settings.retry_attempts:
            self._timers[node] = self._call_later(0.0, lambda: self._try(node))
        else:
            self._end(HandlerFailed(f"Error executing {node}: {reply.message}", 500))

    def _succeeded(self, node: str, result: bytes) -> None:
        dag = self._plan.specification.dag
        self._results[node] = result
        if all(leaf in self._results for leaf in dag.leaves):
            try:
                self._end(Answer(joined({leaf: self._results[leaf] for leaf in dag.leaves})))
            except HandlerFailed as error:
                self._end(error)
            return
        for child in dag.successors[node]:
            if all(parent in self._results for parent in dag.parents[child]):
                self._begin(child)

    def _input(self, node: str, attempt: int) -> Request:
        request = self._request
        # an earlier attempt may still be in a worker's hands under the name it was given
        request_id = str(uuid.uuid4()) if attempt else request.id
        return Request(request_id, request.headers, self._parts(node))

    def _parts(self, node: str) -> list[RequestPart]:
        parents = self._plan.specification.dag.parents[node]
        if not parents:
            return self._request.parts
        if len(parents) == 1:
            return [("body", "", self._results[parents[0]])]
        return [(parent, "", self._results[parent]) for parent in parents]

    def _end(self, reply: Reply) -> None:
        on_end, self._on_end = self._on_end, None
        self._stop()
        if on_end is not None:
            on_end(self, reply)

    def _stop(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        for job in self._jobs.values():
            job.abandon()
        self._timers.clear()
        self._jobs.clear()
