"""Makes a handler's model faster as `optimize` in its YAML file says, and proves it on a sample.

Nothing is taken that was not compared with the plain model, unless `check: false` says so. Loading
never fails over it, except for wrong values: what cannot be had, or answers differently, is said in
the log and the model is served as it is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch

from marserve_handlers.compile import compile_options
from marserve_handlers.errors import HandlerLoadFailed
from marserve_handlers.optimize_changes import (
    apply,
    available_bytes,
    candidates,
    copied,
    refusal,
    weights_bytes,
)
from marserve_handlers.optimize_compare import NotComparable, difference
from marserve_handlers.optimize_records import Records
from marserve_handlers.optimize_report import Report, Trial
from marserve_handlers.optimize_samples import MOST_ROWS, NoSample, Samples
from marserve_handlers.optimize_settings import KEY, Change, OptimizeSettings, optimize_settings

_log = logging.getLogger("marserve_handlers.torch")

_MOST_ROUNDS: Final = 10
_LEAST_ROUNDS: Final = 2
_CAUSE_CHARS: Final = 200
_PATIENCE: Final = 3
"""A worker waits for another one's search for so many budgets."""


def optimize(handler: Any) -> Report | None:
    """Change `handler.model` as its YAML file asks for; None: it asks for nothing.

    Args:
        handler: has a model, a device, a context, and the steps preprocess and inference.

    Raises:
        HandlerLoadFailed: the key has a wrong value, or names a sample that is not there.
    """
    settings = optimize_settings(handler.model_yaml_config)
    if settings is None:
        return None
    is_compiled = compile_options(handler.model_yaml_config) is not None
    if is_compiled and settings.change.compile is not None:
        raise HandlerLoadFailed(
            f"both pt2 and {KEY}.compile ask for a compiled model; keep one of them"
        )
    model_dir = Path(handler.context.system_properties["model_dir"])
    samples = Samples(handler, settings.sample, model_dir)
    report = _Search(handler, settings, samples).run(_records(handler, settings, model_dir))
    is_as_hoped = settings.is_auto or (report.is_faster and not report.refused)
    _log.log(logging.INFO if is_as_hoped else logging.WARNING, "%s", report.sentence())
    return report


class _Refused(Exception):
    """A change is not taken; the text says why."""


