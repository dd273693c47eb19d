"""The models of a running server as people see them: an overview, and one model in full.

Made from what the management API tells (the describe answers of TorchServe).
"""

from __future__ import annotations

from typing import Any

import click

from marserve import terminal
from marserve.client import Client, ServerRefused


def overview(client: Client) -> str:
    """All versions of all models, one line each; empty without models."""
    rows: list[tuple[str, ...]] = []
    for model in client.models():
        name = model["modelName"]
        try:
            versions = client.describe(name, "all")
            default = _default_version(client, name, versions)
        except ServerRefused as error:
            if error.code != 404:  # removed since it was listed
                raise
            continue
        rows += [_overview_row(version, default) for version in versions]
    head = ("MODEL", "VERSION", "STATE", "WORKERS", "WAITING", "ARCHIVE")
    return terminal.table(head, rows) if rows else ""


def description(client: Client, name: str, versions: list[dict[str, Any]]) -> str:
    """Settings and workers of these versions of one model."""
    default = _default_version(client, name, versions)
    return "\n\n".join(_description(version, default) for version in versions)


def _default_version(client: Client, name: str, versions: list[dict[str, Any]]) -> str:
    if len(versions) == 1:
        return str(versions[0]["modelVersion"])
    return str(client.describe(name)[0]["modelVersion"])


def _overview_row(version: dict[str, Any], default: str) -> tuple[str, ...]:
    number = str(version["modelVersion"])
    return (
        str(version["modelName"]),
        f"{number} (default)" if number == default else number,
        terminal.coloured(_state(version)),
        f"{_ready(version)} of {version['minWorkers']}",
        str(version.get("jobQueueStatus", {}).get("pendingRequests", "-")),
        str(version["modelUrl"]),
    )


def _ready(version: dict[str, Any]) -> int:
    return sum(worker["status"] == "READY" for worker in version["workers"])


def _state(version: dict[str, Any]) -> str:
    ready, wanted = _ready(version), version["minWorkers"]
    if ready and ready >= wanted:
        return "READY"
    if ready:
        return "PARTLY READY"
    return "NOT READY" if wanted else "NO WORKERS"


def _description(version: dict[str, Any], default: str) -> str:
    number = str(version["modelVersion"])
    note = " (default)" if number == default else ""
    title = click.style(f"{version['modelName']} {number}", bold=True)
    least, most = version["minWorkers"], version["maxWorkers"]
    queue = version.get("jobQueueStatus", {})
    facts = [
        ("archive", str(version["modelUrl"])),
        ("workers", f"{_ready(version)} ready, {_range(least, most)} wanted"),
        ("batch", f"up to {_requests(version['batchSize'])}, {version['maxBatchDelay']} ms"),
        (
            "timeouts",
            f"response {version['responseTimeout']} s, start-up {version['startupTimeout']} s",
        ),
        (
            "waiting",
            f"{_requests(queue.get('pendingRequests', 0))}, room for "
            f"{queue.get('remainingCapacity', '-')} more",
        ),
    ]
    lines = [f"{title}{note}  {terminal.coloured(_state(version))}"]
    lines += [f"  {name:<9} {value}" for name, value in facts]
    if version["workers"]:
        lines += ["", *(f"  {line}" for line in _workers(version["workers"]).splitlines())]
    return "\n".join(lines)


def _requests(count: int) -> str:
    return "1 request" if count == 1 else f"{count} requests"


def _range(least: int, most: int) -> str:
    return str(least) if least == most else f"{least} to {most}"


def _workers(workers: list[dict[str, Any]]) -> str:
    rows = [
        (
            str(worker["id"]),
            terminal.coloured(str(worker["status"])),
            str(worker["pid"]) if worker["pid"] > 0 else "-",
            terminal.memory(worker["memoryUsage"]),
            str(worker["startTime"]),
        )
        for worker in workers
    ]
    return terminal.table(("WORKER", "STATE", "PID", "MEMORY", "STARTED"), rows)
