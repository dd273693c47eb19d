"""The routes of the inference port, as data, and how a request target finds its row. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from urllib.parse import unquote_to_bytes

from marserve.errors import InvalidInput, MethodNotAllowed, RouteNotFound
from marserve.protocols.torchserve import query_parts
from marserve.request import RequestPart


class Operation(Enum):
    """What is asked for. OIP: the Open Inference Protocol."""

    INFER = auto()
    INVOKE = auto()
    """As INFER; which model, the query, the server or the body says."""
    WORKFLOW = auto()
    PING = auto()
    DESCRIBE_API = auto()
    DESCRIBE_MODEL = auto()
    LIVE = auto()
    READY = auto()
    OIP_SERVER = auto()
    OIP_LIVE = auto()
    OIP_READY = auto()
    OIP_VERSIONS = auto()


@dataclass(frozen=True, slots=True)
class Route:
    """A path, what it means, and what of it a handler sees.

    `{model}`, `{version}` and `{workflow}` stand for one segment, alone or before a fixed end;
    `{path}` for any number of segments, and `{*}` for any number that mean nothing. The first row
    that fits counts.
    """

    path: str
    operation: Operation
    explain: bool | None = None
    """What a handler is told by the header `explain`; None: nothing."""
    shows_path: bool = False
    """Whether a handler is told by the header `url_path` what followed the version."""
    takes_query: bool = False
    """Whether the parameters of the query belong to the row."""


_INFER = Operation.INFER

OPTIONS_ROUTES = (
    Route("/", Operation.DESCRIBE_API),
    Route("/predictions/{model}/{*}", Operation.DESCRIBE_MODEL),
    Route("/ping/{*}", Operation.PING),
    Route("/api-description", Operation.DESCRIBE_API),
)
"""What the method OPTIONS finds. It never runs a model: browsers send it on their own account."""

ROUTES = (
    Route("/predictions/{model}", _INFER, explain=False, shows_path=True),
    Route("/predictions/{model}/{version}/{path}", _INFER, explain=False, shows_path=True),
    Route("/explanations/{model}", _INFER, explain=True, shows_path=True),
    Route("/explanations/{model}/{version}/{path}", _INFER, explain=True, shows_path=True),
    Route("/v1/models/{model}:predict", _INFER, explain=False),
    Route("/v1/models/{model}:explain", _INFER, explain=True),
    Route("/v2/models/{model}/infer", _INFER, explain=False),
    Route("/v2/models/{model}/explain", _INFER, explain=True),
    Route("/invocations/{*}", Operation.INVOKE, takes_query=True),
    Route("/models/{model}/invoke", _INFER, takes_query=True),
    Route("/wfpredict/{workflow}/{*}", Operation.WORKFLOW),
    Route("/ping/{*}", Operation.PING),
    Route("/api-description", Operation.DESCRIBE_API),
    Route("/healthz/live", Operation.LIVE),
    Route("/healthz/ready", Operation.READY),
    Route("/healthz/ready/{model}", Operation.READY),
    Route("/healthz/ready/{model}/{version}", Operation.READY),
)
"""As in TorchServe, every method but OPTIONS means the same on these paths."""

OIP_ROUTES = (
    Route("/v2", Operation.OIP_SERVER),
    Route("/v2/health/live", Operation.OIP_LIVE),
    Route("/v2/health/ready", Operation.OIP_READY),
    Route("/v2/models/{model}/versions/{*}", Operation.OIP_VERSIONS),
)
"""Only where `ts_open_inference_protocol` is on."""

LEGACY_ROUTES = (
    Route("/{model}/predict", _INFER, takes_query=True),
    Route("/{model}/{version}/predict", _INFER, takes_query=True),
)
"""The oldest paths; a model named as another route begins cannot be reached by them."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes."""

    operation: Operation
    name: str = ""
    """Of the model or workflow."""
    version: str | None = None
    url_path: str | None = None
    """What follows the version, decoded, without slashes at its ends; None: not to be seen."""
    explain: bool | None = None
    query: tuple[RequestPart, ...] = ()
    """The parameters of the query, where they belong to the row."""