class _Search:
    """Tries changes on copies of one handler's model, and applies the best to the model itself."""

    def __init__(self, handler: Any, settings: OptimizeSettings, samples: Samples) -> None:
        self._handler = handler
        self._settings = settings
        self._samples = samples
        self._plain = handler.model
        batch_size = handler.context.system_properties.get("batch_size") or 1
        self._rows = max(1, min(int(batch_size), MOST_ROWS))
        self._refused: dict[str, str] = {}
        self._is_final = True
        """Whether the next worker would find the same; not if memory or a compiler was missing."""

    def run(self, records: Records) -> Report:
        settings = self._settings
        if not isinstance(self._plain, torch.nn.Module):
            kind = type(self._plain).__name__
            return self._declined(f"only torch modules can be changed, and the model is a {kind}")
        if not settings.is_checked:
            return self._unchecked()
        try:
            compared, timed = self._samples.prepared(MOST_ROWS), self._samples.prepared(self._rows)
        except NoSample as error:
            return self._declined(str(error))
        with records.alone(_PATIENCE * settings.budget_s):
            report = records.recall()
            if report is None:
                report = self._found(compared, timed)
                if self._is_final:
                    records.remember(report)
        if not report.chosen.is_plain:
            self._handler.model = apply(self._plain, report.chosen)
            self._warm(report.chosen, timed)
        return report

    def _declined(self, why: str) -> Report:
        what = "auto" if self._settings.is_auto else str(self._settings.change)
        return Report(refused={what: why})

    def _unchecked(self) -> Report:
        change = self._settings.change
        why = refusal(self._plain, change)
        if why is not None:
            return self._declined(why)
        self._handler.model = apply(self._plain, change)
        return Report(change)

    # --- the search -------------------------------------------------------------------------------

    def _found(self, compared: Any, timed: Any) -> Report:
        needed = weights_bytes(self._plain)
        if self._handler.device.type == "cpu" and needed > available_bytes():
            self._is_final = False
            return self._declined(
                f"a copy of the model, which a comparison needs, takes {needed >> 20} MiB, more "
                "than is free; name what to apply, with check: false"
            )
        try:
            expected = self._run(self._plain, compared)
        except Exception as error:  # noqa: BLE001  the model's own code
            self._is_final = False
            return self._declined(f"the plain model fails on the sample: {_cause(error)}")
        end = time.monotonic() + self._settings.budget_s
        best, best_trial = Change(), None
        wanted = self._wanted()
        for place, change in enumerate(wanted):
            now = time.monotonic()
            if place and now >= end:
                self._refused[str(change)] = f"the budget of {self._settings.budget_s:g} s was over"
                continue
            share_s = max(0.0, (end - now) / (len(wanted) - place))
            try:
                trial = self._tried(change, expected, compared, timed, share_s)
            except _Refused as error:
                self._refused[str(change)] = str(error)
                continue
            if best_trial is None or trial.gain > best_trial.gain:
                best, best_trial = change, trial
            if not self._settings.is_auto:
                break
        return Report(best, best_trial, dict(self._refused))

    def _wanted(self) -> list[Change]:
        """What to try; of what was asked for by name also the part that needs no compiler."""
        settings = self._settings
        if settings.is_auto:
            return candidates(self._plain, self._handler.device, settings.change.compile)
        change = settings.change
        less = replace(change, compile=None)
        return [change] if less.is_plain or less == change else [change, less]

    def _tried(
        self, change: Change, expected: Any, compared: Any, timed: Any, share_s: float
    ) -> Trial:
        """How a change does.

        Raises:
            _Refused: it is not to be taken.
        """
        why = refusal(self._plain, change)
        if why is not None:
            raise _Refused(why)
        try:
            changed = apply(copied(self._plain), change)
            found = difference(expected, self._run(changed, compared))
        except NotComparable as error:
            raise _Refused(str(error)) from error
        except Exception as error:  # the model's own code, or torch's compiler
            self._is_final = self._is_final and change.compile is None
            raise _Refused(_cause(error)) from error
        why = found.complaint(self._settings.tolerance, self._settings.agreement)
        if why is not None:
            raise _Refused(why)
        plain_s, changed_s = _raced(
            lambda: self._run(self._plain, timed), lambda: self._run(changed, timed), share_s
        )
        trial = Trial(plain_s * 1000, changed_s * 1000, self._rows, found.relative, found.agreement)
        if self._settings.is_auto and trial.gain < self._settings.min_gain:
            raise _Refused(f"it is only {trial.gain:.2f} times as fast")
        return trial

    def _run(self, model: Any, prepared: Any) -> Any:
        """What the handler's inference makes of a prepared sample with this model."""
        self._handler.model = model
        try:
            output = self._handler.inference(prepared)
            if self._handler.device.type == "cuda":
                torch.cuda.synchronize(self._handler.device)
            return output
        finally:
            self._handler.model = self._plain

    def _warm(self, change: Change, timed: Any) -> None:
        """Have everything compiled before requests come."""
        if change.compile is None:
            return
        # from here on, what cannot be compiled is answered uncompiled
        torch._dynamo.config.suppress_errors = True
        inputs = [timed]
        if self._rows > 1:
            inputs.append(self._samples.prepared(1))
        for prepared in inputs:
            self._handler.inference(prepared)


def _raced(
    plain: Callable[[], Any], changed: Callable[[], Any], share_s: float
) -> tuple[float, float]:
    """The shortest of several turns of each, in seconds; they take turns.

    The shortest, because whatever else runs on the machine can only ever add.
    """
    plain()
    changed()
    end = time.monotonic() + share_s
    turns: list[tuple[float, float]] = []
    while len(turns) < _LEAST_ROUNDS or (len(turns) < _MOST_ROUNDS and time.monotonic() < end):
        turns.append((_duration_s(plain), _duration_s(changed)))
    return min(one for one, _ in turns), min(two for _, two in turns)


def _duration_s(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _records(handler: Any, settings: OptimizeSettings, model_dir: Path) -> Records:
    properties = handler.context.system_properties
    device = handler.device
    is_gpu = device.type == "cuda"
    return Records(
        model_dir,
        [
            torch.__version__,
            str(torch.get_num_threads()),
            torch.cuda.get_device_name(device) if is_gpu else device.type,
            str(properties.get("batch_size")),
            repr(settings),
            type(handler).__qualname__,
        ],
    )


def _cause(error: BaseException) -> str:
    text = " ".join(str(error).split())[:_CAUSE_CHARS]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
