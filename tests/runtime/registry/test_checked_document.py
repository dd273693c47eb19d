"""Documents that notice when somebody or something changed them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.registry import checked_document
from marserve.registry.checked_document import DocumentInvalid

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
def test_what_is_dumped_comes_back(content):
    document = checked_document.dump(content, 3, "things")
    assert checked_document.load(document, 3, "things") == content


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"things": {"a": 2}}, "its checksum does not fit its content"),
        ({"sha256": "0" * 64}, "its checksum does not fit its content"),
        ({"sha256": None}, "its checksum does not fit its content"),
        ({"format": 4}, "it is not a document of format 3 with things"),
        ({"format": "3"}, "it is not a document of format 3 with things"),
    ],
)
def test_a_changed_document_is_refused_with_the_reason(change, reason):
    document = json.loads(checked_document.dump({"a": 1}, 3, "things")) | change
    with pytest.raises(DocumentInvalid, match=f"^{reason}$"):
        checked_document.load(json.dumps(document).encode(), 3, "things")


@pytest.mark.parametrize("document", [b"", b"{", b"\xff", b"[" * 100_000, b'{"format":3'])
def test_what_is_not_json_is_refused(document):
    with pytest.raises(DocumentInvalid, match=r"^it is not JSON: "):
        checked_document.load(document, 3, "things")


def test_a_document_cut_anywhere_is_refused():
    document = checked_document.dump({"a": [1, 2]}, 3, "things").rstrip()
    for length in range(len(document)):
        with pytest.raises(DocumentInvalid):
            checked_document.load(document[:length], 3, "things")
