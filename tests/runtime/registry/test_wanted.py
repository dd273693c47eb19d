"""What is wanted is a value: each change gives a new one, and no name is left without a default."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.errors import (
    DefaultVersionInUse,
    ModelNotFound,
    VersionConflict,
    VersionNotFound,
)
from marserve.model_version import Settings
from marserve.refs import ModelRef
from marserve.registry.wanted import Node, Wanted, WantedModel, WantedVersion

A1, A2, A3, B1 = (ModelRef(*pair) for pair in (("a", "1"), ("a", "2"), ("a", "3"), ("b", "1")))
SETTINGS = Settings(1, 2)


def version(ref, settings=SETTINGS):
    return WantedVersion(f"{ref.name}-{ref.version}.mar", settings)


def wanting(*refs):
    wanted = Wanted()
    for ref in refs:
        wanted = wanted.add(ref, version(ref))
    return wanted


def test_the_first_version_of_a_name_is_its_default():
    assert wanting(A2, A1) == Wanted(
        {"a": WantedModel("2", {"2": version(A2), "1": version(A1)})},
    )


def test_refs_come_in_the_order_in_which_they_were_wished_for():
    assert list(wanting(B1, A2, A1).refs()) == [B1, A2, A1]


def test_a_change_leaves_the_value_it_came_from_as_it_was():
    before = wanting(A1, A2)
    same = wanting(A1, A2)

    before.add(B1, version(B1))
    before.remove(A2)
    before.make_default(A2)
    before.resettle(A1, replace(SETTINGS, batch_size=9))

    assert before == same


@pytest.mark.parametrize(
    ("name", "asked", "expected"),
    [("a", None, A2), ("a", "1", A1), ("a", "2", A2), ("b", None, B1)],
)
def test_a_name_and_perhaps_a_version_mean_a_ref(name, asked, expected):
    assert wanting(A2, A1, B1).resolve(name, asked) == expected


@pytest.mark.parametrize(
    ("name", "asked", "error", "text"),
    [
        ("c", None, ModelNotFound, "Model not found: c"),
        ("c", "1", ModelNotFound, "Model not found: c"),
        ("a", "9", VersionNotFound, "Model version: 9 does not exist for model: a"),
        ("a", "", VersionNotFound, "Model version:  does not exist for model: a"),
    ],
)
def test_what_is_not_wanted_is_not_found(name, asked, error, text):
    with pytest.raises(error) as caught:
        wanting(A1, A2).resolve(name, asked)

    assert str(caught.value) == text


def test_membership_is_that_of_versions():
    wanted = wanting(A1)

    assert A1 in wanted
    assert A2 not in wanted
    assert B1 not in wanted
    assert wanted[A1] == version(A1)


def test_a_version_cannot_be_wanted_twice():
    with pytest.raises(VersionConflict):
        wanting(A1).add(A1, version(A1))


def test_another_version_can_become_the_default():
    assert wanting(A1, A2).make_default(A2).model("a").default == "2"


def test_other_settings_change_one_version_only():
    wanted = wanting(A1, A2).resettle(A2, replace(SETTINGS, min_workers=2))

    assert wanted[A1] == version(A1)
    assert wanted[A2] == version(A2, replace(SETTINGS, min_workers=2))
    assert wanted.model("a").default == "1"


def test_the_last_version_takes_its_name_with_it():
    assert wanting(A1, B1).remove(A1) == wanting(B1)


def test_the_default_goes_last():
    wanted = wanting(A1, A2)

    with pytest.raises(DefaultVersionInUse):
        wanted.remove(A1)
    assert wanted.remove(A2).remove(A1) == Wanted()


def test_a_version_that_is_no_more_can_come_back_as_the_default():
    assert wanting(A1).remove(A1).add(A2, version(A2)).model("a").default == "2"


changes = st.tuples(
    st.sampled_from(["add", "remove", "make_default", "resettle"]),
    st.builds(ModelRef, st.sampled_from("ab"), st.sampled_from("123")),
    st.integers(1, 9),
)


@given(st.lists(changes, max_size=40))
def test_any_changes_keep_a_default_among_the_versions_of_every_name(sequence):
    wanted, model = Wanted(), {}
    for what, ref, number in sequence:
        settings = Settings(number, number)
        try:
            match what:
                case "add":
                    wanted = wanted.add(ref, version(ref, settings))
                    model[ref] = settings
                case "remove" if ref in model:
                    wanted = wanted.remove(ref)
                    del model[ref]
                case "make_default" if ref in model:
                    wanted = wanted.make_default(ref)
                case "resettle" if ref in model:
                    wanted = wanted.resettle(ref, settings)
                    model[ref] = settings
        except (VersionConflict, DefaultVersionInUse):
            pass
        assert {ref: wanted[ref].settings for ref in wanted.refs()} == model
        for wanted_model in wanted.models.values():
            assert wanted_model.default in wanted_model.versions


# --- nodes of workflows ---------------------------------------------------------------------------


def test_nodes_are_not_for_the_next_start_and_go_with_their_workflow_alone():
    settings = Settings(1, 1)
    plain = Wanted().add(ModelRef("m", "1"), WantedVersion("m.mar", settings))
    one = plain.add(ModelRef("w__a", "1"), WantedVersion("a.mar", settings, Node("w")))
    both = one.add(ModelRef("v__a", "1"), WantedVersion("v.war", settings, Node("v", True)))

    assert both.durable() == plain
    assert both.nodes("w") == (ModelRef("w__a", "1"),)
    assert both.without_nodes("v") == one
    assert both.without_nodes("nobody") == both


def test_a_version_that_was_registered_beside_a_node_becomes_the_default_when_that_goes():
    settings = Settings(1, 1)
    node = Wanted().add(ModelRef("w__a", "1"), WantedVersion("a.mar", settings, Node("w")))
    both = node.add(ModelRef("w__a", "2"), WantedVersion("b.mar", settings))

    left = both.without_nodes("w")

    assert left == both.durable()
    assert left.resolve("w__a", None) == ModelRef("w__a", "2")
