"""Names of model versions: which are legal, and which a file gets by itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.errors import InvalidInput
from marserve.refs import MODEL_NAME, ModelRef, checked_ref, name_from_file


def test_a_ref_is_printed_as_name_and_version():
    assert str(ModelRef("resnet", "1.0")) == "resnet:1.0"


def test_refs_are_ordered_by_name_and_then_by_version():
    refs = [ModelRef("b", "1"), ModelRef("a", "2"), ModelRef("a", "1")]

    assert sorted(refs) == [ModelRef("a", "1"), ModelRef("a", "2"), ModelRef("b", "1")]


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("m", "1"),
        ("resnet-18_v.2", "1.0"),
        ("0", "0"),
        ("a" * 128, "1" * 64),
        ("m", "2024-01-01+build.7"),
    ],
)
def test_a_legal_name_and_version_make_a_ref(name, version):
    assert checked_ref(name, version) == ModelRef(name, version)


@pytest.mark.parametrize(
    ("name", "version", "culprit"),
    [
        ("", "1", "Model name ''"),
        ("a" * 129, "1", "Model name"),
        (".hidden", "1", "Model name"),
        ("-m", "1", "Model name"),
        ("a/b", "1", "Model name"),
        ("a b", "1", "Model name"),
        ("m\n", "1", "Model name"),
        ("mod\u00e8le", "1", "Model name"),
        ("m+", "1", "Model name"),
        ("m", "", "Model version ''"),
        ("m", "1" * 65, "Model version"),
        ("m", ".1", "Model version"),
        ("m", "1/0", "Model version"),
        ("m", "1\r\n", "Model version"),
        ("m", "\u0661", "Model version"),
    ],
)
def test_an_illegal_half_is_refused_and_named(name, version, culprit):
    with pytest.raises(InvalidInput, match=culprit):
        checked_ref(name, version)


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("resnet", "resnet"),
        ("resnet-18", "resnet_18"),
        ("my model (1)", "my_model__1_"),
        ("_private", "private"),
        ("...x", "x"),
        ("mod\u00e8le", "mod_le"),
    ],
)
def test_a_file_gives_its_model_a_name(stem, name):
    assert name_from_file(stem) == name


@given(st.text(max_size=100))
def test_a_name_from_a_file_is_legal_or_empty(stem):
    name = name_from_file(stem)

    assert name == "" or MODEL_NAME.fullmatch(name)
