import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve_handlers.text_cleaning import (
    basic_english,
    get_tokenizer,
    ngrams_iterator,
    remove_accents,
    remove_html_tags,
    remove_punctuation,
)


@pytest.mark.parametrize(
    ("clean", "text", "cleaned"),
    [
        (remove_html_tags, "a <b>bold</b> &amp; &#39;x&#x2f;&#x2F;", "a bold  x&#x2F;"),
        (remove_html_tags, "1 < 2 & 3", "1 < 2 & 3"),
        (remove_accents, "Café naïve Ångström 日本 ½", "Cafe naive Angstrom  12"),
        (remove_punctuation, "a.b, (c)-d's_e", "ab cdse"),
    ],
)
def test_each_step_removes_its_kind_of_clutter(clean, text, cleaned):
    assert clean(text) == cleaned


@pytest.mark.parametrize(
    ("line", "tokens"),
    [
        ("You can now install it!", ["you", "can", "now", "install", "it", "!"]),
        ('He said: "no; (never)."', ["he", "said", "no", "(", "never", ")", "."]),
        ("don't<br />stop, ok?", ["don", "'", "t", "stop", ",", "ok", "?"]),
        ("  \t\n", []),
    ],
)
def test_an_english_line_becomes_tokens(line, tokens):
    assert basic_english(line) == tokens


@pytest.mark.parametrize(
    ("ngrams", "expected"),
    [
        (1, ["here", "we", "are"]),
        (2, ["here", "we", "are", "here we", "we are"]),
        (5, ["here", "we", "are", "here we", "we are", "here we are"]),
    ],
)
def test_ngrams_follow_the_tokens(ngrams, expected):
    assert list(ngrams_iterator(["here", "we", "are"], ngrams)) == expected


@given(st.lists(st.text(min_size=1), max_size=8), st.integers(1, 4))
def test_there_are_as_many_ngrams_as_places_for_them(tokens, ngrams):
    count = sum(max(0, len(tokens) - length + 1) for length in range(1, ngrams + 1))
    assert len(list(ngrams_iterator(tokens, ngrams))) == count


def test_a_tokenizer_is_found_by_name():
    assert get_tokenizer("basic_english") is basic_english
    assert get_tokenizer(None)("A  b") == ["A", "b"]


@pytest.mark.parametrize("arguments", [("spacy",), ("basic_english", "de")])
def test_another_tokenizer_is_refused(arguments):
    with pytest.raises(ValueError, match="tokenizer"):
        get_tokenizer(*arguments)
