"""One gRPC call: from its headers to its status, whatever ends it.

A call that is served by callbacks makes no task, and its answer leaves in one write.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.message import Message

from marserve.errors import InvalidInput, ShuttingDown
from marserve.events import Origin
from marserve.protocols import h2_frames as h2
from marserve.protocols.grpc_heads import ANSWER_HEAD, OK_TRAILERS, CallHead, no_grpc, trailers
from marserve.protocols.grpc_messages import (
    PREFIX_BYTES,
    Messages,
    check_encoding,
    prefixed,
    whole,
)
from marserve.protocols.grpc_status import (
    CallRefused,
    Code,
    deadline_passed,
    failure,
    metadata_too_large,
    no_such_method,
    not_one_message,
    too_many_calls,
)
from marserve.protocols.h2_frames import ErrorCode
from marserve.protocols.terms import Terms, terms
from marserve.servers.grpc_methods import Kind, Method
from marserve.servers.h2_stream import H2Stream

if TYPE_CHECKING:
    from marserve.servers.grpc_calls import Calls
    from marserve.servers.h2_streams import H2Streams

MAX_CALLS = 5000
"""Calls at one time on one port; what is more gets RESOURCE_EXHAUSTED."""
_LINGER_S = 0.05
"""How long a client that is refused may go on sending before it is cut off: some take it for a
failure of their own, and never look at the status."""
_DEADLINE_SLACK_S = 0.1
"""A client whose deadline passes cancels; by our clock there may be a moment left then."""

_HEAD_KIND: Final = len(ANSWER_HEAD) << 8 | h2.HEADERS
_END: Final = h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, 0, OK_TRAILERS)
_BEFORE = Struct(f">IBI{len(ANSWER_HEAD)}sIBIBI").pack
_END_START: Final = _END[:5]
_END_HEADERS: Final = h2.END_HEADERS
_DIRECT, _CONVERSING = Kind.DIRECT, Kind.CONVERSING  # quicker than reading them off the enum


class CallKind:
    """What is the same for all calls that one connection begins with the same headers."""

    __slots__ = ("head", "is_plain", "method", "origin", "refused", "terms")

    def __init__(
        self,
        head: CallHead,
        method: Method,
        origin: Origin,
        is_guarded: bool,
        is_trusted: bool = False,
    ) -> None:
        """`is_trusted`: clients are believed what they say of their calls."""
        self.terms: Terms | None = None
        """What the client says of the call besides its content; None: nothing."""
        self.refused: InvalidInput | None = None
        """It says that in a way that cannot be understood."""
        try:
            self.terms = terms(head.said, is_trusted) if head.said else None
        except InvalidInput as error:
            self.refused = error
        self.head = head
        self.method = method
        self.origin = origin
        self.is_plain = (
            method.kind is Kind.DIRECT
            and head.http_status == 200
            and head.timeout_s is None
            and head.may_repeat
            and head.encoding == "identity"
            and not (head.is_too_large or is_guarded or head.said)
        )
        """Whether nothing has to be done before the message is there."""


class GrpcCall(H2Stream):
    """Owned by its connection."""

    # what hardly ever differs is an attribute of the class
    on_gone: Callable[[], None] | None = None
    """Called if nobody waits for the answer any more."""
    deadline: float | None = None
    """By when the client must have the answer; None: it did not say."""
    may_repeat = True
    """Whether the request may be executed again when a worker dies with it."""
    _messages: Messages | None = None
    _received_bytes = 0
    _has_asked = False
    _is_done = False
    _is_running = False
    _code = Code.OK
    _task: asyncio.Task[None] | None = None
    _timer: asyncio.TimerHandle | None = None
    _arrival: asyncio.Future[None] | None = None
    _refusal: bytes | None = None

    def __init__(self, calls: Calls, connection: H2Streams, stream_id: int, kind: CallKind) -> None:
        # as H2Stream does; a call to it would take as long as all of this
        self.connection = connection
        self.stream_id = stream_id
        self.window = connection.output.initial_window
        self.method = kind.method
        self.origin = kind.origin
        """Who calls what."""
        self.terms = kind.terms
        """What the client says of the call besides its content; None: nothing."""
        self._calls = calls
        self._kind = kind
        self._head = kind.head
        self._started = calls.clock()

    # --- what the connection tells ----------------------------------------------------------------

    def opened(self, is_last: bool) -> None:
        """The headers are there."""
        head, method = self._head, self.method
        if self._kind.is_plain:
            if is_last:
                self.received(b"", True)
            return
        if head.http_status != 200:
            self._is_done = True
            self.connection.output.end(self, no_grpc(head.http_status))
            return
        try:
            self._admit(head, method)
            if method.kind is _CONVERSING:
                self._run(self._converse)
        except Exception as error:  # noqa: BLE001  every call gets a status
            self.fail(error)
            return
        if is_last:
            self.received(b"", True)

    def received(self, data: bytes, is_last: bool) -> None:
        """More of the body."""
        if self._is_done:
            if is_last:
                self._refuse()
            return
        self._received_bytes += len(data)
        announced = self._head.body_bytes
        if announced is not None and (
            self._received_bytes > announced or (is_last and self._received_bytes != announced)
        ):
            self.connection.reset(self, ErrorCode.PROTOCOL_ERROR)
            return
        try:
            if self.method.kind is not _CONVERSING:
                raw = self._one_message(data, is_last)
                if raw is not None:
                    self._serve(raw)
                return
            self._buffer().feed(data)
            if self._arrival is not None and not self._arrival.done():
                self._arrival.set_result(None)
        except Exception as error:  # noqa: BLE001  every call gets a status
            self.fail(error)

    def gone(self) -> None:
        """Nobody waits for the answer any more."""
        if self._is_done:
            self._refusal = None
            return
        if self._code is Code.OK:
            deadline, now = self.deadline, self._calls.clock()
            is_late = deadline is not None and now + _DEADLINE_SLACK_S >= deadline
            self._code = Code.DEADLINE_EXCEEDED if is_late else Code.CANCELLED
        if self._task is not None:
            self._task.cancel()  # and `_done` comes when it is over
            return
        on_gone, self.on_gone = self.on_gone, None
        if on_gone is not None:
            on_gone()
        self._finish(self._code)

    # --- the answer -------------------------------------------------------------------------------

    def reply(self, message: Message) -> None:
        """The one answer; nothing comes after it."""
        if self._is_done or self._is_cut():
            return
        data = message.SerializeToString()
        size = len(data)
        output, stream_id = self.connection.output, self.stream_id
        self._finish(Code.OK)
        if output.takes(self, PREFIX_BYTES + size):
            data_kind = size + PREFIX_BYTES << 8
            before = _BEFORE(
                _HEAD_KIND, _END_HEADERS, stream_id, ANSWER_HEAD, data_kind, 0, stream_id, 0, size
            )  # fmt: skip
            end = _END_START + stream_id.to_bytes(4, "big") + OK_TRAILERS
            output.last(self, before + data + end, self.connection.is_alone)
        else:
            output.begin(self, ANSWER_HEAD)
            output.data(self, prefixed(data))
            output.end(self, OK_TRAILERS)

    def fail(self, error: BaseException) -> None:
        """There is no answer, or no end of it."""
        if self._is_done or self._is_cut():
            return
        told = failure(error, self.method.plane)
        self._finish(told.code)
        is_all = not self.has_begun
        self._end(trailers(told.code, told.description, is_all, told.word, told.retry_after_s))

    def refuse(self) -> None:
        """The server ends before the answer is there: say so."""
        on_gone, self.on_gone = self.on_gone, None
        self.fail(ShuttingDown("The server is being stopped."))
        if on_gone is not None:
            on_gone()
        if self._task is not None:
            self._task.cancel()

    async def write(self, message: Message) -> None:
        """Send one of several messages; waits while the client does not read."""
        output = self.connection.output
        if self.is_over:
            return
        if not self.has_begun:
            output.begin(self, ANSWER_HEAD)
        output.data(self, prefixed(message.SerializeToString()))
        await output.drained(self)

    async def read(self) -> Message | None:
        """The next message; None when the client has sent its last one.

        Raises:
            InvalidInput: it is not what the service describes.
            CallRefused: it is too large, or cut off.
        """
        messages, allowance = self._buffer(), self.connection.allowance
        while (one := messages.next()) is None:
            if self.is_ended:
                if messages.is_empty:
                    return None
                raise CallRefused(not_one_message())
            self._ask_for(messages.missing_bytes)
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival
        raw, size_bytes = one
        self._has_asked = False
        allowance.read(self, size_bytes)
        return self.method.parse(raw)

    # --- in between -------------------------------------------------------------------------------

    def _admit(self, head: CallHead, method: Method) -> None:
        if head.is_too_large:
            raise CallRefused(metadata_too_large())
        if not method.is_open:
            self._calls.check(head.authorization)
        if method.kind is Kind.UNKNOWN:
            raise CallRefused(no_such_method(method.path))
        check_encoding(head.encoding)
        if not head.may_repeat:
            self.may_repeat = False
        if self._kind.refused is not None:
            raise self._kind.refused
        if self.terms is not None:
            self.deadline = self.terms.ends_at(self._started, time.time)
        if head.timeout_s is not None:
            ends_at = self._started + head.timeout_s
            self.deadline = ends_at if self.deadline is None else min(self.deadline, ends_at)
        if self.deadline is not None:
            left_s = max(0.0, self.deadline - self._started)
            self._timer = self.connection.loop.call_later(left_s, self._late)

    def _buffer(self) -> Messages:
        if self._messages is None:
            self._messages = Messages(self._head.encoding, self._calls.max_message_bytes)
        return self._messages

    def _one_message(self, data: bytes, is_last: bool) -> bytes | None:
        """The message of a call that has one; None while it is not complete.

        Raises:
            CallRefused: it is too large, or there is not one message.
        """
        if is_last and self._messages is None:
            raw = whole(data, self._calls.max_message_bytes)
            if raw is not None:
                return raw
        messages = self._buffer()
        messages.feed(data)
        self._ask_for(messages.missing_bytes)
        if not is_last:
            return None
        one = messages.next()
        if one is None or not messages.is_empty:
            raise CallRefused(not_one_message())
        self._messages = None
        self.connection.allowance.closed(self)
        return one[0]

    def _ask_for(self, missing_bytes: int) -> None:
        if missing_bytes and not self._has_asked:
            self._has_asked = True
            self.connection.allowance.ask(self, missing_bytes)

    def _serve(self, raw: bytes) -> None:
        request = self.method.parse(raw)
        if self.method.kind is _DIRECT:
            self._enter()
            self.method.serve(request, self)
        elif self.method.kind is Kind.UNARY:
            self._run(lambda: self._unary(request))
        else:
            self._run(lambda: self._stream(request))

    def _enter(self) -> None:
        calls = self._calls
        if calls.running >= MAX_CALLS:
            raise CallRefused(too_many_calls(MAX_CALLS))
        calls.running += 1
        self._is_running = True

    def _run(self, serve: Callable[[], Any]) -> None:
        self._enter()
        self._task = self.connection.loop.create_task(self._guarded(serve))
        self._calls.tasks.add(self._task)
        self._task.add_done_callback(self._done)

    async def _guarded(self, serve: Callable[[], Any]) -> None:
        try:
            await serve()
        except Exception as error:  # noqa: BLE001  every call gets a status
            self.fail(error)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._calls.tasks.discard(task)
        self._finish(self._code)

    async def _unary(self, request: Message) -> None:
        self.reply(await self.method.serve(request, self))

    async def _stream(self, request: Message) -> None:
        async with aclosing(self.method.serve(request, self)) as replies:
            async for reply in replies:
                await self.write(reply)
        self._complete()

    async def _converse(self) -> None:
        await self.method.serve(self, self)
        self._complete()

    def _complete(self) -> None:
        if not self._is_done and not self._is_cut():
            self._finish(Code.OK)
            block = OK_TRAILERS if self.has_begun else trailers(Code.OK, "", is_all=True)
            self.connection.output.end(self, block)

    def _is_cut(self) -> bool:
        """Whether the stream is over already: then the outcome is what ended it."""
        if self.is_over:
            self._finish(self._code)
        return self.is_over

    def _end(self, block: bytes) -> None:
        """End the call, but give a client that still sends a moment to do so in peace."""
        if self.is_ended or self.has_begun:
            self.connection.output.end(self, block)
        else:
            self._refusal = block
            self._timer = self.connection.loop.call_later(_LINGER_S, self._refuse)

    def _refuse(self) -> None:
        block, self._refusal = self._refusal, None
        if block is not None and not self.is_over:
            self.connection.output.end(self, block)

    def _late(self) -> None:
        """The deadline has passed."""
        if self._is_done or self.is_over:
            return
        self._code = Code.DEADLINE_EXCEEDED
        output = self.connection.output
        output.drop(self)
        told = deadline_passed()
        output.end(self, trailers(told.code, told.description, is_all=not self.has_begun))
        self.gone()

    def _finish(self, code: Code) -> None:
        """The outcome is known: tell the bus, once."""
        if self._is_done:
            return
        self._is_done = True
        self.on_gone = None
        if self._timer is not None:
            self._timer.cancel()
        if self._is_running:
            self._calls.running -= 1
        self._calls.answered(self.origin, code, self._started)
