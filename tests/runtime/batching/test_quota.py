"""Each client may send so many requests a second, and no other pays for it."""

from hypothesis import given
from hypothesis import strategies as st

from marserve.batching import quota as quota_module
from marserve.batching.quota import Quota


def test_a_second_of_burst_is_free_and_then_one_waits_for_the_next_token():
    quota = Quota(per_s=2.0)
    for _ in range(2):
        assert quota.wait_s("a", 10.0) == 0.0
        quota.spend("a", 10.0)
    assert quota.wait_s("a", 10.0) == 0.5
    assert quota.wait_s("a", 10.5) == 0.0
    assert quota.wait_s("b", 10.0) == 0.0


def test_as_many_clients_are_remembered_as_may_be(monkeypatch):
    monkeypatch.setattr(quota_module, "MAX_CLIENTS", 3)
    quota = Quota(per_s=1.0)
    for name in "abcde":
        quota.spend(name, 0.0)
    assert len(quota._buckets) == 3
    assert quota.wait_s("a", 0.0) == 0.0
    assert quota.wait_s("e", 0.0) == 1.0


@given(st.lists(st.floats(0, 0.5), max_size=300), st.integers(1, 20))
def test_in_any_time_a_client_gets_no_more_than_burst_and_rate_allow(pauses, per_s):
    quota, now, taken = Quota(float(per_s)), 0.0, 0
    for pause in pauses:
        now += pause
        if quota.wait_s("a", now) == 0.0:
            quota.spend("a", now)
            taken += 1
        assert taken <= per_s * (now + 1.0) + 1e-6
