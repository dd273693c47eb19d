"""F-JSON: JSON that reaches the server or a worker as a body: a value, or an error with a kind."""

import contextlib
import json

from marserve.errors import MarServeError
from marserve.json_values import read_object
from marserve.pipelines.results import joined
from marserve.protocols.parameters import flag, integer, parameters, text
from marserve_handlers.envelopes import json_object
from marserve_handlers.errors import PredictionException, UnsupportedOutput
from marserve_handlers.payload import JSON_TYPE, Part, decode_row, encode_item

SEEDS = [
    b'{"url": "m.mar", "initial_workers": 1, "synchronous": true, "batch_size": "4"}',
    b'{"data": [1, 2.5, NaN, Infinity, 1e999, -0], "a": {"b": [[]]}}',
    b'{"a": 1, "a": 2}',
    b"[" * 2000,
    b'{"a":' * 2000,
    b"9" * 4000,
    b"1" * 5000,
    b'"\\ud800"',
    b"\xff\xfe[\x00]\x00",
    b"\xef\xbb\xbf{}",
    b'{"batch_size": 1e308, "max_batch_delay": -1.0}',
]


def one_input(data: bytes) -> None:
    """Raises if anything else comes of it."""
    try:
        given = parameters({}, "application/json", data)
        for read in (lambda: text(given, "url"), lambda: flag(given, "synchronous", default=True)):
            read()
        integer(given, "batch_size", at_least=1)
    except MarServeError:
        pass
    row = decode_row([Part("body", JSON_TYPE, data)])
    with contextlib.suppress(UnsupportedOutput):
        encode_item(row["body"])
    with contextlib.suppress(PredictionException):
        json_object(row)
    with contextlib.suppress(MarServeError):
        json.loads(joined({"a": data, "b": b"1"}))
    with contextlib.suppress(ValueError):
        read_object(data.decode("utf-8", "replace"))
