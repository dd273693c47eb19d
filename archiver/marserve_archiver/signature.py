"""A detached signature of an archive: what stands in `model.mar.sig`, and what exactly was signed.

Pure: bytes in, frozen value out, and back. Knows no keys; `signing.py` does.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Final

from marserve_archiver.errors import NotTrusted

SIGNATURE_SUFFIX: Final = ".sig"
MAX_SIGNATURE_BYTES: Final = 4096
ALGORITHM: Final = "ed25519"
_FORMAT: Final = 1
_SIGNATURE_BYTES: Final = 64
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_KEYS: Final = ("algorithm", "key_id", "sha256", "signature", "made_at")


@dataclass(frozen=True, slots=True)
class Signature:
    """Who says that an archive is theirs, and which archive that is."""

    key_id: str
    """sha256 of the 32 bytes of the public key, in hex."""
    digest: str
    """sha256 of the archive's bytes, in hex."""
    made_at: str
    """In UTC, as `2026-05-01T10:00:00Z`; part of what was signed."""
    signature: bytes = b""

    def message(self) -> bytes:
        """The bytes that were signed. The first line keeps them from meaning anything elsewhere."""
        lines = ("marserve archive signature 1", self.digest, self.made_at, "")
        return "\n".join(lines).encode()


def is_digest(text: str) -> bool:
    """Whether this is a sha256 in lower-case hex."""
    return _DIGEST.fullmatch(text) is not None


def dump(signature: Signature) -> bytes:
    """The bytes of the signature file."""
    document = {
        "format": _FORMAT,
        "algorithm": ALGORITHM,
        "key_id": signature.key_id,
        "sha256": signature.digest,
        "made_at": signature.made_at,
        "signature": base64.b64encode(signature.signature).decode(),
    }
    return (json.dumps(document, indent=2) + "\n").encode()


def parse(content: bytes) -> Signature:
    """Reads a signature file.

    Raises:
        NotTrusted: it is none, with the reason bad-signature.
    """
    if len(content) > MAX_SIGNATURE_BYTES:
        raise _damaged(f"it is larger than {MAX_SIGNATURE_BYTES} bytes")
    try:
        document = json.loads(content.decode(), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise _damaged("it is not JSON") from error
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise _damaged(f"it is no signature of format {_FORMAT}")
    fields = {key: document.get(key) for key in _KEYS}
    if not all(isinstance(value, str) for value in fields.values()):
        raise _damaged(f"it must have {', '.join(_KEYS)} as text")
    algorithm, key_id, digest, signature, made_at = map(str, fields.values())
    if algorithm != ALGORITHM:
        raise _damaged(f"its algorithm is {algorithm[:40]!r}, and only {ALGORITHM} is known")
    if not is_digest(key_id) or not is_digest(digest) or not _MOMENT.fullmatch(made_at):
        raise _damaged("its key_id, sha256 or made_at has the wrong form")
    return Signature(key_id, digest, made_at, _decoded(signature))


def _decoded(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _damaged("its signature is not base64") from error
    if len(raw) != _SIGNATURE_BYTES or base64.b64encode(raw).decode() != text:
        raise _damaged(f"its signature is not {_SIGNATURE_BYTES} bytes in base64")
    return raw


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("the same key twice")
    return document


def _damaged(why: str) -> NotTrusted:
    return NotTrusted("bad-signature", f"The signature file cannot be used: {why}.")
