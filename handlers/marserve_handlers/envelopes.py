"""Envelopes: what stands between requests of a protocol and a handler that knows none.

An envelope turns the rows of a batch into what the handler is to see, and the handler's results
into answers. `service_envelope` names one for all models of a server; `wrap` puts it around an
entry point. A body that is not what the envelope asks for is the client's mistake: 400.
"""

from __future__ import annotations

import base64
import binascii
import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from marserve_handlers.contract import Context
from marserve_handlers.errors import HandlerError, HandlerLoadFailed, PredictionException
from marserve_handlers.payload import plain

Handle: TypeAlias = Callable[[Any, Context], Any]


class BaseEnvelope(ABC):
    """The base of envelopes.

    Args:
        handle_fn: the handler's `handle`.
    """

    context: Context

    def __init__(self, handle_fn: Handle) -> None:
        self._handle_fn = handle_fn

    def handle(self, data: list[Any], context: Context) -> Any:
        """Unpack the batch, run the handler, pack its results."""
        self.context = context
        return self.format_output(self._handle_fn(self.parse_input(data), context))

    async def handle_async(self, data: list[Any], context: Context) -> Any:
        """`handle` around a handler that must be awaited."""
        self.context = context
        return self.format_output(await self._handle_fn(self.parse_input(data), context))

    @abstractmethod
    def parse_input(self, data: list[Any]) -> Any:
        """What the handler sees of the rows of a batch."""

    @abstractmethod
    def format_output(self, data: Any) -> Any:
        """What the clients get of the handler's results."""


class BodyEnvelope(BaseEnvelope):
    """The handler sees each request's `data` or body itself, instead of a row."""

    def parse_input(self, data: list[Any]) -> list[Any]:
        """Each row's `data`, or else its body."""
        return [_value(row) for row in data]

    def format_output(self, data: Any) -> Any:
        """The results as they are."""
        return data


class JSONEnvelope(BaseEnvelope):
    """`{"instances": […]}` of all requests becomes one list; each gets `{"predictions": […]}`."""

    def __init__(self, handle_fn: Handle) -> None:
        super().__init__(handle_fn)
        self._lengths: list[int] = []

    def parse_input(self, data: list[Any]) -> list[Any]:
        """The instances of all requests, one after the other."""
        batches = [_instances(row) for row in data]
        self._lengths = [len(batch) for batch in batches]
        return [instance for batch in batches for instance in batch]

    def format_output(self, data: Any) -> list[str]:
        """Each request's share of the results, as one line of JSON.

        Raises:
            HandlerError: there is not one result per instance, or JSON cannot hold one.
        """
        if not isinstance(data, Sequence) or len(data) != sum(self._lengths):
            count = len(data) if isinstance(data, Sequence) else f"a {type(data).__name__}"
            raise HandlerError(
                f"number of batch response mismatched: the handler returned {count} results for "
                f"{sum(self._lengths)} instances"
            )
        answers = []
        start = 0
        for length in self._lengths:
            share = list(data[start : start + length])
            answers.append(json.dumps({"predictions": share}, default=plain))
            start += length
        return answers


class KServeEnvelope(BaseEnvelope):
    """KServe's protocol, version 1, for the first request of a batch: use batch size 1."""

    def parse_input(self, data: list[Any]) -> Any:
        """The first request's `instances`; None when it has none."""
        return json_object(data[0]).get("instances")

    def format_output(self, data: Any) -> list[Any]:
        """One object with all results, called predictions or explanations."""
        is_explain = self.context.get_request_header(0, "explain") == "True"
        return [{"explanations" if is_explain else "predictions": data}]


ENVELOPES: Final = ("body", "json", "kserve", "kservev2")


def wrap(name: str, handle: Handle, is_async: bool = False) -> Handle:
    """`handle`, inside the envelope called `name`.

    A request to describe the handler goes past the envelope.

    Args:
        name: one of `ENVELOPES`.
        handle: the entry point.
        is_async: its result must be awaited; so must the wrapped one's then. A coroutine function
            says so itself.

    Raises:
        HandlerLoadFailed: there is no such envelope.
    """
    envelope = _envelope(name)
    if is_async or inspect.iscoroutinefunction(handle):

        async def handle_async(data: Any, context: Context) -> Any:
            if _is_describe(context):
                return await handle(data, context)
            # requests overlap, and an envelope remembers what it has unpacked: one for each
            return await envelope(handle).handle_async(data, context)

        return handle_async

    wrapped = envelope(handle)

    def handle_in_envelope(data: Any, context: Context) -> Any:
        if _is_describe(context):
            return handle(data, context)
        return wrapped.handle(data, context)

    return handle_in_envelope


def json_object(row: Any) -> dict[str, Any]:
    """The JSON object that a request sent as `data` or as its body.

    Raises:
        PredictionException: it sent something else (status 400).
    """
    return _as_object(_value(row) if isinstance(row, dict) else row)


def _as_object(value: Any) -> dict[str, Any]:
    if isinstance(value, bytes | bytearray | str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise PredictionException(f"The body is not JSON: {error}.", 400) from error
    if not isinstance(value, dict):
        found = {list: "array", type(None): "null"}.get(type(value), type(value).__name__)
        raise PredictionException(f"The body is a JSON object here, not {found}.", 400)
    return value


def _envelope(name: str) -> type[BaseEnvelope]:
    match name:
        case "body":
            return BodyEnvelope
        case "json":
            return JSONEnvelope
        case "kserve":
            return KServeEnvelope
        case "kservev2":
            from marserve_handlers.kservev2_envelope import KServev2Envelope  # needs numpy

            return KServev2Envelope
        case _:
            raise HandlerLoadFailed(
                f"There is no service envelope {name!r}; use one of {', '.join(ENVELOPES)}."
            )


def _is_describe(context: Context) -> bool:
    return bool(context.request_processor) and context.get_request_header(0, "describe") == "True"


def _value(row: dict[str, Any]) -> Any:
    """`data`, or else the body; an empty `data` counts as none."""
    return row.get("data") or row.get("body")


def _instances(row: Any) -> list[Any]:
    value = _value(row) if isinstance(row, dict) else None
    document = _as_object(value or row)
    instances = document.get("instances")
    if not isinstance(instances, list):
        raise PredictionException('The body has no list "instances".', 400)
    if not instances or not isinstance(instances[0], dict):
        return instances
    return [_decoded(instance) for instance in instances]


def _decoded(instance: Any) -> Any:
    """An instance, or its columns, with base64 undone."""
    if not isinstance(instance, dict):
        return instance
    if "b64" in instance:
        return _from_base64(instance["b64"])
    return {
        column: _from_base64(value["b64"]) if isinstance(value, dict) and "b64" in value else value
        for column, value in instance.items()
    }


def _from_base64(text: Any) -> bytes:
    try:
        return base64.b64decode(text)
    except (TypeError, ValueError, binascii.Error) as error:
        raise PredictionException(f'The value of "b64" is not base64: {error}.', 400) from error
