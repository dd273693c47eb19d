"""What a handler is given besides its rows: the model's surroundings and each request's headers.

A handler is a class with `initialize(context)` and `handle(data, context) -> list`, or a function
`handle(data, context)`. One `Context` lives as long as the worker process; `begin_batch` renews
the part of it that belongs to the requests.
"""

from __future__ import annotations

import copy
import math
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from marserve_handlers.metrics import Metrics
from marserve_handlers.streaming import Connection, WorkerConnection

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FORBIDDEN: Final = re.compile(r"[\x00\r\n]")
_UNCOMPARED: Final = frozenset({"foreign_connection", "send_intermediate"})
"""Attributes that say where a context is used, not what it holds."""

SendIntermediate: TypeAlias = "Callable[[list[object], Context], None]"
"""Sends one piece per request of the context's batch; statuses and headers are the context's."""


class RequestProcessor:
    """The headers of one request, and what its response shall look like besides the body."""

    __slots__ = ("_properties", "_response_headers", "_status", "_status_phrase")

    def __init__(self, request_header: dict[str, Any]) -> None:
        self._properties = request_header
        self._response_headers: dict[str, str] = {}
        self._status = 200
        self._status_phrase: str | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RequestProcessor):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment] # mutable, compared by content

    def get_request_property(self, key: str) -> Any:
        """The request header `key`, spelled as the client sent it; None if absent."""
        return self._properties.get(key)

    def get_request_properties(self) -> dict[str, Any]:
        """All request headers."""
        return self._properties

    def report_status(self, code: int, reason_phrase: str | None = None) -> None:
        """Answer with this HTTP status.

        Raises:
            TypeError: `code` is not an int or the phrase not a str.
            ValueError: `code` is not 200 to 999, or the phrase has a line break.
        """
        if not isinstance(code, int):
            raise TypeError(f"A response status is an int, not {type(code).__name__}: {code!r}.")
        if not 200 <= code <= 999:
            raise ValueError(f"A response status is 200 to 999, not {code}.")
        if reason_phrase is not None:
            _check_text("A status phrase", reason_phrase)
        self._status = int(code)
        self._status_phrase = reason_phrase

    def get_response_status_code(self) -> int:
        """200 unless something else was reported."""
        return self._status

    def get_response_status_phrase(self) -> str | None:
        """None unless one was reported."""
        return self._status_phrase

    def add_response_property(self, key: str, value: str) -> None:
        """Send a response header.

        Raises:
            TypeError: name or value is not a str.
            ValueError: the name is no header name, or the value cannot stand in a header.
        """
        if not isinstance(key, str):
            raise TypeError(f"A response header's name is a str, not {type(key).__name__}.")
        if not _HEADER_NAME.fullmatch(key):
            raise ValueError(f"{key!r} is not a name that a response header can have.")
        _check_text(f"The response header {key}", value)
        self._response_headers[key] = value

    def get_response_headers(self) -> dict[str, str]:
        """All response headers that the handler set."""
        return self._response_headers

    def get_response_header(self, key: str) -> str | None:
        """One response header, or None."""
        return self._response_headers.get(key)


