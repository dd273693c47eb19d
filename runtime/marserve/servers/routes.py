"""The routes of the inference port, as data, and how a request target finds its row. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from urllib.parse import unquote_to_bytes

from marserve.errors import InvalidInput, MethodNotAllowed, RouteNotFound


class Operation(Enum):
    """What is asked for."""

    PING = auto()
    PREDICT = auto()
    EXPLAIN = auto()


@dataclass(frozen=True, slots=True)
class Route:
    """A first path segment, what it means, and whether a model's name must follow."""

    segment: str
    operation: Operation
    names_model: bool


ROUTES = (
    Route("ping", Operation.PING, names_model=False),
    Route("predictions", Operation.PREDICT, names_model=True),
    Route("explanations", Operation.EXPLAIN, names_model=True),
)
"""As in TorchServe, every method but OPTIONS means the same on these paths."""

_BY_SEGMENT = {route.segment: route for route in ROUTES}


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes."""

    operation: Operation
    name: str = ""
    version: str | None = None
    url_path: str = ""
    """What follows the version, decoded, without slashes at its ends."""


def resolve(method: bytes, target: bytes) -> Target:
    """The target that a request line means.

    Raises:
        RouteNotFound, MethodNotAllowed: nothing is served there.
        InvalidInput: the path cannot be decoded.
    """
    if target[:7].lower() == b"http://":  # as proxies are asked; servers must understand it too
        target = b"/" + target[7:].partition(b"/")[2]
    if not target.startswith(b"/"):
        raise InvalidInput("Invalid HTTP message.")
    path = target.partition(b"?")[0].partition(b"#")[0]
    segments = [_decoded(segment) for segment in path.strip(b"/").split(b"/")]
    if segments == [""]:
        raise MethodNotAllowed
    route = _BY_SEGMENT.get(segments[0])
    if route is None or path.startswith(b"//") or method == b"OPTIONS":
        raise RouteNotFound
    if not route.names_model:
        return Target(route.operation)
    if len(segments) < 2 or not segments[1]:
        raise RouteNotFound
    version = segments[2] if len(segments) > 2 else None
    return Target(route.operation, segments[1], version, "/".join(segments[3:]))


def _decoded(segment: bytes) -> str:
    try:
        return unquote_to_bytes(segment).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput("The path is not UTF-8 once its percent signs are decoded.") from error
