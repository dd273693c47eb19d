"""The certificate and key of the ports that speak TLS, from PEM files or from a keystore.

Files are read whole and tried before they are used: a handshake with oneself shows whether key and
certificate fit, and whether clients will find the certificate expired. TLS 1.2 and 1.3.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from marserve.errors import ConfigInvalid

_log = logging.getLogger("marserve.servers")
_MAX_FILE_BYTES: Final = 1 << 20
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
_JAVA_KEYSTORES: Final = (b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce")
_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"
_PRIVATE_KEY: Final = b"PRIVATE KEY-----"
_EXPIRED: Final = 10
_NOT_YET_VALID: Final = 9


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where certificate and key are: either both PEM files, or a keystore."""

    certificate_file: Path | None = None
    private_key_file: Path | None = None
    keystore: Path | None = None
    keystore_pass: str = field(default="changeit", repr=False)
    """TorchServe's default, and Java's; empty for a keystore without a password."""

    def paths(self) -> tuple[Path, ...]:
        """The files that are used.

        Raises:
            ConfigInvalid: neither way is complete. PEM files win when both are.
        """
        if self.certificate_file is not None and self.private_key_file is not None:
            return (self.certificate_file, self.private_key_file)
        if self.keystore is not None:
            return (self.keystore,)
        raise ConfigInvalid(
            "An https address needs a certificate: set certificate_file and private_key_file "
            "(PEM), or keystore and keystore_pass (PKCS12). None is made up, because clients "
            "could not tell it from an attacker's."
        )


class Tls:
    """What the ports need to speak TLS, kept up to date with the files."""

    def __init__(self, files: TlsFiles) -> None:
        """Reads and tries the files.

        Raises:
            ConfigInvalid: they cannot be used; the message says which file, why, and what to do.
        """
        self._files = files
        self._seen = _look(files)
        self._pem = _checked_pem(files)
        self.context = _context()
        """For every port; a reload takes effect at the next handshake."""
        _load(self.context, self._pem, files)
        self.warnings: tuple[str, ...] = tuple(_trial(self._pem, files))
        """What is wrong and can be served with all the same, one sentence each."""

    @property
    def private_key_pem(self) -> bytes:
        """The private key, for gRPC."""
        return self._pem.key

    @property
    def certificate_chain_pem(self) -> bytes:
        """The certificate, then those of its issuers, for gRPC."""
        return self._pem.chain

    def reload_if_changed(self) -> bool:
        """Use the files as they are now, if they have changed; says whether it does.

        Files that cannot be used are reported to the log once, and the old ones stay in use: a
        renewal in two steps is complete with the second.
        """
        seen = _look(self._files)
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            pem = _checked_pem(self._files)
            _load(_context(), pem, self._files)  # tried, before anything in use is touched
            warnings = tuple(_trial(pem, self._files))
        except ConfigInvalid as error:
            _log.warning("The certificate in use stays: %s", error.message)
            return False
        _load(self.context, pem, self._files)
        self._pem, self.warnings = pem, warnings
        for warning in warnings:
            _log.warning("%s", warning)
        _log.info("the certificate has been loaded again")
        return True


@dataclass(frozen=True, slots=True)
class _Pem:
    chain: bytes
    key: bytes

    def __repr__(self) -> str:
        return "_Pem()"


def _look(files: TlsFiles) -> tuple[tuple[int, int, int] | None, ...]:
    return tuple(_identity(path) for path in files.paths())


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def context_for(
    chain_pem: bytes, key_pem: bytes, protocol: str, context: ssl.SSLContext | None = None
) -> ssl.SSLContext:
    """A context that shows this certificate to clients of `protocol` (as ALPN names it).

    `context`: one that was made before; it shows this certificate from the next handshake on.

    Raises:
        ConfigInvalid: certificate and key cannot be used.
    """
    made = context or _context(protocol)
    _load(made, _Pem(chain_pem, key_pem), TlsFiles(Path("certificate"), Path("private key")))
    return made


def _context(protocol: str = "http/1.1") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols([protocol])
    return context


