"""The commands `archiver keygen` and `archiver sign`, and what `archiver verify --key` asks for."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

from marserve_archiver.errors import InputInvalid
from marserve_archiver.signing import (
    SignatureCheck,
    make_key,
    sign,
    signature_path,
    trusted_keys,
)


def keygen(arguments: list[str]) -> str:
    """Makes the keys that `arguments` ask for; what to tell the user."""
    parser = argparse.ArgumentParser(
        prog="archiver keygen",
        description="Makes a pair of Ed25519 keys: KEY, which signs and stays secret, and beside "
        "it NAME.pub.pem, which servers trust.",
    )
    parser.add_argument("key", type=Path, metavar="KEY", help="the private key to write: NAME.pem")
    options = parser.parse_args(arguments)
    public_path, key_id = make_key(options.key)
    return f"{options.key}: signs; keep it secret\n{public_path}: for trusted_keys, id {key_id}"


def sign_archive(arguments: list[str]) -> str:
    """Signs the archive that `arguments` name; the path of the signature."""
    parser = argparse.ArgumentParser(
        prog="archiver sign", description="Signs an archive; the signature lies beside it."
    )
    parser.add_argument("--key", type=Path, required=True, metavar="FILE", help="the private key")
    parser.add_argument("archive", type=Path, help="a .mar or .tar.gz")
    options = parser.parse_args(arguments)
    now = datetime.now(UTC).replace(microsecond=0, tzinfo=None)
    return str(sign(options.archive, options.key, f"{now.isoformat()}Z"))


def check_of(archive: Path, signature: Path | None, keys: list[Path]) -> SignatureCheck:
    """Whether an archive is signed with one of these keys.

    Raises:
        InputInvalid, InputMissing: it cannot be signed, or a key cannot be used.
    """
    if archive.is_dir():
        raise InputInvalid("input-invalid", f"{archive} is a folder, which cannot be signed.")
    return SignatureCheck(signature or signature_path(archive), trusted_keys(tuple(keys)))
