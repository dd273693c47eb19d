"""Servers on loopback that answer with exactly the bytes a test wants, in HTTP or out of it."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Answer = bytes | Callable[[socket.socket], None]
"""What is sent, or what does the sending and whatever else."""


class ScriptedHttp:
    """One connection, one request, one scripted answer; `asked` keeps the requests' heads."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answers: dict[str, Answer] = {}
        """By target."""
        self.asked: list[str] = []
        self.ending = threading.Event()
        """Set when the test is over; answers that hold a connection open wait for it."""

    def headers(self, index: int = -1) -> dict[str, str]:
        """Of one request, names in lower case."""
        lines = self.asked[index].split("\r\n")[1:]
        pairs = (line.partition(": ") for line in lines if line)
        return {name.lower(): value for name, _, value in pairs}

    def serve(self, sock: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            received = sock.recv(65536)
            if not received:
                return
            head += received
        text = head.decode("latin-1")
        self.asked.append(text)
        answer = self.answers.get(text.split(" ")[1], reply(b"nothing here", "404 Not Found"))
        if isinstance(answer, bytes):
            sock.sendall(answer)
        else:
            answer(sock)


def reply(body: bytes = b"", status: str = "200 OK", **headers: str) -> bytes:
    """An ordinary answer; `content_length="…"` lies about the length."""
    named = {"content-length": str(len(body))}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body


@contextlib.contextmanager
def scripted_http(tls: ssl.SSLContext | None = None) -> Iterator[ScriptedHttp]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = ScriptedHttp(listener.getsockname()[1])
        threads: list[threading.Thread] = []

        def attend(sock: socket.socket) -> None:
            with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
                stack.enter_context(sock)
                if tls is not None:
                    sock = stack.enter_context(tls.wrap_socket(sock, server_side=True))
                server.serve(sock)

        def accept() -> None:
            while True:
                sock, _ = listener.accept()
                if server.ending.is_set():
                    sock.close()
                    return
                threads.append(threading.Thread(target=attend, args=(sock,)))
                threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield server
        finally:
            server.ending.set()
            socket.create_connection(("127.0.0.1", server.port)).close()
            accepting.join()
            for thread in threads:
                thread.join()


class Certificates:
    """A certificate authority of the test's own."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self._name = name
        self._certificate = (
            _begun(name, name, self._key.public_key(), datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def authority_pem(self) -> str:
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    def issue(
        self, *names: str, lifetime: datetime.timedelta = datetime.timedelta(days=1)
    ) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
        certificate = (
            _begun(subject, self._name, key.public_key(), lifetime)
            .add_extension(alternatives, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate, key

    def write(
        self, folder: Path, *names: str, lifetime: datetime.timedelta = datetime.timedelta(days=1)
    ) -> tuple[Path, Path]:
        """Certificate and key as PEM files."""
        certificate, key = self.issue(*names, lifetime=lifetime)
        (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (folder / "key.pem").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return folder / "cert.pem", folder / "key.pem"

    def server_context(self, folder: Path, *names: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.write(folder, *names))
        return context

    def client_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=self.authority_pem)


def _begun(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    lifetime: datetime.timedelta,
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now + lifetime)
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
