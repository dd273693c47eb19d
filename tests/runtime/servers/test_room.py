"""Who gets a place when connections are limited, and who makes room (F24, F27)."""

from hypothesis import given
from hypothesis import strategies as st

from marserve.servers.room import Room


class Guest:
    def __init__(self, name, quiet_since=0.0, is_idle=True):
        self.name = name
        self.quiet_since = quiet_since
        self.is_idle = is_idle
        self.is_gone = False

    def make_room(self):
        self.is_gone = True


def test_the_one_that_has_been_idle_longest_makes_room():
    room = Room(3)
    guests = [Guest("a", 2.0), Guest("b", 1.0), Guest("c", 3.0)]
    assert all(room.enter(guest, "x", 5.0) for guest in guests)

    assert room.enter(Guest("d", 5.0), "x", 5.0)
    assert [guest.is_gone for guest in guests] == [False, True, False]
    assert len(room) == 3


def test_nobody_who_is_busy_makes_room_and_the_newcomer_is_turned_away():
    room = Room(2)
    busy, other = Guest("a", is_idle=False), Guest("b", is_idle=False)
    assert room.enter(busy, "x", 0.0)
    assert room.enter(other, "x", 0.0)

    assert not room.enter(Guest("c"), "x", 1.0)
    busy.is_idle = True
    assert not room.enter(Guest("c"), "x", 1.4)  # nobody is looked for again so soon
    assert room.enter(Guest("c"), "x", 1.6)
    assert (busy.is_gone, other.is_gone, room.turned_away) == (True, False, 2)


def test_a_place_that_is_given_back_is_free():
    room = Room(1)
    first = Guest("a", is_idle=False)
    assert room.enter(first, "x", 0.0)
    room.leave(first)
    room.leave(first)
    assert room.enter(Guest("b"), "x", 0.0)
    assert not first.is_gone


def test_one_client_gets_no_more_than_its_share():
    room = Room(100, most_per_peer=2)
    guests = [Guest("a"), Guest("b")]
    assert all(room.enter(guest, "x", 0.0) for guest in guests)
    assert not room.enter(Guest("c"), "x", 0.0)
    assert room.enter(Guest("d"), "y", 0.0)
    room.leave(guests[0])
    assert room.enter(Guest("e"), "x", 0.0)
    assert not any(guest.is_gone for guest in guests)


@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.sampled_from("elb"), st.integers(0, 9), st.booleans()), max_size=60),
)
def test_there_are_never_more_than_there_may_be(most, steps):
    room, inside = Room(most, most_per_peer=3), []
    for now, (step, which, is_idle) in enumerate(steps):
        if step == "e":
            guest = Guest(str(which), float(now), is_idle)
            if room.enter(guest, str(which % 3), float(now)):
                inside.append(guest)
        elif inside and step == "l":
            room.leave(inside.pop(which % len(inside)))
        elif inside:
            inside[which % len(inside)].is_idle = is_idle
        inside = [guest for guest in inside if not guest.is_gone]
        assert len(room) == len(inside) <= most
