"""Points as a JSON document: everything that was measured, units in the names. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from marserve.bench.plan import Facts, Plan, Subject
from marserve.bench.point import Point


def document(
    subject: Subject,
    plan: Plan,
    facts: Facts,
    points: Sequence[Point],
    machine: Mapping[str, object],
) -> dict[str, Any]:
    """What `--json` writes."""
    return {
        "model": subject.model,
        "version": subject.version,
        "url": subject.inference.url,
        "machine": dict(machine),
        "plan": asdict(plan),
        "batch_size": facts.batch_size,
        "notes": list(facts.notes),
        "points": [_point(point, facts) for point in points],
    }


def _point(point: Point, facts: Facts) -> dict[str, Any]:
    server = point.server
    spent = server.spent if server else None
    return {
        "connections": point.connections,
        "rate_per_s": point.rate,
        "window_s": point.window_s,
        "is_cut": point.is_cut,
        "succeeded": point.succeeded,
        "failed": point.failed,
        "per_s": point.per_s,
        "latency_ms": {name: seconds * 1000 for name, seconds in point.latency_s.items()},
        "failures": [asdict(failure) for failure in point.failures],
        "generator_cpu_share": point.generator_share,
        "server": server
        and {
            "answers": server.answers,
            "cpu_share": server.cpu_share,
            "mean_batch_size": server.batch_size,
            "batch_fill": server.batch_size / facts.batch_size if facts.batch_size else None,
        },
        "mean_ms": spent and {name: seconds * 1000 for name, seconds in spent.parts().items()},
    }
