"""One run of `marserve bench` on a terminal: point after point, shown as they come."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import click
import uvloop

from marserve import terminal
from marserve.bench import report
from marserve.bench.measuring import Measuring
from marserve.bench.plan import Facts, Input, Plan, Subject
from marserve.bench.point import Point
from marserve.client import ServerError

FAILED = 1
INTERRUPTED = 130


class Session:
    """Measures point after point and shows them; keeps what was measured when it is interrupted."""

    def __init__(self, measuring: Measuring, *, is_quiet: bool) -> None:
        self.points: list[Point] = []
        self.facts: Facts | None = None
        self._measuring = measuring
        self._to_stderr = is_quiet

    def introduce(self, subject: Subject, plan: Plan, inputs: Sequence[Input]) -> None:
        """What is going to be measured."""
        bodies = "one body" if len(inputs) == 1 else f"{len(inputs):,} bodies"
        lengths = [len(one.body) for one in inputs]
        sizes = list(dict.fromkeys((report.size(min(lengths)), report.size(max(lengths)))))
        pace = f", {plan.rate:,g} requests/s" if plan.rate else ""
        self._say(
            f"{click.style(subject.name, bold=True)} at {subject.inference.url}: {bodies} of "
            f"{' to '.join(sizes)}, "
            f"{plan.seconds:g} s per point after {plan.warm_up_s:g} s of warm-up{pace}"
        )

    def run(self, connections: Sequence[int]) -> int:
        """Measure; the exit code.

        Raises:
            ServerError: nothing could be measured.
        """
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            try:
                self._points(runner, connections)
            except KeyboardInterrupt:
                if self._measuring.cut is not None:
                    self._show(self._measuring.cut)
                if not self.points:
                    raise
                self._finish()
                self._say("marserve: interrupted.", always_stderr=True)
                return INTERRUPTED
            except ServerError:
                if self.points:
                    self._finish()
                raise
        self._finish()
        if any(point.succeeded for point in self.points):
            return 0
        cause = report.cause(self.points)
        self._say(f"marserve: no request succeeded: {cause}.", always_stderr=True)
        return FAILED

    def _points(self, runner: asyncio.Runner, connections: Sequence[int]) -> None:
        self.facts = facts = runner.run(self._measuring.prepare())
        self._table = report.Table(facts)
        self._say("\n" + self._table.head())
        for number, count in enumerate(connections, 1):
            what = f"Point {number} of {len(connections)}: {report.connections(count)}"
            with terminal.SignOfLife(what) as sign:
                point = runner.run(self._measuring.measure(count, sign.waited))
            self._show(point)

    def _show(self, point: Point) -> None:
        self.points.append(point)
        self._say(self._table.row(point))

    def _finish(self) -> None:
        assert self.facts is not None
        bars = report.bars(self.points)
        if bars:
            self._say("\n" + bars)
        remarks = report.remarks(self.points, self.facts)
        if remarks:
            self._say("\n" + "\n".join(remarks))

    def _say(self, text: str, *, always_stderr: bool = False) -> None:
        click.echo(text, err=self._to_stderr or always_stderr)
        sys.stdout.flush()