def _checked_pem(files: TlsFiles) -> _Pem:
    paths = files.paths()
    if len(paths) == 1:
        return _from_keystore(paths[0], files.keystore_pass)
    chain, key = (_content(path) for path in paths)
    if _CERTIFICATE not in chain:
        raise ConfigInvalid(_not_pem("certificate_file", paths[0], "certificate", "x509"))
    if _PRIVATE_KEY not in key:
        raise ConfigInvalid(_not_pem("private_key_file", paths[1], "private key", "pkey"))
    if b"ENCRYPTED" in key:
        raise ConfigInvalid(
            f"private_key_file={paths[1]} is encrypted, and there is no setting for its password: "
            f"decrypt it with openssl pkey -in {paths[1]} -out KEY.pem, and let only the server's "
            "user read it; or use a keystore."
        )
    return _Pem(chain, key)


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigInvalid(f"{path} cannot be read: {error.strerror}.") from error
    if len(content) > _MAX_FILE_BYTES:
        raise ConfigInvalid(f"{path} is too large to hold a certificate or a key.")
    return content


def _not_pem(key: str, path: Path, what: str, command: str) -> str:
    return (
        f"{key}={path} holds no {what} in PEM form (a text that begins with -----BEGIN); "
        f"openssl {command} -inform der -in {path} -out NEW.pem makes one of a DER file."
    )


def _from_keystore(path: Path, password: str) -> _Pem:
    content = _content(path)
    if content[:4] in _JAVA_KEYSTORES:
        raise ConfigInvalid(
            f"keystore={path} is a Java keystore (JKS), which only Java reads. Convert it: keytool "
            f"-importkeystore -srckeystore {path} -destkeystore {path.stem}.p12 "
            "-deststoretype PKCS12"
        )
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.serialization import pkcs12
    except ImportError as error:
        raise ConfigInvalid(
            "Keystores need the package cryptography: pip install 'marserve[tls]'. Or set "
            "certificate_file and private_key_file, which need nothing."
        ) from error
    try:
        key, certificate, others = pkcs12.load_key_and_certificates(
            content, password.encode() or None
        )
    except ValueError as error:
        raise ConfigInvalid(
            f"keystore={path} cannot be opened: keystore_pass is wrong, or it is no PKCS12 file."
        ) from error
    if key is None or certificate is None:
        raise ConfigInvalid(f"keystore={path} holds no private key with its certificate.")
    return _Pem(
        b"".join(one.public_bytes(serialization.Encoding.PEM) for one in (certificate, *others)),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def _load(context: ssl.SSLContext, pem: _Pem, files: TlsFiles) -> None:
    # from memory, because what was read and checked is what must be used, and a key out of a
    # keystore must not lie on a disk
    with _in_memory(pem.chain) as chain, _in_memory(pem.key) as key:
        try:
            context.load_cert_chain(chain, key, password=lambda: b"")
        except ssl.SSLError as error:
            names = " and ".join(str(path) for path in files.paths())
            if error.reason == "KEY_VALUES_MISMATCH":
                raise ConfigInvalid(
                    f"{names} do not belong together: the key is not the certificate's."
                ) from error
            cause = (error.reason or str(error)).replace("_", " ").lower()
            raise ConfigInvalid(f"{names} cannot be used for TLS: {cause}.") from error


@contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{descriptor}"


def _trial(pem: _Pem, files: TlsFiles) -> Iterator[str]:
    """A handshake with oneself: what a client that trusts this certificate would still dislike."""
    server = _context()
    _load(server, pem, files)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the certificate vouches for itself
    path = files.paths()[0]
    try:
        client.load_verify_locations(cadata=pem.chain.decode("latin-1"))
        _shake_hands(server, client)
    except ssl.SSLCertVerificationError as error:
        if error.verify_code == _EXPIRED:
            yield f"The certificate in {path} has expired; clients will refuse it."
        elif error.verify_code == _NOT_YET_VALID:
            yield f"The certificate in {path} is not valid yet; clients will refuse it."
        else:
            yield f"Clients may refuse the certificate in {path}: {error.verify_message}."
    except ssl.SSLError as error:
        raise ConfigInvalid(f"{path} cannot be used for TLS: {error.reason or error}.") from error


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    while ends:
        for end in list(ends):
            try:
                end.do_handshake()
                ends.remove(end)
            except ssl.SSLWantReadError:
                continue
