"""Which request target means what, and that every other one is refused in a known way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.errors import InvalidInput, MethodNotAllowed, RouteNotFound
from marserve.servers.routes import Operation, Routes, Target, is_public

ROUTES = Routes()
WITH_OIP = Routes(open_inference_protocol=True)
INFER, INVOKE = Operation.INFER, Operation.INVOKE


def predict(name, version=None, path=""):
    return Target(INFER, name, version, path, explain=False)


def explain(name, version=None, path=""):
    return Target(INFER, name, version, path, explain=True)


def kserve(name, explain):
    return Target(INFER, name, explain=explain)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/ping", Target(Operation.PING)),
        (b"/ping/", Target(Operation.PING)),
        (b"/ping/what/ever", Target(Operation.PING)),
        (b"/ping?x=1", Target(Operation.PING)),
        (b"/p%69ng", Target(Operation.PING)),
        (b"/predictions/m", predict("m")),
        (b"/predictions/m/", predict("m")),
        (b"/predictions/m?a=/b/c", predict("m")),
        (b"/predictions/m#x/y", predict("m")),
        (b"/predictions/m/1.0", predict("m", "1.0")),
        (b"/predictions/m/1.0/", predict("m", "1.0")),
        (b"/predictions/m/1.0/a/b%20c?x=1", predict("m", "1.0", "a/b c")),
        (b"/predictions/m/1.0/v1/chat/completions/", predict("m", "1.0", "v1/chat/completions")),
        (b"/predictions/m/1.0/a%2Fb", predict("m", "1.0", "a/b")),
        (b"http://host:8080/predictions/m?x=1", predict("m")),
        (b"HTTP://host/ping", Target(Operation.PING)),
        (b"/predictions/m+n/1+2", predict("m+n", "1+2")),
        (b"/predictions/a%2Fb", predict("a/b")),
        (b"/predictions/%C3%A9", predict("\u00e9")),
        (b"/predictions/%zz", predict("%zz")),
        (b"/predictions/../ping", predict("..", "ping")),
        (b"/predictions/m//x", predict("m", "", "x")),
        (b"/predictions/predict/predict", predict("predict", "predict")),
        (b"/explanations/m", explain("m")),
        (b"/explanations/m/2/p", explain("m", "2", "p")),
        (b"/v1/models/m:predict", kserve("m", False)),
        (b"/v1/models/m:explain?x=1", kserve("m", True)),
        (b"/v1/models/a:b:predict/", kserve("a:b", False)),
        (b"/v1/models/m%3Apredict", kserve("m", False)),
        (b"/v2/models/m/infer", kserve("m", False)),
        (b"/v2/models/m/explain/", kserve("m", True)),
        (b"/invocations", Target(INVOKE)),
        (b"/invocations/what/ever", Target(INVOKE)),
        (b"/invocations?model_name=m", Target(INVOKE, query=(("model_name", "", b"m"),))),
        (b"/models/m/invoke", Target(INFER, "m")),
        (b"/models/m/invoke?a=1&a=2", Target(INFER, "m", query=(("a", "", b"2"),))),
        (b"/m/predict", Target(INFER, "m")),
        (b"/m/1.0/predict?a=%20", Target(INFER, "m", "1.0", query=(("a", "", b" "),))),
        (b"/wfpredict/w", Target(Operation.WORKFLOW, "w")),
        (b"/WfPredict/w/more?x=1", Target(Operation.WORKFLOW, "w")),
        (b"/api-description", Target(Operation.DESCRIBE_API)),
        (b"/healthz/live", Target(Operation.LIVE)),
        (b"/healthz/ready", Target(Operation.READY)),
        (b"/healthz/ready/m", Target(Operation.READY, "m")),
        (b"/healthz/ready/m/1.0", Target(Operation.READY, "m", "1.0")),
    ],
)
def test_a_target_means_an_operation(target, expected):
    assert ROUTES.resolve(b"GET", target) == expected


@pytest.mark.parametrize("method", [b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"HEAD", b"LOCK"])
def test_every_method_means_the_same(method):
    assert ROUTES.resolve(method, b"/predictions/m") == predict("m")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/", Target(Operation.DESCRIBE_API)),
        (b"/?x=1", Target(Operation.DESCRIBE_API)),
        (b"/api-description", Target(Operation.DESCRIBE_API)),
        (b"/predictions/m", Target(Operation.DESCRIBE_MODEL, "m")),
        (b"/predictions/m/1.0/path", Target(Operation.DESCRIBE_MODEL, "m")),
        (b"/ping", Target(Operation.PING)),
    ],
)
def test_options_asks_what_there_is(target, expected):
    assert ROUTES.resolve(b"OPTIONS", target) == expected


@pytest.mark.parametrize(
    "target",
    [
        b"/explanations/m", b"/invocations", b"/models/m/invoke", b"/m/predict", b"/wfpredict/w",
        b"/v1/models/m:predict", b"/v2/models/m/infer", b"/predictions", b"/nowhere",
    ],
)  # fmt: skip
def test_options_never_runs_a_model(target):
    with pytest.raises(RouteNotFound):
        ROUTES.resolve(b"OPTIONS", target)


@pytest.mark.parametrize(
    ("target", "error"),
    [
        (b"/", MethodNotAllowed),
        (b"/?x=1", MethodNotAllowed),
        (b"//", MethodNotAllowed),
        (b"/predictions", RouteNotFound),
        (b"/predictions/", RouteNotFound),
        (b"/predictions//m", RouteNotFound),
        (b"/Predictions/m", RouteNotFound),
        (b"/models", RouteNotFound),
        (b"/models/m", RouteNotFound),
        (b"/models/m/1.0", RouteNotFound),
        (b"/models/m/Invoke", RouteNotFound),
        (b"/models/m/invoke/x", RouteNotFound),
        (b"/models/predict", RouteNotFound),
        (b"/m/predict/x", RouteNotFound),
        (b"/m/1.0/2.0/predict", RouteNotFound),
        (b"//predict", RouteNotFound),
        (b"/predict", RouteNotFound),
        (b"/metrics", RouteNotFound),
        (b"/v1/models/m", RouteNotFound),
        (b"/v1/models/:predict", RouteNotFound),
        (b"/v1/models/m:predict/x", RouteNotFound),
        (b"/v2", RouteNotFound),
        (b"/v2/health/live", RouteNotFound),
        (b"/v2/models/m", RouteNotFound),
        (b"/v2/models/m/ready", RouteNotFound),
        (b"/v2/models/m/versions/1/infer", RouteNotFound),
        (b"/wfpredict", RouteNotFound),
        (b"/api-description/x", RouteNotFound),
        (b"/healthz", RouteNotFound),
        (b"/healthz/ready/m/1.0/x", RouteNotFound),
        (b"//ping", RouteNotFound),
        (b"/pingx", RouteNotFound),
        (b"/ping%00", RouteNotFound),
        (b"", InvalidInput),
        (b"ping", InvalidInput),
        (b"*", InvalidInput),
        (b"/predictions/%ff", InvalidInput),
        (b"/predictions/m/1/%c3", InvalidInput),
        (b"/\xff", InvalidInput),
        (b"/invocations?" + b"x&" * 1001, InvalidInput),
    ],
)
def test_every_other_target_is_refused(target, error):
    with pytest.raises(error):
        ROUTES.resolve(b"GET", target)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/v2", Target(Operation.OIP_SERVER)),
        (b"/v2/", Target(Operation.OIP_SERVER)),
        (b"/v2/health/live", Target(Operation.OIP_LIVE)),
        (b"/v2/health/ready", Target(Operation.OIP_READY)),
        (b"/v2/models/m/versions", Target(Operation.OIP_VERSIONS, "m")),
        (b"/v2/models/m/versions/1.0/infer", Target(Operation.OIP_VERSIONS, "m")),
        (b"/v2/models/m/infer", kserve("m", False)),
    ],
)
def test_the_open_inference_protocol_has_paths_of_its_own_where_it_is_on(target, expected):
    assert WITH_OIP.resolve(b"GET", target) == expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/", True),
        (b"/?x=/predictions", True),
        (b"/api-description", True),
        (b"/api-description/?x", True),
        (b"/ping", False),
        (b"/healthz/live", False),
        (b"/predictions/m", False),
        (b"/api-description/../predictions/m", False),
        (b"/api-description#/predictions/m", False),
        (b"http://x/api-description", False),
        (b"*", False),
    ],
)
def test_only_the_description_of_the_api_needs_no_token(target, expected):
    assert is_public(target) is expected


@given(st.binary(max_size=10), st.binary(max_size=60).map(lambda rest: b"/" + rest))
def test_random_targets_mean_something_or_are_refused_in_a_known_way(method, target):
    try:
        found = WITH_OIP.resolve(method, target)
    except (InvalidInput, MethodNotAllowed, RouteNotFound):
        return
    assert type(found) is Target
    if is_public(target):
        assert found.operation is Operation.DESCRIBE_API


@given(
    st.sampled_from([("predictions", predict), ("explanations", explain)]),
    st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=4),
)
def test_quoted_segments_come_back_as_they_were(row, segments):
    first, made = row
    quoted = "".join("/" + "".join(f"%{byte:02x}" for byte in s.encode()) for s in segments)
    name, version, path = segments[0], *[*segments[1:2], None][:1], "/".join(segments[2:])

    assert ROUTES.resolve(b"POST", f"/{first}{quoted}".encode()) == made(name, version, path)
