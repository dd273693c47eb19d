import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve_handlers.contractions import CONTRACTION_MAP, expand_contractions


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("i don't know", "i do not know"),
        ("Don't! CAN'T", "Do not! Cannot"),
        ("I'm sure she'll win", "I am sure she will win"),
        ("i'd've gone", "i wouldve gone"),
        ("it couldn't've been", "it could notve been"),
        ("they're where it's at", "they are where it is at"),
        ("we ain't there", "we as not there"),
        ("how'd'y y'all let's won't", "how didy you all let us will not"),
        ("'cause o'clock ma'am", "ecause of the clock madam"),
        ("the cat's 'toy'", "the cats toy"),
        ("how's where'd why've", "how is where did why have"),
    ],
)
def test_contractions_are_written_out_and_other_apostrophes_go(text, expanded):
    assert expand_contractions(text) == expanded


def test_the_table_is_the_one_that_models_were_trained_with():
    assert len(CONTRACTION_MAP) == 123
    assert (CONTRACTION_MAP["I'll've"], CONTRACTION_MAP["i'd"]) == ("I will have", "i would")


@given(st.text(alphabet="abcdehilnorstvwyI' "))
def test_no_apostrophe_is_left(text):
    assert "'" not in expand_contractions(text)