class Routes:
    """The rows that a server serves, by their first segment."""

    def __init__(self, open_inference_protocol: bool = False) -> None:
        more = OIP_ROUTES if open_inference_protocol else ()
        self._with_options = _by_segment(OPTIONS_ROUTES)
        self._others = _by_segment((*ROUTES, *more))

    def resolve(self, method: bytes, target: bytes) -> Target:
        """The target that a request line means.

        Raises:
            RouteNotFound, MethodNotAllowed: nothing is served there.
            InvalidInput: the path cannot be decoded.
        """
        path, query = _path_and_query(target)
        segments = [_decoded(segment) for segment in path.strip(b"/").split(b"/")]
        if path.startswith(b"//") and segments != [""]:
            raise RouteNotFound
        first = segments[0]
        if first.lower() == "wfpredict":  # the one word whose case TorchServe does not mind
            segments[0] = first = "wfpredict"
        known = self._with_options if method == b"OPTIONS" else self._others
        rows = known.get(first)
        if rows is None and method != b"OPTIONS":
            rows = _LEGACY
        for pattern, route in rows or ():
            found = _match(pattern, segments)
            if found is not None:
                return _target(route, found, query)
        raise MethodNotAllowed if segments == [""] else RouteNotFound


def is_public(target: bytes) -> bool:
    """Whether no token is needed: the description of the API, and `/`, which is nothing else."""
    path = target.partition(b"?")[0].rstrip(b"/")
    return path in (b"", b"/api-description")


# --- patterns -------------------------------------------------------------------------------------

_Pattern = list[str]
_Row = tuple[_Pattern, Route]


def _by_segment(routes: Iterable[Route]) -> dict[str, list[_Row]]:
    rows: dict[str, list[_Row]] = {}
    for route in routes:
        pattern = route.path.strip("/").split("/")
        rows.setdefault(pattern[0], []).append((pattern, route))
    return rows


_LEGACY: list[_Row] = [(route.path.strip("/").split("/"), route) for route in LEGACY_ROUTES]


def _match(pattern: _Pattern, segments: list[str]) -> dict[str, str] | None:
    """What stands for each name of `pattern`, or None where it does not fit."""
    found: dict[str, str] = {}
    for index, expected in enumerate(pattern):
        if expected in ("{path}", "{*}"):
            found[expected] = "/".join(segments[index:])
            return found
        if index == len(segments):
            return None
        segment = segments[index]
        name, _, end = expected.lstrip("{").partition("}")
        if name == expected:
            if segment != expected:
                return None
            continue
        found[name] = segment.removesuffix(end)
        if not segment.endswith(end) or (not found[name] and name != "version"):
            return None
    return found if len(segments) == len(pattern) else None


def _target(route: Route, found: dict[str, str], query: bytes) -> Target:
    return Target(
        route.operation,
        found.get("model") or found.get("workflow", ""),
        found.get("version"),
        found.get("{path}", "") if route.shows_path else None,
        route.explain,
        tuple(query_parts(query)) if route.takes_query else (),
    )


# --- request targets ------------------------------------------------------------------------------


def _path_and_query(target: bytes) -> tuple[bytes, bytes]:
    if target[:7].lower() == b"http://":  # as proxies are asked; servers must understand it too
        target = b"/" + target[7:].partition(b"/")[2]
    if not target.startswith(b"/"):
        raise InvalidInput("Invalid HTTP message.")
    path, _, query = target.partition(b"#")[0].partition(b"?")
    return path, query


def _decoded(segment: bytes) -> str:
    try:
        return unquote_to_bytes(segment).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput("The path is not UTF-8 once its percent signs are decoded.") from error
