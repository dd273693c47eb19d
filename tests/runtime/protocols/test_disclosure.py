"""Strangers read what went wrong, and not where on this machine."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.protocols.disclosure import for_strangers


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Prediction failed: ValueError: cannot digest x", None),
        ("no such file: '/srv/cache/3ce6/labels.txt'", "no such file: '<path>'"),
        ("[/root/.ssh/id_rsa, file:///etc/shadow]", "[<path>, <path>]"),
        ("application/json and and/or 1/2/3 stay", None),
        ("see https://models.example/docs/errors", None),
        ("/predictions alone is no place", None),
        ('File "/srv/app/handler.py", line 3, in f', "<source>, in f"),
        ("<Model object at 0x7f3a2c1d4e50>", "<Model object at <address>>"),
        ("color 0xff stays", None),
        ("killed pid 4711, process=12", "killed pid <number>, process=<number>"),
        ("it broke\nTraceback (most recent call last):\n  File ...\nE: x", "it broke"),
        ("", None),
    ],
)
def test_what_strangers_read(text, shown):
    assert for_strangers(text) == (text if shown is None else shown)


@given(st.text(max_size=300))
def test_saying_it_twice_hides_nothing_more(text):
    once = for_strangers(text)
    assert for_strangers(once) == once


def test_a_long_text_takes_no_long_time():
    assert for_strangers("/a" * 50_000) == "<path>"
    assert len(for_strangers("/" * 50_000)) == 50_000
    assert len(for_strangers("0x" * 50_000)) == 100_000
