"""SEC-20: whatever headers a handler sets, a strict client sees exactly those or an error, and one
answer. `benchmarks/reliability/handler_headers.py` tries 10,000 sets."""

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import pytest
from header_sets import OURS, seen_by_a_strict_client, sets

from marserve.errors import HandlerFailed
from marserve.protocols.heads import MAX_HANDLER_HEADER_BYTES, Heads
from marserve.request import Answer

COUNT = 300


def test_a_strict_client_sees_what_the_handler_set_or_an_error():
    taken = refused = 0
    for headers, status, phrase in sets(COUNT, random.Random(20)):
        try:
            seen = seen_by_a_strict_client(headers, status, phrase)
        except HandlerFailed:
            refused += 1
            continue
        taken += 1
        wanted = [(name.lower(), value.strip(" \t")) for name, value in headers]
        assert seen == [one for one in wanted if one[0] not in OURS], headers
    assert taken > COUNT // 10
    assert refused > COUNT // 10


def test_what_frames_the_answer_is_never_the_handlers():
    set_by_handler = [(name, "5") for name in sorted(OURS)]

    assert seen_by_a_strict_client(set_by_handler, 200, None) == []


def test_all_headers_together_are_limited():
    headers = [(f"x-{number}", "v" * 8000) for number in range(3)]

    with pytest.raises(HandlerFailed, match=f"more than {MAX_HANDLER_HEADER_BYTES} bytes"):
        Heads().answer(Answer(b"", headers=headers), "id", True)
