"""One step at a time from what is to what is wanted; a successor comes before what it replaces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.model_version import Settings
from marserve.refs import ModelRef
from marserve.registry.policy import Load, Unload, next_action
from marserve.registry.wanted import Wanted, WantedVersion

A1, A2, B1 = ModelRef("a", "1"), ModelRef("a", "2"), ModelRef("b", "1")


def wanting(refs):
    wanted = Wanted()
    for ref in refs:
        wanted = wanted.add(ref, WantedVersion(f"{ref.name}.mar", Settings(1, 1)))
    return wanted


@pytest.mark.parametrize(
    ("wanted", "actual", "expected"),
    [
        pytest.param([], [], None, id="nothing is wanted and nothing is there"),
        pytest.param([A1], [A1], None, id="what is wanted is there"),
        pytest.param([A1, B1], [B1, A1], None, id="order means nothing"),
        pytest.param([A1], [], Load(A1), id="what is missing is loaded"),
        pytest.param([B1, A1], [], Load(B1), id="in the order of wishing"),
        pytest.param([], [A1], Unload(A1), id="what nobody wants is unloaded"),
        pytest.param([], [B1, A2, A1], Unload(A1), id="in the order of names"),
        pytest.param([A2], [A1], Load(A2), id="a successor comes first"),
        pytest.param([A2], [A1, A2], Unload(A1), id="and then its predecessor goes"),
        pytest.param([B1], [A1], Load(B1), id="another model is loaded first as well"),
    ],
)
def test_the_next_action(wanted, actual, expected):
    assert next_action(wanting(wanted), actual) == expected


refs = st.lists(
    st.builds(ModelRef, st.sampled_from("abc"), st.sampled_from("123")), unique=True, max_size=9
)


@given(refs, refs)
def test_steps_lead_to_what_is_wanted_and_never_leave_a_name_without_a_version(wishes, actual):
    wanted = wanting(wishes)
    opened = set(actual)
    names_in_need = {ref.name for ref in wishes} & {ref.name for ref in actual}
    for _ in range(len(wishes) + len(actual) + 1):
        action = next_action(wanted, frozenset(opened))
        assert action == next_action(wanted, tuple(sorted(opened, reverse=True)))
        if action is None:
            break
        if isinstance(action, Load):
            assert action.ref not in opened
            opened.add(action.ref)
        else:
            opened.remove(action.ref)
        assert names_in_need <= {ref.name for ref in opened}

    assert opened == set(wishes)
