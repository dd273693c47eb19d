"""A snapshot comes back whole, or not at all."""

import hashlib
import json
import string

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marserve.model_version import Settings
from marserve.refs import ModelRef
from marserve.registry.checked_document import DocumentInvalid
from marserve.registry.snapshot import dump, load
from marserve.registry.wanted import Wanted, WantedModel, WantedVersion

SETTINGS = Settings(1, 4, 8, 50, 60, 30, 1000, "h.py:f", "python3")
WANTED = (
    Wanted()
    .add(ModelRef("resnet", "1.0"), WantedVersion("resnet.mar", SETTINGS))
    .add(ModelRef("resnet", "2.0"), WantedVersion("r\u00e9snet-\u00bd.mar", Settings(0, 0)))
    .add(ModelRef("bert", "1"), WantedVersion("dir/bert", Settings(2, 2)))
    .make_default(ModelRef("resnet", "2.0"))
)


def signed(models, **others):
    """A document with a checksum that fits, whatever it holds."""
    content = msgspec.json.encode(models, order="deterministic")
    document = {"format": 1, "sha256": hashlib.sha256(content).hexdigest(), "models": models}
    return json.dumps({**document, **others}).encode()


def test_a_snapshot_comes_back_as_it_was():
    assert load(dump(WANTED)) == WANTED
    assert list(load(dump(WANTED)).refs()) == list(WANTED.refs())


def test_nothing_wanted_is_a_snapshot_too():
    assert load(dump(Wanted())) == Wanted()


def test_a_snapshot_can_be_read_by_people():
    text = dump(WANTED).decode()

    assert text.startswith('{\n  "format": 1,\n  "sha256": "')
    assert text.endswith("}\n")
    assert json.loads(text)["models"]["bert"]["versions"]["1"]["settings"]["min_workers"] == 2


def test_the_same_state_always_gives_the_same_bytes():
    assert dump(load(dump(WANTED))) == dump(WANTED)


legal = st.text(string.ascii_letters + string.digits, min_size=1, max_size=6)
versions = st.builds(
    WantedVersion,
    st.text(max_size=10),
    st.builds(
        Settings,
        *[st.integers(0, 2**31 - 1)] * 7,
        handler=st.none() | st.text(max_size=5),
        runtime=st.sampled_from(["python", "python3"]),
    ),
)
models = st.dictionaries(legal, versions, min_size=1, max_size=3).flatmap(
    lambda made: st.builds(WantedModel, st.sampled_from(sorted(made)), st.just(made))
)


@given(st.builds(Wanted, st.dictionaries(legal, models, max_size=3)))
def test_whatever_is_wanted_comes_back(wanted):
    assert load(dump(wanted)) == wanted


def test_no_prefix_of_a_snapshot_is_one():
    document = dump(WANTED).rstrip()
    for length in range(len(document)):
        with pytest.raises(DocumentInvalid):
            load(document[:length])


def test_a_flipped_bit_is_noticed_or_changes_nothing():
    document = dump(WANTED)
    noticed = 0
    for position in range(len(document) * 8):
        damaged = bytearray(document)
        damaged[position // 8] ^= 1 << (position % 8)
        try:
            assert load(bytes(damaged)) == WANTED  # white space became other white space
        except DocumentInvalid:
            noticed += 1
    assert noticed > len(document) * 8 * 0.9


@settings(max_examples=300)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_random_bytes_are_no_snapshot(document):
    with pytest.raises(DocumentInvalid):
        load(document)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"", "it is not JSON"),
        (b"\xff\xfe", "it is not JSON"),
        (b'"\xff"', "it is not JSON"),
        (b"[" * 100_000, "it is not JSON"),
        (b"null", "it is not a document of format 1 with models"),
        (b"[]", "it is not a document of format 1 with models"),
        (b"{}", "it is not a document of format 1 with models"),
        (signed({}, format=2), "it is not a document of format 1 with models"),
        (signed({}, sha256="0" * 64), "its checksum does not fit its content"),
        (signed({}, sha256=None), "its checksum does not fit its content"),
        (b'{"format": 1}', "its checksum does not fit its content"),
        (b'{"format": 1, "models": {"a": 1%s}}' % (b"0" * 400), "its checksum does not fit"),
        (b'{"format": 1, "models": {"a": 1%s}}' % (b"0" * 25), "its checksum does not fit"),
        (signed(None), "it does not fit: Expected `object`, got `null`"),
        (signed({"m": {}}), "it does not fit: Object missing required field"),
        (signed({"m": {"default": "1", "versions": {}}}), "the default version 1 of m is not"),
        (
            signed({"m": {"default": "1", "versions": {"1": {"url": "x"}}}}),
            "it does not fit: Object missing required field `settings`",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_its_reason(document, reason):
    with pytest.raises(DocumentInvalid, match=reason):
        load(document)


@pytest.mark.parametrize(
    ("name", "version", "reason"),
    [
        ("../etc", "1", "Model name '../etc' is not valid"),
        ("m", "a/b", "Model version 'a/b' is not valid"),
    ],
)
def test_a_name_that_could_not_have_been_registered_is_refused(name, version, reason):
    settings = {"min_workers": 1, "max_workers": 1}
    models = {name: {"default": version, "versions": {version: {"url": "x", "settings": settings}}}}

    with pytest.raises(DocumentInvalid, match=reason):
        load(signed(models))


@pytest.mark.parametrize("workers", ["1", 1.5, None, True, [1]])
def test_a_setting_of_another_type_is_refused(workers):
    settings = {"min_workers": workers, "max_workers": 1}
    models = {"m": {"default": "1", "versions": {"1": {"url": "x", "settings": settings}}}}

    with pytest.raises(DocumentInvalid, match="it does not fit: Expected `int`"):
        load(signed(models))
