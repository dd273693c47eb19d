"""F-HTTP: bytes are requests, more to come, or one refusal, the same whole or byte by byte."""

from marserve.servers.request_reader import RequestReader

_HEAD = b"POST /a HTTP/1.1\r\nHost: x\r\n"
SEEDS = [
    _HEAD + b"Content-Length: 5\r\n\r\nabcde",
    (_HEAD + b"Content-Length: 5\r\n\r\nabcde") * 3,
    _HEAD + b'Transfer-Encoding: chunked\r\n\r\n5;a="b"\r\nabcde\r\n0\r\nX: y\r\n\r\n',
    (_HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n") * 2,
    b"GET /a?b=c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"\r\nHEAD / HTTP/1.0\r\n\r\n",
    _HEAD + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nab",
    _HEAD + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    _HEAD + b"Content-Length: 1000\r\n\r\n",
]
_MAX_BODY_BYTES = 512


class _Told:
    def __init__(self) -> None:
        self.told: list[object] = []

    def on_request(self, head, body):
        self.told.append(
            (head.method, head.target, [*head.headers], head.keep_alive, head.takes_chunks, body)
        )

    def on_refused(self, status):
        self.told.append(status)

    def on_expect(self):
        self.told.append("expects")


def _read(reads: list[bytes]) -> list[object]:
    owner = _Told()
    reader = RequestReader(_MAX_BODY_BYTES, owner)
    for data in reads:
        reader.feed(data, 0.0)
    return owner.told


def one_input(data: bytes) -> None:
    """Raises if the cuts matter, or anything is read after a refusal."""
    whole = _read([data])
    assert whole == _read([data[at : at + 1] for at in range(len(data))])
    middle = len(data) // 2
    assert whole == _read([data[:middle], data[middle:]])
    refusals = [at for at, one in enumerate(whole) if isinstance(one, int)]
    assert refusals in ([], [len(whole) - 1]), whole
