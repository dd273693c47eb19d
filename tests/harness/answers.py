"""Events of requests that were answered."""

from marserve.events import (
    GrpcAnswered,
    GrpcCallsAnswered,
    Origin,
    RequestAnswered,
    RequestsAnswered,
)


def one(name, version, status, latency_s, method, path, client):
    """An answered request."""
    return RequestAnswered(name, version, status, latency_s, Origin(method, path, client))


def told(*args):
    """The event that tells of one answered request."""
    return RequestsAnswered([one(*args)])


def called(path, client, code, duration_s):
    """The event that tells of one gRPC call that ended."""
    return GrpcCallsAnswered([GrpcAnswered(Origin("gRPC", path, client), code, duration_s)])
