"""docs/limits.md says what the code does."""

import re
from pathlib import Path

import pytest

from marserve.protocols import grpc_heads, grpc_open_inference, heads, torchserve
from marserve.servers import (
    chunked_body,
    connection,
    descriptors,
    grpc_call,
    h2_connection,
    h2_streams,
    request_reader,
    wsgi_channel,
)
from marserve.servers.exchange import DEFAULT_TIMEOUTS
from marserve.settings import SETTINGS

DOCUMENT = (Path(__file__).parents[2] / "docs" / "limits.md").read_text()
ROWS = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|", DOCUMENT, re.MULTILINE))

STATED = {
    "target of a request": f"{request_reader.MAX_TARGET_BYTES:,} bytes",
    "header fields, names and values together": f"{request_reader.MAX_HEAD_BYTES:,} bytes",
    "header fields, number": f"{request_reader.MAX_FIELDS}",
    "from a request's first byte to the end of its headers": f"{DEFAULT_TIMEOUTS.head_s:g} s",
    "body of the control ports": f"{wsgi_channel.MAX_BODY_BYTES:,} bytes",
    "chunks of a body, the last one not counted": f"{chunked_body.MAX_CHUNKS:,}",
    "extension of a chunk": f"{chunked_body.MAX_EXTENSION_BYTES} bytes",
    "trailers, number": f"{chunked_body.MAX_TRAILERS}",
    "trailers, together": f"{chunked_body.MAX_TRAILER_BYTES:,} bytes",
    "a body stops coming": f"{DEFAULT_TIMEOUTS.body_s:g} s",
    f"a body after its first {DEFAULT_TIMEOUTS.body_grace_s:g} s, on the whole": (
        f"{DEFAULT_TIMEOUTS.body_bytes_per_s:,.0f} bytes a second"
    ),
    "between two requests, inference port": f"{DEFAULT_TIMEOUTS.idle_s:g} s",
    "a client does not take its answer": f"{DEFAULT_TIMEOUTS.write_s:g} s",
    "what waits for a client that takes a stream slowly": f"{connection.MAX_UNSENT_BYTES:,} bytes",
    "headers of a part of a form": f"{torchserve.MAX_PART_HEAD_BYTES:,} bytes",
    "headers, number": f"{heads.MAX_HANDLER_HEADERS}",
    "headers, together": f"{heads.MAX_HANDLER_HEADER_BYTES:,} bytes",
    "streams of a connection": f"{h2_streams.MAX_STREAMS:,}",
    "calls of a port": f"{grpc_call.MAX_CALLS:,}",
    "metadata of a call": f"{grpc_heads.MAX_METADATA_BYTES:,} bytes",
    "header block": f"{h2_streams.MAX_BLOCK_BYTES:,} bytes",
    "continuations of a header block": f"{h2_streams.MAX_CONTINUATIONS}",
    "dimensions of a tensor": f"{grpc_open_inference.MAX_RANK}",
    "resets, pings, settings, empty frames ahead of what was served": (
        f"{h2_streams.PATIENCE:,}, and {h2_connection.PATIENCE_PER_S} more a second"
    ),
    "connections of a control port": f"{descriptors.for_control(1 << 17)}",
}


@pytest.mark.parametrize("what", STATED)
def test_a_limit_is_stated_as_it_is(what):
    assert ROWS[what] == STATED[what]


def test_the_settings_that_are_named_exist():
    named = set(re.findall(r"`([a-z_]+_[a-z_]+)`", DOCUMENT))

    assert named <= set(SETTINGS)
