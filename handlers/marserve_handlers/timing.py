"""Measures the stages of a handler when its model asks for that."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

Method = TypeVar("Method", bound=Callable[..., Any])


def timed(method: Method) -> Method:
    """Report how long each call takes as the metric `ts_handler_` plus its name, in ms.

    Only for methods of a handler that keeps its context in `self.context`, and only when the
    model's YAML file says `handler: {profile: true}`; otherwise the call costs two look-ups. Work
    that is still under way on a GPU belongs to the stage that began it.
    """

    @functools.wraps(method)
    def measured(self: Any, *args: Any, **kwargs: Any) -> Any:
        context = getattr(self, "context", None)
        if context is None or not _wants_profile(context):
            return method(self, *args, **kwargs)
        _wait_for_gpu()
        started = time.perf_counter()
        result = method(self, *args, **kwargs)
        _wait_for_gpu()
        duration_ms = (time.perf_counter() - started) * 1000
        context.metrics.add_time(f"ts_handler_{method.__name__}", round(duration_ms, 2))
        return result

    return cast(Method, measured)


def _wants_profile(context: Any) -> bool:
    settings = getattr(context, "model_yaml_config", None)
    handler = settings.get("handler") if isinstance(settings, dict) else None
    return isinstance(handler, dict) and bool(handler.get("profile"))


def _wait_for_gpu() -> None:
    torch = sys.modules.get("torch")  # a handler without torch has nothing to wait for
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()
