"""Requests that readers are known to understand in different ways, and what must become of each.

Generated from small tables by published category (CL.TE, TE.CL, TE.TE, CL.0, 0.CL, bare line feeds,
folding, chunk lines, trailers, whitespace, versions, targets, hosts), so that a new spelling is one
more entry. `CANARY` follows each: a refused request must not let it be read, and after a served one
it must be read as a request of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

HOST = b"Host: x\r\n"
CANARY = b"GET /canary HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"0\r\n\r\n"
ONE = b"1\r\na\r\n"


@dataclass(frozen=True, slots=True)
class Case:
    """One request. `body`: what is served; None: it is refused."""

    name: str
    data: bytes
    body: bytes | None = None


def _post(fields: bytes, body: bytes = b"") -> bytes:
    return b"POST /a HTTP/1.1\r\n" + HOST + fields + b"\r\n\r\n" + body


def _chunked(body: bytes) -> bytes:
    return _post(b"Transfer-Encoding: chunked", body)


def _both() -> list[Case]:
    """A length and chunks, however they are spelt (CL.TE, TE.CL)."""
    lengths = (
        b"Content-Length: 5",
        b"content-length:5",
        b"Content-Length: 0",
        b"CONTENT-LENGTH: 33",
    )
    codings = (
        b"Transfer-Encoding: chunked", b"transfer-encoding:chunked", b"Transfer-Encoding: identity",
        b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding:\tchunked",
        b"Transfer-Encoding: CHUNKED",
    )  # fmt: skip
    return [
        Case(f"{a.decode()} and {b.decode()}", _post(a + b"\r\n" + b, LAST + HIDDEN))
        for length in lengths
        for coding in codings
        for a, b in ((length, coding), (coding, length))
    ]


def _codings() -> list[Case]:
    """What is no plain `chunked` (TE.TE, TE.0)."""
    values = (
        b"", b" ", b"identity", b"gzip", b"deflate", b"xchunked", b"chunkedx", b"chunked, identity",
        b"identity, chunked", b"chunked, chunked", b"chunked,", b",chunked", b",,chunked",
        b"chunked, ", b"\x0bchunked", b"chunked\x0b", b"\x0cchunked", b"chunked\x00",
        b"\x00chunked",
        b"chun ked", b"chunked;q=1", b'"chunked"', b"'chunked'", b"chunked chunked", b"chunked\xa0",
        b"\xa0chunked", b"chunked\x85", b"chu\xc5\xb8ked", b"cow", b"chunked\r\n chunked",
        b"\r\n chunked", b"\n chunked", b"chunked\n", b"chunked\r", b"[chunked]", b"chunked/1",
        b"trailers, chunked", b"br, chunked", b"compress", b"x-chunked", b"chunked,gzip,chunked",
    )  # fmt: skip
    names = (
        b"Transfer-Encoding ", b"Transfer-Encoding\t", b" Transfer-Encoding",
        b"\tTransfer-Encoding",
        b"Transfer\x00-Encoding", b"Transfer-Encoding\x0b", b"Transfer Encoding",
        b"Transfer-Encoding\xa0",
        b"\x00Transfer-Encoding", b"Transfer-Encoding:", b":Transfer-Encoding",
        b"Transfer-Encoding;",
        b"Transfer-Encoding,", b"(Transfer-Encoding)", b'"Transfer-Encoding"',
        b"Transf\xc3\xa9r-Encoding",
    )  # fmt: skip
    twice = b"Transfer-Encoding: chunked\r\nTransfer-Encoding: "
    seconds = (b"chunked", b"identity", b"cow", b"", b"gzip", b"x")
    return [
        *(
            Case(
                f"the coding {value!r}", _post(b"Transfer-Encoding: " + value, ONE + LAST + HIDDEN)
            )
            for value in values
        ),
        *(
            Case(f"the name {name!r}", _post(name + b": chunked", ONE + LAST + HIDDEN))
            for name in names
        ),
        *(
            Case(f"chunked, and again {second!r}", _post(twice + second, ONE + LAST + HIDDEN))
            for second in seconds
        ),
        Case(
            "chunks in 1.0",
            b"POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + ONE + LAST + HIDDEN,
        ),
        Case("another case", _post(b"TRANSFER-ENCODING: ChUnKeD", ONE + LAST), b"a"),
        Case("white space around", _post(b"Transfer-Encoding:  chunked ", ONE + LAST), b"a"),
    ]


def _lengths() -> list[Case]:
    """Lengths that are none, or more than one (CL.CL, CL.0, 0.CL)."""
    values = (
        b"", b" ", b"+5", b"-5", b"-0", b"+0", b"0x5", b"0b1", b"0o5", b"5.0", b"5e0", b"5 5",
        b"5,5", b"5, 5",
        b"5;", b'"5"', b"1_0", b"_5", b"5_", b"\xb2", b"5\x00", b"\x005", b"5\x0b", b"\x0c5",
        b"\xd9\xa5", b"99999999999999999999", b"18446744073709551616", b"18446744073709551621",
        b"4294967296" * 2, b"0" * 19 + b"5", b"five", b"NaN", b"Infinity", b"5\r\n 5", b"\r\n 5",
        b"5\n", b"0\r", b"5\xa0", b"\xa05", b"5%20", b"(5)", b"5 ;x",
    )  # fmt: skip
    names = (
        b"Content-Length ", b"Content-Length\t", b" Content-Length", b"\tContent-Length",
        b"Content\x00-Length", b"Content-Length\x0b", b"Content Length", b"Content-Length\xa0",
        b"Content-Length:", b"Content-Length;", b"\x01Content-Length", b"Content-Length\x7f",
    )  # fmt: skip
    seconds = (b"5", b"6", b"0", b"", b"05", b" 5", b"x")
    return [
        *(
            Case(f"the length {value!r}", _post(b"Content-Length: " + value, b"abcde" + HIDDEN))
            for value in values
        ),
        *(Case(f"the name {name!r}", _post(name + b": 5", b"abcde" + HIDDEN)) for name in names),
        *(
            Case(
                f"five, and again {second!r}",
                _post(b"Content-Length: 5\r\nContent-Length: " + second, b"abcde" + HIDDEN),
            )
            for second in seconds
        ),
        Case("zero, and again", _post(b"Content-Length: 0\r\nContent-Length: 33", HIDDEN)),
        Case("zeros before it", _post(b"Content-Length: 0005", b"abcde"), b"abcde"),
        Case("no white space", _post(b"Content-Length:5", b"abcde"), b"abcde"),
        Case("white space around a length", _post(b"Content-Length:\t 5 \t", b"abcde"), b"abcde"),
        Case("a request in a body", _post(b"Content-Length: 33", HIDDEN), HIDDEN),
        Case("a length of nothing", _post(b"Content-Length: 0"), b""),
        Case(
            "a body after get", b"GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab", b"ab"
        ),
    ]


def _chunk_lines() -> list[Case]:
    """Sizes, extensions and ends of chunks."""
    sizes = (
        b"", b" ", b"+1", b"-1", b"0x1", b"0X1", b" 1", b"1 ", b"\t1", b"1\t", b"1_0", b"_1",
        b"g", b"1g",
        b"1.0", b"1,", b"1;", b"1;;", b"1; x", b"1 ;x", b"1;x y", b"1;=x", b'1;x="', b'1;x="\x00"',
        b"1;x=y=z", b"1;x\xe9", b"1;(x)", b"1;" + b"x" * 256, b"F" * 17, b"1" + b"0" * 16,
        b"0" * 16 + b"1", b"1\x00", b"\x001", b"1\x0b", b"1\n", b"1\r", b"\n1", b"1;\n", b"1;x\n",
        b"1;x\r", b"\xd9\xa1", b"one", b"1%20", b"1\xa0", b'1;x="a\nb"', b'1;x="a\rb"', b"1\r\n;x",
    )  # fmt: skip
    ends = {
        "a bare line feed after a size": b"1\na\r\n" + LAST,
        "a bare line feed after data": b"1\r\na\n" + LAST,
        "a bare carriage return after a size": b"1\ra\r\n" + LAST,
        "a bare carriage return after data": b"1\r\na\r" + LAST,
        "two carriage returns": b"1\r\r\na\r\n" + LAST,
        "no end after data": b"1\r\na" + LAST,
        "data that is too short": b"2\r\na\r\n" + LAST,
        "data that is too long": b"1\r\nab\r\n" + LAST,
        "other ends after data": b"1\r\naXX" + LAST,
        "a last chunk that ends in line feeds": ONE + b"0\n\n",
        "a last chunk without its second end": ONE + b"0\r\n",
        "a last chunk with a bare line feed": ONE + b"0\r\n\n",
        "a last chunk with a bare carriage return": ONE + b"0\r\n\r",
        "a negative last chunk": ONE + b"-0\r\n\r\n",
        "a blank line before a chunk": b"\r\n" + ONE + LAST,
        "a blank line between chunks": ONE + b"\r\n" + ONE + LAST,
    }
    served = {
        "upper case": (b"A\r\n0123456789\r\n" + LAST, b"0123456789"),
        "lower case": (b"a\r\n0123456789\r\n" + LAST, b"0123456789"),
        "zeros before a size": (b"0001\r\na\r\n" + LAST, b"a"),
        "several zeros at the end": (ONE + b"000\r\n\r\n", b"a"),
        "an extension": (b"1;x=y;z\r\na\r\n" + LAST, b"a"),
        "a quoted extension": (b'1;x="y;\\"\xe9"\r\na\r\n' + LAST, b"a"),
        "an extension of the last chunk": (ONE + b"0;x\r\n\r\n", b"a"),
        "ends in the data": (b"7\r\n\r\n0\r\n\r\n\r\n" + LAST, b"\r\n0\r\n\r\n"),
        "no chunks": (LAST, b""),
    }
    return [
        *(
            Case(f"the size {size!r}", _chunked(size + b"\r\na\r\n" + LAST + HIDDEN))
            for size in sizes
        ),
        *(Case(name, _chunked(data + HIDDEN)) for name, data in ends.items()),
        *(Case(name, _chunked(data), body) for name, (data, body) in served.items()),
    ]


def _trailers() -> list[Case]:
    refused = (
        b"X", b"X y", b"X : y", b" X: y", b": y", b"X: y\n", b"X\n: y", b"X: \x00", b"X: y\r\n z",
        b"Content-Length: 5", b"content-length: 0", b"Transfer-Encoding: chunked", b"Host: y",
        b"Connection: keep-alive", b"Upgrade: h2c", b"Trailer: x", b"X\xe9: y", b"X: \x7f",
        b"X: y\r", b"(X): y",
    )  # fmt: skip
    served = (b"X: y", b"X:", b"X: y\r\nZ: \xe9\t", b"Digest: sha-256=abc")
    return [
        *(
            Case(f"the trailer {line!r}", _chunked(ONE + b"0\r\n" + line + b"\r\n\r\n" + HIDDEN))
            for line in refused
        ),
        *(
            Case(f"the trailer {line!r}", _chunked(ONE + b"0\r\n" + line + b"\r\n\r\n"), b"a")
            for line in served
        ),
    ]


def _heads() -> list[Case]:
    """Lines, names, values, versions, targets and hosts."""
    fields = {
        "a folded header": b"X: a\r\n b",
        "a header folded with a tab": b"X: a\r\n\tb",
        "a fold before the first header's value": b"X:\r\n a",
        "a bare line feed between headers": b"X: a\nContent-Length: 5",
        "a bare line feed in a value": b"X: a\n",
        "a bare carriage return in a value": b"X: a\rContent-Length: 5",
        "a null in a value": b"X: a\x00b",
        "a delete in a value": b"X: \x7f",
        "a bell in a value": b"X: \x07",
        "no colon": b"X",
        "no name": b": y",
        "a space before the colon": b"X : y",
        "a space in a name": b"X Y: 1",
        "a bracket in a name": b"X[: 1",
        "a byte beyond ascii in a name": b"X\xe9: 1",
        "a head that bare line feeds end": b"X: a\n\n" + HIDDEN,
        "a second host": b"host: y",
        "the same host again": b"Host: x",
    }
    lines = (
        b"GET /a HTTP/1.1\nHost: x\r\n\r\n", b"GET  /a HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a  HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /a HTTP/1.1 \r\nHost: x\r\n\r\n",
        b"GET\t/a HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /a\tHTTP/1.1\r\nHost: x\r\n\r\n",
        b" GET /a HTTP/1.1\r\nHost: x\r\n\r\n", b"\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\rGET /a HTTP/1.1\r\nHost: x\r\n\r\n", b"\x00GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\r\n" * 9 + b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
        b"get /a HTTP/1.1\r\nHost: x\r\n\r\n", b"FOO /a HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GE(T /a HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a\x00 HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /a\x7f HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET a HTTP/1.1\r\nHost: x\r\n\r\n", b"GET ?a HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: x\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET x:80 HTTP/1.1\r\nHost: x\r\n\r\n", b"GET ftp://x/a HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", b"CONNECT /a HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a\r\n\r\n", b"GET /a HTTP\r\n\r\n", b"GET /a HTTP/1\r\nHost: x\r\n\r\n",
        b"GET /a HTTP/0.9\r\n\r\n", b"GET /a HTTP/1.2\r\nHost: x\r\n\r\n",
        b"GET /a HTTP/2.0\r\nHost: x\r\n\r\n", b"GET /a HTTP/1.10\r\nHost: x\r\n\r\n",
        b"GET /a HTTP/01.1\r\nHost: x\r\n\r\n", b"GET /a http/1.1\r\nHost: x\r\n\r\n",
        b"GET /a HTTP/1,1\r\nHost: x\r\n\r\n", b"GET /a HTTPS/1.1\r\nHost: x\r\n\r\n",
        b"GET /a HTTP /1.1\r\nHost: x\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"GET /a HTTP/1.1\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x y\r\n\r\n", b"GET /a HTTP/1.1\r\nHost: x/y\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x@y\r\n\r\n", b"GET /a HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET /a HTTP/1.1\r\n Host: x\r\n\r\n",
    )  # fmt: skip
    return [
        *(Case(name, _post(field, HIDDEN)) for name, field in fields.items()),
        *(Case(f"the head {line!r}", line + HIDDEN) for line in lines),
        Case("a blank line before", b"\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n", b""),
        Case("a whole address", b"GET http://x/a HTTP/1.1\r\nHost: x\r\n\r\n", b""),
        Case(
            "an underscore for a hyphen", _post(b"Content_Length: 5\r\nTransfer_Encoding: x"), b""
        ),
        Case("an address in a host", b"GET /a HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", b""),
        Case("an empty host", b"GET /a HTTP/1.1\r\nHost:\r\n\r\n", b""),
    ]


def _upgrades() -> list[Case]:
    """A wish for another protocol changes nothing: the body stays a body."""
    wish = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA"
    return [
        Case("h2c", _post(wish), b""),
        Case("h2c with a body", _post(wish + b"\r\nContent-Length: 33", HIDDEN), HIDDEN),
        Case("h2c with chunks", _post(wish + b"\r\nTransfer-Encoding: chunked", ONE + LAST), b"a"),
        Case("websocket", _post(b"Connection: upgrade\r\nUpgrade: websocket"), b""),
        Case(
            "h2c with both",
            _post(wish + b"\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", LAST),
        ),
    ]


CASES = [
    *_both(), *_codings(), *_lengths(), *_chunk_lines(), *_trailers(), *_heads(), *_upgrades(),
]  # fmt: skip
