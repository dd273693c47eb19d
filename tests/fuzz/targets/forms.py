"""F-MULTI: a body as the parts that its content type says it has: parts, or InvalidInput."""

from marserve.errors import InvalidInput
from marserve.protocols import torchserve

_PART = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n'
_FILE = (
    b'--b\r\nContent-Disposition: form-data; name="f"; filename="n"\r\n'
    b"Content-Type: text/plain; charset=utf-8\r\n\r\ny\r\n"
)
_KINDS = (
    b"multipart/form-data; boundary=b",
    b'multipart/form-data; boundary="b"',
    b"application/x-www-form-urlencoded",
    b"application/json",
)
SEEDS = [
    b"\0" + _PART + _FILE + b"--b--\r\n",
    b"\1preamble\r\n" + _PART + b"--b--",
    b"\0" + _PART.replace(b"\r\n", b"\n") + b"--b--\n",
    b"\0--b\r\nContent-Disposition: form-data; name*=utf-8''%e2; name=\"\xe9\"\r\n\r\n\r\n--b--",
    b"\0--b\r\nX: " + b"y" * 3000 + b"\r\n\r\n--b--",
    b"\2a=1&b=%00&&c&a=%zz",
    b"\2" + b"a&" * 1200,
    b"\3{}",
]


def one_input(data: bytes) -> None:
    """Raises if anything else comes of it."""
    kind = _KINDS[data[0] % len(_KINDS)] if data else _KINDS[0]
    try:
        found = torchserve.parts(kind, data[1:])
    except InvalidInput:
        return
    assert all(isinstance(n, str) and isinstance(v, bytes) for n, _, v in found), found
    assert len({name for name, _, _ in found}) == len(found)
    assert sum(len(value) for _, _, value in found) <= len(data)
