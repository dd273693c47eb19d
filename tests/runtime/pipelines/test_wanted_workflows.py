"""Which workflows are wanted survives a restart, or is noticed to be damaged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.pipelines.wanted_workflows import dump, load
from marserve.protocols.workflows import WorkflowRegistration
from marserve.registry.checked_document import DocumentInvalid

_TEXTS = st.text(max_size=9)
_NUMBERS = st.none() | st.integers(1, 9)
_WISHES = st.builds(
    WorkflowRegistration, _TEXTS, st.none() | _TEXTS, _NUMBERS, _NUMBERS, st.booleans()
)


@given(st.dictionaries(_TEXTS, _WISHES, max_size=3))
def test_what_is_written_is_read_again(wanted):
    assert load(dump(wanted)) == wanted


@given(st.binary(max_size=50))
def test_any_other_bytes_are_refused(content):
    with pytest.raises(DocumentInvalid):
        load(content)


def test_a_document_that_was_edited_is_refused():
    document = dump({"w": WorkflowRegistration("w.war")})
    with pytest.raises(DocumentInvalid, match="its checksum does not fit its content"):
        load(document.replace(b"w.war", b"x.war"))
