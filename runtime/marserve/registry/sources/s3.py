"""The signature that S3 wants on requests for private or KMS-encrypted objects (AWS SigV4). Pure.

Follows AWS's description of signature version 4 for requests without a body. As TorchServe did,
the request carries no header about KMS: S3 decrypts whatever it may for whoever signed.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote, unquote_to_bytes

EMPTY_BODY_SHA256: Final = hashlib.sha256(b"").hexdigest()
_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_UNRESERVED: Final = "-_.~"
_BLANKS: Final = re.compile(r" +")
_NAMES: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who signs."""

    key_id: str
    secret_key: str = field(repr=False)
    region: str
    session_token: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Credentials | None:
        """What AWS's own variables say; None unless key, secret and region are all set."""
        key_id, secret_key, region = (environ.get(name, "") for name in _NAMES)
        if not (key_id and secret_key and region):
            return None
        return cls(key_id, secret_key, region, environ.get("AWS_SESSION_TOKEN") or None)


def signed_get(
    credentials: Credentials, host_header: str, target: str, now: datetime
) -> dict[str, str]:
    """The headers, Host included, of a signed GET of the S3 object at `target` (path and query)."""
    headers = {
        "Host": host_header,
        "x-amz-content-sha256": EMPTY_BODY_SHA256,
        "x-amz-date": _stamp(now),
    }
    if credentials.session_token is not None:
        headers["x-amz-security-token"] = credentials.session_token
    path, _, query = target.partition("?")
    # S3 signs a path as it is sent; other services would encode it a second time
    canonical_path = quote(unquote_to_bytes(path), safe=f"/{_UNRESERVED}")
    headers["Authorization"] = authorization(
        credentials, "s3", "GET", canonical_path, query, headers, EMPTY_BODY_SHA256
    )
    return headers


def authorization(
    credentials: Credentials,
    service: str,
    method: str,
    canonical_path: str,
    query: str,
    headers: Mapping[str, str],
    body_sha256: str,
) -> str:
    """The value of the Authorization header.

    Args:
        credentials: who signs.
        service: the AWS service, `s3`.
        method: the HTTP method in capitals.
        canonical_path: percent-encoded in exactly the way the service expects.
        query: as it is sent, without the question mark; may be empty.
        headers: all that are signed, `x-amz-date` among them.
        body_sha256: in hex.
    """
    lower = {name.lower(): _BLANKS.sub(" ", value.strip()) for name, value in headers.items()}
    signed_names = ";".join(sorted(lower))
    canonical = "\n".join(
        (
            method,
            canonical_path,
            _canonical_query(query),
            *(f"{name}:{lower[name]}" for name in sorted(lower)),
            "",
            signed_names,
            body_sha256,
        )
    )
    stamp = lower["x-amz-date"]
    scope = f"{stamp[:8]}/{credentials.region}/{service}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = f"{_ALGORITHM}\n{stamp}\n{scope}\n{digest}"
    signature = _keyed(signing_key(credentials, stamp[:8], service), to_sign).hex()
    return (
        f"{_ALGORITHM} Credential={credentials.key_id}/{scope}, "
        f"SignedHeaders={signed_names}, Signature={signature}"
    )


def signing_key(credentials: Credentials, day: str, service: str) -> bytes:
    """The key of one day (YYYYMMDD), region and service."""
    key = f"AWS4{credentials.secret_key}".encode()
    for part in (day, credentials.region, service, "aws4_request"):
        key = _keyed(key, part)
    return key


def _canonical_query(query: str) -> str:
    if not query:
        return ""
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    return "&".join(
        f"{name}={value}"
        for name, value in sorted((_encoded(name), _encoded(value)) for name, _, value in pairs)
    )


def _encoded(text: str) -> str:
    return quote(unquote_to_bytes(text), safe=_UNRESERVED)


def _keyed(key: bytes, message: str) -> bytes:
    return hmac.new(key, message.encode(), hashlib.sha256).digest()


def _stamp(now: datetime) -> str:
    return now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
