"""Signs archives with Ed25519 and checks signatures; reads and makes the keys.

Keys are PEM files as `openssl genpkey -algorithm ed25519` writes them, too. The mathematics is the
package `cryptography`, which is imported only when a key is at hand.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from marserve_archiver.archive import open_archive
from marserve_archiver.disk import DISK, sync_folder, write_new_file
from marserve_archiver.errors import ArchiveExists, InputInvalid, InputMissing, NotTrusted
from marserve_archiver.signature import (
    MAX_SIGNATURE_BYTES,
    SIGNATURE_SUFFIX,
    Signature,
    dump,
    parse,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

_MAX_KEY_BYTES: Final = 16 * 1024
_PUBLIC_SUFFIXES: Final = (".pem", ".pub")


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key, and the file it came from."""

    key_id: str
    path: Path
    public: Ed25519PublicKey


def signature_path(archive: Path) -> Path:
    """Where the signature of an archive lies: beside it."""
    return archive.with_name(archive.name + SIGNATURE_SUFFIX)


def make_key(path: Path) -> tuple[Path, str]:
    """Writes a new private key to `path` (0600), its public half beside it as `NAME.pub.pem`.

    Returns the path of the public key and its id.

    Raises:
        ArchiveExists: one of the files is there; a key is never replaced.
    """
    _require_cryptography()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    public_path = path.with_name(f"{path.stem}.pub.pem")
    for one in (path, public_path):
        if one.exists():
            raise ArchiveExists("exists", f"{one} exists; a key is not replaced, so move it away.")
    secret = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    write_new_file(DISK, path, secret, 0o600)
    write_new_file(DISK, public_path, public, 0o644)
    sync_folder(path.parent)
    return public_path, key_id(private.public_key())


def sign(archive: Path, key: Path, made_at: str) -> Path:
    """Signs an archive that a server would take; the path of the signature file.

    Args:
        archive: a `.mar` or `.tar.gz`; a folder has no bytes of its own to sign.
        key: the private key, in PEM.
        made_at: the moment, as `2026-05-01T10:00:00Z`.

    Raises:
        ArchiveError: the archive is refused, or the key cannot be used.
    """
    private = _private_key(key)
    with open_archive(archive, check=lambda _: None) as opened:
        if opened.folder is not None:
            raise InputInvalid("input-invalid", f"{archive} is a folder; pack it, then sign it.")
        digest = opened.sha256()
    signature = Signature(key_id(private.public_key()), digest, made_at)
    signed = replace(signature, signature=private.sign(signature.message()))
    target = signature_path(archive)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    write_new_file(DISK, partial, dump(signed), 0o644)
    DISK.rename(partial, target)
    sync_folder(target.parent)
    return target


class SignatureCheck:
    """For `open_archive`: refuses an archive unless the signature at `path` is a trusted one."""

    def __init__(self, path: Path, trusted: Mapping[str, TrustedKey]) -> None:
        self._path = path
        self._trusted = trusted
        self.key_id = ""
        self.made_at = ""

    def __call__(self, digest: str) -> None:
        """Raises NotTrusted, or notes who signed, and when."""
        signature = parse(read_signature(self._path))
        check_signature(signature, digest, self._trusted)
        self.key_id, self.made_at = signature.key_id, signature.made_at


def check_signature(signature: Signature, digest: str, trusted: Mapping[str, TrustedKey]) -> None:
    """Returns when one of the keys `trusted` (by their ids) signed an archive with this digest.

    Raises:
        NotTrusted: no such key did.
    """
    from cryptography.exceptions import InvalidSignature

    key = trusted.get(signature.key_id)
    if key is None:
        raise NotTrusted(
            "unknown-key",
            f"It is signed by the key {signature.key_id[:16]}…, which is not among the "
            f"{len(trusted)} trusted keys.",
        )
    try:
        key.public.verify(signature.signature, signature.message())
    except InvalidSignature as error:
        raise NotTrusted(
            "bad-signature", "The signature is not one by the key that it names."
        ) from error
    if signature.digest != digest:
        raise NotTrusted(
            "other-archive",
            f"The signature is for an archive with the sha256 {signature.digest[:16]}…, and this "
            f"one has {digest[:16]}….",
        )


def read_signature(path: Path) -> bytes:
    """The bytes of a signature file.

    Raises:
        NotTrusted: there is none, or it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(MAX_SIGNATURE_BYTES + 1)
    except FileNotFoundError as error:
        raise NotTrusted("no-signature", f"It is not signed: there is no {path.name}.") from error
    except OSError as error:
        raise NotTrusted(
            "no-signature", f"{path.name} cannot be read: {error.strerror}."
        ) from error


def trusted_keys(paths: tuple[Path, ...]) -> dict[str, TrustedKey]:
    """The public keys in these files and folders (`*.pem`, `*.pub`), by their ids.

    Raises:
        InputMissing, InputInvalid: a path is not there, or a file holds no public key.
    """
    keys = {}
    for path in paths:
        if not path.exists():
            raise InputMissing("input-missing", f"There is no {path} with trusted keys.")
        for file in _key_files(path):
            public = _public_key(file)
            keys[key_id(public)] = TrustedKey(key_id(public), file, public)
    return keys


def key_id(public: Ed25519PublicKey) -> str:
    """sha256 of the key's 32 bytes, in hex."""
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()


def _key_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(
        file
        for file in path.iterdir()
        if file.suffix in _PUBLIC_SUFFIXES and not file.name.startswith(".")
    )


def _public_key(path: Path) -> Ed25519PublicKey:
    _require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    content = _key_content(path)
    if b"PRIVATE KEY" in content:
        raise InputInvalid(
            "input-invalid", f"{path} is a private key; keep it where archives are signed."
        )
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputInvalid("input-invalid", f"{path} is no public key in PEM.") from error
    if not isinstance(key, Ed25519PublicKey):
        raise _other_kind(path)
    return key


def _private_key(path: Path) -> Ed25519PrivateKey:
    _require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = _key_content(path)
    try:
        key = load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: it is encrypted
        raise InputInvalid(
            "input-invalid", f"{path} is no private key in PEM without a password."
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _other_kind(path)
    return key


def _key_content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_KEY_BYTES)
    except FileNotFoundError as error:
        raise InputMissing("input-missing", f"{path} does not exist.") from error
    except OSError as error:
        raise InputInvalid("input-invalid", f"{path} cannot be read: {error.strerror}.") from error


def _other_kind(path: Path) -> InputInvalid:
    return InputInvalid("input-invalid", f"{path} is a key of another kind than Ed25519.")


def _require_cryptography() -> None:
    if find_spec("cryptography") is None:
        raise InputInvalid(
            "input-invalid", "Signatures need the package cryptography: install marserve[sign]."
        )
