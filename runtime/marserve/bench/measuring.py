"""Measures a model of a running server: warms up, opens a window, asks the server before and after.

The load goes on at both edges of a window, so that what is seen inside is the steady state.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from time import perf_counter, process_time

from marserve.bench import account
from marserve.bench.connection import call
from marserve.bench.endpoint import model_path
from marserve.bench.load import Load
from marserve.bench.plan import Facts, Input, Plan, Subject
from marserve.bench.point import Point, Window, point
from marserve.bench.tally import Tally, sentence
from marserve.client import ServerError, ServerRefused, ServerUnreachable

_ASKING_S = 10.0
"""How long the other ports may take to answer."""
_STEP_S = 0.1


class Measuring:
    """One model under one plan. `cut` is the window that an interrupt left behind."""

    def __init__(self, subject: Subject, inputs: Sequence[Input], plan: Plan) -> None:
        self.cut: Point | None = None
        self._subject = subject
        self._plan = plan
        path = model_path("predictions", subject.model, subject.version)
        self._messages = [
            subject.inference.message(
                "POST", path, one.body, {"Content-Type": one.content_type, **subject.headers}
            )
            for one in inputs
        ]
        self._has_metrics = False

    async def prepare(self) -> Facts:
        """Send one request, and ask the other ports what they can tell.

        Raises:
            ServerUnreachable: no server answers.
            ServerRefused: it refuses the request, because there is no such model, for instance.
        """
        status, body = await call(self._subject.inference, self._messages[0], self._plan.timeout_s)
        if not 200 <= status < 300:
            raise _refusal(status, body)
        notes: list[str] = []
        try:
            self._has_metrics = await self._account() is not None
            if self._subject.metrics is None:
                notes.append(_NO_ADDRESS)
            elif not self._has_metrics:
                notes.append(_NO_HISTOGRAMS.format(self._subject.metrics.url))
        except ServerError as error:
            notes.append(f"Where the time went is not known: {error.message}")
        batch_size: int | None = None
        if self._has_metrics:
            try:
                batch_size = await self._batch_size()
            except ServerError as error:
                notes.append(f"How full the batches were is not known: {error.message}")
        return Facts(batch_size, self._has_metrics, tuple(notes))

    async def measure(self, connections: int, on_wait: Callable[[float], None]) -> Point:
        """One point. `on_wait` hears now and then how many seconds it has taken so far.

        Raises:
            ServerUnreachable: the connections could not be opened.
        """
        plan, self.cut = self._plan, None
        load = Load(
            self._subject.inference,
            self._messages,
            connections,
            rate=plan.rate,
            timeout_s=plan.timeout_s,
        )
        async with load:
            load.start()
            await _waited(plan.warm_up_s, load, on_wait, 0.0)
            before, before_at = await self._scraped(), perf_counter()
            window = await self._window(load, connections, on_wait)
            after, after_at = await self._scraped(), perf_counter()
            await load.drain()
        accounted = None
        if before is not None and after is not None:
            accounted = (after.since(before), after_at - before_at)
        return point(connections, plan.rate, window, accounted)

    async def _window(
        self, load: Load, connections: int, on_wait: Callable[[float], None]
    ) -> Window:
        tally = load.tally = Tally()
        began_at, cpu_s = perf_counter(), process_time()

        def window(*, is_cut: bool = False) -> Window:
            return Window(tally, perf_counter() - began_at, process_time() - cpu_s, is_cut)

        try:
            await _waited(self._plan.seconds, load, on_wait, self._plan.warm_up_s)
        except asyncio.CancelledError:
            self.cut = point(connections, self._plan.rate, window(is_cut=True), None)
            raise
        ended = window()
        load.tally = Tally()
        return ended

    # --- the other ports ---

    async def _scraped(self) -> account.Account | None:
        try:
            return await self._account() if self._has_metrics else None
        except ServerError:  # this point has none; the next may
            return None

    async def _account(self) -> account.Account | None:
        endpoint, subject = self._subject.metrics, self._subject
        if endpoint is None:
            return None
        status, body = await call(endpoint, endpoint.message("GET", "/metrics"), _ASKING_S)
        if status != 200:
            raise ServerUnreachable(f"{endpoint.url}/metrics answers with {status}.")
        return account.read(body.decode("utf-8", "replace"), subject.model, subject.version)

    async def _batch_size(self) -> int | None:
        endpoint, subject = self._subject.management, self._subject
        if endpoint is None:
            return None
        path = model_path("models", subject.model, subject.version)
        message = endpoint.message("GET", path, headers=subject.headers)
        status, body = await call(endpoint, message, _ASKING_S)
        if status != 200:
            raise ServerUnreachable(f"{endpoint.url} answers with {status}: {sentence(body)}")
        try:
            return int(json.loads(body)[0]["batchSize"])
        except (ValueError, LookupError, TypeError):
            raise ServerUnreachable(
                f"{endpoint.url} answers, but not like a management port: is this the right port?"
            ) from None


async def _waited(
    seconds: float, load: Load, on_wait: Callable[[float], None], before_s: float
) -> None:
    began_at = perf_counter()
    while (passed := perf_counter() - began_at) < seconds:
        await asyncio.sleep(min(_STEP_S, seconds - passed))
        on_wait(before_s + perf_counter() - began_at)
        load.check_time()


def _refusal(status: int, body: bytes) -> ServerRefused:
    try:
        document = json.loads(body)
        kind = str(document.get("type", ""))
    except (ValueError, AttributeError):
        kind = ""
    return ServerRefused(status, kind, sentence(body) or f"HTTP {status}")


_NO_ADDRESS = (
    "Where the time went is not known: with --inference, give --metrics URL and --management URL "
    "of the same server as well."
)
_NO_HISTOGRAMS = (
    "Where the time went is not known: {} does not tell marserve_batch_size and the other metrics "
    "that it is read from."
)
