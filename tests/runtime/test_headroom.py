"""All queues together take no more memory than they may, and nothing is taken when it is short."""

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.jumping_loop import jumping_loop

from marserve.batching import batcher as batcher_module
from marserve.headroom import LEAST_FLOOR_BYTES, QUEUED_SHARE, Headroom


class Queue:
    """A member that takes what it may."""

    def __init__(self):
        self.waiting_bytes = 0
        self.unasked_bytes, self.is_low = 0, False

    def allot(self, unasked_bytes, is_memory_low):
        self.unasked_bytes, self.is_low = unasked_bytes, is_memory_low


@given(
    st.integers(1, 6),
    st.lists(st.tuples(st.integers(0, 5), st.integers(-400, 400)), max_size=80),
)
def test_whoever_takes_how_much_all_together_never_exceed_the_limit_by_more_than_one(count, moves):
    headroom, queues = Headroom(4000, lambda: 0, floor_bytes=0), [Queue() for _ in range(count)]
    for queue in queues:
        headroom.join(queue)
    for index, size_bytes in moves:
        queue = queues[index % count]
        if size_bytes < 0:
            queue.waiting_bytes = max(0, queue.waiting_bytes + size_bytes)
        elif queue.waiting_bytes < queue.unasked_bytes or (
            queue.waiting_bytes < headroom.limit_for(queue)
        ):
            queue.waiting_bytes += size_bytes
        assert sum(one.waiting_bytes for one in queues) <= headroom.limit_bytes + 400 * count


def test_a_quarter_of_all_memory_may_wait_and_one_alone_may_have_it_all():
    headroom, queue = Headroom(4000, lambda: 0, floor_bytes=0), Queue()
    headroom.join(queue)
    assert headroom.limit_for(queue) == headroom.limit_bytes == int(4000 * QUEUED_SHARE)


@pytest.mark.parametrize(
    ("total_bytes", "floor_bytes", "expected"),
    [
        (1 << 40, None, (1 << 40) // 100),
        (1 << 30, None, LEAST_FLOOR_BYTES),
        (1 << 30, 5, 5),
        (1 << 30, 0, 0),
    ],
)
def test_the_floor_is_a_hundredth_of_all_unless_somebody_says(total_bytes, floor_bytes, expected):
    assert Headroom(total_bytes, lambda: 0, floor_bytes).floor_bytes == expected


def test_memory_is_looked_at_once_a_second_and_only_while_somebody_takes_requests(monkeypatch):
    loop = jumping_loop(monkeypatch, batcher_module)
    looks = []

    def available():
        looks.append(loop.time())
        return 10 if len(looks) in (3, 4) else 1000

    async def scenario():
        headroom, queue = Headroom(1 << 30, available, 100), Queue()
        headroom.join(queue)
        headroom.join(Queue())
        states = []
        for _ in range(6):
            states.append(queue.is_low)
            await asyncio.sleep(1.0)
        for member in list(headroom._members):
            headroom.leave(member)
        count = len(looks)
        await asyncio.sleep(10.0)
        assert len(looks) == count
        return states

    states = loop.run_until_complete(scenario())
    loop.close()
    assert True in states
    assert states[0] is states[-1] is False
    assert all(round(later - sooner, 6) >= 1.0 for sooner, later in pairwise(looks))
