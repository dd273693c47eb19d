"""Which request target means what, and that every other one is refused in a known way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.errors import InvalidInput, MethodNotAllowed, RouteNotFound
from marserve.servers.routes import ROUTES, Operation, Target, resolve

PING, PREDICT, EXPLAIN = Operation.PING, Operation.PREDICT, Operation.EXPLAIN


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/ping", Target(PING)),
        (b"/ping/", Target(PING)),
        (b"/ping/what/ever", Target(PING)),
        (b"/ping?x=1", Target(PING)),
        (b"/p%69ng", Target(PING)),
        (b"/predictions/m", Target(PREDICT, "m")),
        (b"/predictions/m/", Target(PREDICT, "m")),
        (b"/predictions/m?a=/b/c", Target(PREDICT, "m")),
        (b"/predictions/m#x/y", Target(PREDICT, "m")),
        (b"/predictions/m/1.0", Target(PREDICT, "m", "1.0")),
        (b"/predictions/m/1.0/", Target(PREDICT, "m", "1.0")),
        (b"/predictions/m/1.0/a/b%20c?x=1", Target(PREDICT, "m", "1.0", "a/b c")),
        (
            b"/predictions/m/1.0/v1/chat/completions/",
            Target(PREDICT, "m", "1.0", "v1/chat/completions"),
        ),
        (b"/predictions/m/1.0/a%2Fb", Target(PREDICT, "m", "1.0", "a/b")),
        (b"http://host:8080/predictions/m?x=1", Target(PREDICT, "m")),
        (b"HTTP://host/ping", Target(PING)),
        (b"/predictions/m+n/1+2", Target(PREDICT, "m+n", "1+2")),
        (b"/predictions/a%2Fb", Target(PREDICT, "a/b")),
        (b"/predictions/%C3%A9", Target(PREDICT, "\u00e9")),
        (b"/predictions/%zz", Target(PREDICT, "%zz")),
        (b"/predictions/../ping", Target(PREDICT, "..", "ping")),
        (b"/predictions/m//x", Target(PREDICT, "m", "", "x")),
        (b"/explanations/m", Target(EXPLAIN, "m")),
        (b"/explanations/m/2/p", Target(EXPLAIN, "m", "2", "p")),
    ],
)
def test_a_target_means_an_operation(target, expected):
    assert resolve(b"GET", target) == expected


@pytest.mark.parametrize("method", [b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"HEAD", b"LOCK"])
def test_every_method_means_the_same(method):
    assert resolve(method, b"/predictions/m") == Target(PREDICT, "m")


@pytest.mark.parametrize(
    ("method", "target", "error"),
    [
        (b"GET", b"/", MethodNotAllowed),
        (b"POST", b"/", MethodNotAllowed),
        (b"OPTIONS", b"/", MethodNotAllowed),
        (b"GET", b"/?x=1", MethodNotAllowed),
        (b"GET", b"//", MethodNotAllowed),
        (b"GET", b"/predictions", RouteNotFound),
        (b"GET", b"/predictions/", RouteNotFound),
        (b"GET", b"/predictions//m", RouteNotFound),
        (b"GET", b"/Predictions/m", RouteNotFound),
        (b"GET", b"/models", RouteNotFound),
        (b"GET", b"/metrics", RouteNotFound),
        (b"GET", b"//ping", RouteNotFound),
        (b"GET", b"/pingx", RouteNotFound),
        (b"GET", b"/ping%00", RouteNotFound),
        (b"OPTIONS", b"/ping", RouteNotFound),
        (b"OPTIONS", b"/predictions/m", RouteNotFound),
        (b"GET", b"", InvalidInput),
        (b"GET", b"ping", InvalidInput),
        (b"GET", b"*", InvalidInput),
        (b"GET", b"/predictions/%ff", InvalidInput),
        (b"GET", b"/predictions/m/1/%c3", InvalidInput),
        (b"GET", b"/\xff", InvalidInput),
    ],
)
def test_every_other_target_is_refused(method, target, error):
    with pytest.raises(error):
        resolve(method, target)


@given(st.binary(max_size=10), st.binary(max_size=60).map(lambda rest: b"/" + rest))
def test_random_targets_mean_something_or_are_refused_in_a_known_way(method, target):
    try:
        found = resolve(method, target)
    except (InvalidInput, MethodNotAllowed, RouteNotFound):
        return
    assert found.operation in {route.operation for route in ROUTES}


@given(
    st.sampled_from(ROUTES[1:]), st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=4)
)
def test_quoted_segments_come_back_as_they_were(route, segments):
    quoted = "".join("/" + "".join(f"%{byte:02x}" for byte in s.encode()) for s in segments)
    name, version, path = segments[0], *[*segments[1:2], None][:1], "/".join(segments[2:])

    assert resolve(b"POST", f"/{route.segment}{quoted}".encode()) == Target(
        route.operation, name, version, path
    )
