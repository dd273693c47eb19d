"""All connections are looked at once a second, and nobody waits while there are many."""

import asyncio
from collections import Counter

import pytest
from jumping_loop import jumping_loop

from marserve.servers import sweep
from marserve.servers.sweep import EVERY_S, Sweep


@pytest.mark.parametrize(("count", "most_at_once"), [(0, 0), (3, 3), (1000, 128), (20_000, 313)])
def test_all_are_looked_at_every_second_or_two_and_few_at_a_time(monkeypatch, count, most_at_once):
    looked: Counter[int] = Counter()
    moments: Counter[float] = Counter()
    loop = jumping_loop(monkeypatch, sweep)

    def look(one, now):
        looked[one] += 1
        moments[now] += 1

    async def main():
        one = Sweep(range(count), look)
        one.start()
        await asyncio.sleep(6 * EVERY_S)
        one.stop()
        before = looked.total()
        await asyncio.sleep(5 * EVERY_S)
        assert looked.total() == before

    loop.run_until_complete(main())
    loop.close()

    assert len(looked) == count
    assert all(4 <= times <= 7 for times in looked.values())
    assert max(moments.values(), default=0) <= most_at_once
