"""How much clients may send beyond the usual window of a stream, so that large messages fit.

A stream that knows the length of its message asks for what it lacks. The sum of it is limited for
each connection; who comes later waits until others are done. So what is half received is bounded,
and no message that has begun to come waits for another that has not.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from marserve.protocols.h2_frames import window_update
from marserve.servers.h2_output import Output
from marserve.servers.h2_stream import STREAM_WINDOW, H2Stream

_LEAST_BYTES: Final = 64 * 1024 * 1024


class Allowance:
    """Of one connection. `max_message_bytes`: as much fits in any case."""

    def __init__(self, output: Output, max_message_bytes: int) -> None:
        self._output = output
        self._free_bytes = max(_LEAST_BYTES, max_message_bytes + STREAM_WINDOW)
        self._queue: deque[tuple[H2Stream, int]] = deque()

    def ask(self, stream: H2Stream, missing_bytes: int) -> None:
        """The stream's message lacks so many bytes; called once for each message."""
        lacking = missing_bytes - stream.window_in
        if lacking <= 0 or stream.is_ended:
            return
        self._queue.append((stream, lacking))
        self._serve()

    def read(self, stream: H2Stream, size_bytes: int) -> None:
        """A message of the stream is out of the way: others may follow."""
        granted = min(stream.granted_bytes, size_bytes)
        if granted:
            stream.granted_bytes -= granted
            self._free_bytes += granted
            self._serve()
        stream.read_bytes += size_bytes - granted
        if stream.read_bytes >= STREAM_WINDOW // 2 and not stream.is_ended:
            self._widen(stream, stream.read_bytes)
            stream.read_bytes = 0

    def unused(self, stream: H2Stream, size_bytes: int) -> None:
        """So much was padding, which no message takes into account."""
        if not stream.is_ended:
            self._widen(stream, size_bytes)

    def closed(self, stream: H2Stream) -> None:
        """The stream is over."""
        if stream.granted_bytes:
            self._free_bytes += stream.granted_bytes
            stream.granted_bytes = 0
        if self._queue:
            self._serve()

    def _serve(self) -> None:
        while self._queue:
            stream, lacking = self._queue[0]
            if not stream.is_over:
                if lacking > self._free_bytes:
                    return
                self._free_bytes -= lacking
                stream.granted_bytes += lacking
                self._widen(stream, lacking)
            self._queue.popleft()

    def _widen(self, stream: H2Stream, increment: int) -> None:
        stream.window_in += increment
        self._output.write(window_update(stream.stream_id, increment))
