"""F-IPC: what a worker sends, whole or in pieces, gives the same frames or the same refusal.

The frames that come out are taken as results of a batch, as the server does: the answers that come
out of it are then bytes, or errors with a kind.
"""

import msgspec

from marserve.errors import MarServeError
from marserve.request import Answer
from marserve.workers.frames import HEADER, LARGE_BYTES, Decoder, Frame, FrameError, encode
from marserve.workers.messages import FrameKind, Result
from marserve.workers.replies import replies

_MAX_BYTES = 1 << 20
_results = msgspec.msgpack.Decoder(Result)


def _result(*parts: object, buffers: tuple[bytes, ...] = ()) -> bytes:
    return encode(FrameKind.RESULT, msgspec.msgpack.encode(parts), buffers)


SEEDS = [
    _result(1, 0.1, [2, 1], {}, [], buffers=(b"ab", b"c")),
    _result(1, 0.1, [0], {0: [200, None, None, [["X", "y"]]]}, []),
    _result(1, 0.1, [1, -1, 1, 1], {}, [], buffers=(b"ab",)),
    encode(FrameKind.LOADED, msgspec.msgpack.encode([0.5])),
    encode(FrameKind.PIECE, b"", (b"x" * LARGE_BYTES,)),
    encode(FrameKind.RESULT, b"meta") * 2,
    HEADER.pack(1, 1, 0, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF),
    b"",
]


def _read(pieces: list[bytes]) -> tuple[list[tuple[int, bytes, bytes]], bool]:
    decoder = Decoder(_MAX_BYTES)
    frames: list[Frame] = []
    try:
        for piece in pieces:
            frames.extend(decoder.feed(piece))
    except FrameError:
        return [(f.kind, f.meta, bytes(f.buffers)) for f in frames], True
    return [(f.kind, f.meta, bytes(f.buffers)) for f in frames], False


def one_input(data: bytes) -> None:
    """Raises if the way the bytes are cut changes what they mean, or an answer is made up."""
    whole = _read([data])
    step = max(data[-1] % 7 + 1, len(data) // 64) if data else 1
    cut = _read([data[at : at + step] for at in range(0, len(data), step)])
    assert whole == cut, (whole, cut)
    for _, meta, buffers in whole[0]:
        try:
            result = _results.decode(meta)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        if sum(result.sizes_bytes) != len(buffers):
            continue
        answers = list(replies(result, memoryview(buffers)))
        assert len(answers) == len(result.sizes_bytes)
        bodies = [one.body for one in answers if isinstance(one, Answer)]
        assert all(isinstance(one, Answer | MarServeError) for one in answers)
        assert sum(map(len, bodies)) <= len(buffers), "an answer has bytes of another"