class Context:
    """The model, its surroundings and the requests of the current batch.

    A handler may set attributes of its own; they live as long as the worker. Each request of an
    asynchronous handler gets a deep copy; what cannot be copied (locks, engines) is shared.

    Args:
        model_name: the name under which the model is registered.
        model_dir: where the archive's files are.
        manifest: everything that `MAR-INF/MANIFEST.json` says.
        batch_size: how many requests a batch holds at most.
        gpu: the number of the worker's device; None: the CPU.
        mms_version: the server's version.
        limit_max_image_pixels: whether images of any size are to be refused.
        metrics: where figures are reported; None: to an object of its own.
        model_yaml_config: everything that the model's YAML file says.

    Attributes:
        model_name: the name under which the model is registered.
        manifest: everything that `MAR-INF/MANIFEST.json` says.
        model_yaml_config: everything that the model's YAML file says; empty without one.
        request_ids: index in the batch to request id; None while the model loads.
        request_processor: one entry per request of the batch; None while the model loads.
        metrics: report figures of your own here.
        stopping_criteria: None, or one callable per request.
        send_intermediate: sends pieces of answers before the answers; None where nobody waits for
            them. Handlers call `send_intermediate_predict_response`.
        ends_at: until when the batch must be answered, or the worker is ended (responseTimeout), by
            `time.monotonic()`; `inf`: there is no such limit.
        deadlines: until when the client of each request waits, likewise; `inf` where one does not
            say, and empty where none does. `deadline` and `remaining_s` look at both.
        foreign_connection: a socket that was put in the place of `cl_socket`, as tests of handlers
            do; None in a worker.
    """

    def __init__(
        self,
        model_name: str,
        model_dir: str,
        manifest: dict[str, Any],
        batch_size: int,
        gpu: int | None = None,
        mms_version: str = "",
        limit_max_image_pixels: bool = True,
        metrics: Metrics | None = None,
        model_yaml_config: dict[str, Any] | None = None,
    ) -> None:
        self.model_name = model_name
        self.manifest = manifest
        self.model_yaml_config: dict[str, Any] = model_yaml_config or {}
        self._system_properties: dict[str, Any] = {
            "model_dir": model_dir,
            "gpu_id": gpu,
            "batch_size": batch_size,
            "server_name": "MMS",
            "server_version": mms_version,
            "limit_max_image_pixels": limit_max_image_pixels,
        }
        self.request_ids: dict[int, str] | None = None
        self.request_processor: list[RequestProcessor] | None = None
        self.metrics = _default_metrics(model_name) if metrics is None else metrics
        self.stopping_criteria: Sequence[Callable[[Any], bool | None]] | None = None
        self.send_intermediate: SendIntermediate | None = None
        self.ends_at = math.inf
        self.deadlines: tuple[float, ...] = ()
        self.foreign_connection: Connection | None = None
        self.header_key_sequence_id = "ts_request_sequence_id"
        self.header_key_sequence_start = "ts_request_sequence_start"
        self.header_key_sequence_end = "ts_request_sequence_end"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Context):
            return NotImplemented
        return _compared(self) == _compared(other)

    __hash__ = None  # type: ignore[assignment] # mutable, compared by content

    def __deepcopy__(self, memo: dict[int, Any]) -> Context:
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        for name, value in self.__dict__.items():
            is_ours = name in _UNCOMPARED  # the worker's, not the model's
            copied.__dict__[name] = value if is_ours else _copied(value, memo)
        return copied

    @property
    def system_properties(self) -> dict[str, Any]:
        """model_dir, gpu_id, batch_size, server_name, server_version, limit_max_image_pixels."""
        return self._system_properties

    @property
    def cl_socket(self) -> Connection:
        """Takes intermediate responses that `create_predict_response` made.

        Raises:
            AttributeError: the model is still loading.
        """
        if self.foreign_connection is not None:
            return self.foreign_connection
        if self.request_ids is None:
            raise AttributeError(
                "There is no cl_socket yet: intermediate responses are sent from handle, not from "
                "initialize."
            )
        return WorkerConnection(self)

    @cl_socket.setter
    def cl_socket(self, connection: Connection) -> None:
        self.foreign_connection = connection

    def begin_batch(self, request_ids: Sequence[str], headers: Sequence[dict[str, Any]]) -> None:
        """Forget the last batch and take up this one. Called by the server, not by handlers."""
        self.request_ids = dict(enumerate(request_ids))
        self.request_processor = [RequestProcessor(header) for header in headers]
        self.deadlines = ()
        self.metrics.set_request_ids(self.request_ids)

    # --- the time ---------------------------------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        """Until when the first of the batch's requests must be answered, by `time.monotonic()`.

        The shorter of what its client waits and what the worker may take (responseTimeout); None:
        there is no limit. What comes later reaches nobody.
        """
        earliest = min(self.ends_at, *self.deadlines) if self.deadlines else self.ends_at
        return None if earliest == math.inf else earliest

    def remaining_s(self, idx: int | None = None) -> float:
        """How many seconds are left to answer request `idx`, or the most urgent of the batch.

        0 when it is too late; `math.inf` where there is no limit.
        """
        ends_at = self.ends_at
        if idx is None:
            ends_at = min(ends_at, *self.deadlines) if self.deadlines else ends_at
        elif self.deadlines:
            ends_at = min(ends_at, self.deadlines[idx])
        return max(0.0, ends_at - time.monotonic())

    # --- the request --------------------------------------------------------------------------

    def get_request_id(self, idx: int = 0) -> str | None:
        """The id of request `idx`, which its client also gets as the header x-request-id."""
        return None if self.request_ids is None else self.request_ids.get(idx)

    def get_request_header(self, idx: int, key: str) -> Any:
        """A header of request `idx`, spelled as the client sent it; None if absent."""
        return self._request(idx).get_request_property(key)

    def get_all_request_header(self, idx: int) -> dict[str, Any]:
        """All headers of request `idx`."""
        return self._request(idx).get_request_properties()

    def get_sequence_id(self, idx: int) -> str | None:
        """The sequence that request `idx` belongs to, if it named one."""
        sequence_id: str | None = self.get_request_header(idx, self.header_key_sequence_id)
        return sequence_id

    # --- the response -------------------------------------------------------------------------

    def set_response_content_type(self, idx: int, value: str) -> None:
        """Send this content type with answer `idx`."""
        self.set_response_header(idx, "content-type", value)

    def get_response_content_type(self, idx: int) -> str | None:
        """The content type that was set for answer `idx`."""
        return self._request(idx).get_response_header("content-type")

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        """Send a header with answer `idx`; see `RequestProcessor.add_response_property`."""
        self._request(idx).add_response_property(key, value)

    def get_response_headers(self, idx: int) -> dict[str, str]:
        """The headers that were set for answer `idx`."""
        return self._request(idx).get_response_headers()

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        """Answer request `idx` with this HTTP status."""
        self._request(idx).report_status(code, phrase)

    def set_all_response_status(self, code: int = 200, phrase: str = "") -> None:
        """Answer every request of the batch with this HTTP status."""
        for processor in self.request_processor or ():
            processor.report_status(code, phrase)

    def get_response_status(self, idx: int) -> tuple[int, str | None]:
        """Status and phrase of answer `idx`; `(200, None)` when nothing was set."""
        processor = self._request(idx)
        return processor.get_response_status_code(), processor.get_response_status_phrase()

    def _request(self, idx: int) -> RequestProcessor:
        if self.request_processor is None:
            raise RuntimeError(
                "There is no request yet: headers and statuses exist in handle, not in initialize."
            )
        return self.request_processor[idx]


def _default_metrics(model_name: str) -> Metrics:
    metrics = Metrics(model_name=model_name)
    metrics.initialize_cache()
    return metrics


def _compared(context: Context) -> dict[str, Any]:
    return {name: value for name, value in vars(context).items() if name not in _UNCOMPARED}


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    try:
        return copy.deepcopy(value, memo)
    except (TypeError, ValueError, RuntimeError, copy.Error):
        return value  # locks, sockets, tensors of a graph: nobody can copy them


def _check_text(what: str, value: str) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{what} is a str, not {type(value).__name__}: {value!r}.")
    if _FORBIDDEN.search(value):
        raise ValueError(f"{what} may not hold a line break or a NUL: {value!r}.")
    if not value.isascii():
        try:
            value.encode("latin-1")
        except UnicodeEncodeError:
            raise ValueError(
                f"{what} holds characters that HTTP cannot carry: {value!r}."
            ) from None
