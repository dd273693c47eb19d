"""The headers that all answers of the control ports have, and those of their error bodies."""

from __future__ import annotations

import uuid

from marserve.protocols.faults import Fault


def fault_headers(fault: Fault, body: bytes) -> list[tuple[str, str]]:
    """The headers that belong to an error body."""
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    if fault.retry_after_s is not None:
        headers.append(("Retry-After", str(fault.retry_after_s)))
    if fault.status == 401:
        headers.append(("WWW-Authenticate", "Bearer"))
    return headers


def common_headers() -> list[tuple[str, str]]:
    """The headers of every answer; TorchServe's values."""
    return [
        ("x-request-id", str(uuid.uuid4())),
        ("Pragma", "no-cache"),
        ("Cache-Control", "no-cache; no-store, must-revalidate, private"),
        ("Expires", "Thu, 01 Jan 1970 00:00:00 UTC"),
    ]
