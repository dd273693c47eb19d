"""TLS for ports that speak HTTP/2, with the certificate as it is when a client connects."""

from __future__ import annotations

import ssl
from typing import Protocol

from marserve.servers.tls import context_for


class Certificate(Protocol):
    """What a port that speaks TLS shows (`tls.Tls`); looked at again with every connection."""

    @property
    def private_key_pem(self) -> bytes:
        """The private key."""
        ...

    @property
    def certificate_chain_pem(self) -> bytes:
        """The certificate, then those of its issuers."""
        ...


class RenewedContext:
    """Gives, when called, the one context of the port: a renewed certificate needs no restart."""

    def __init__(self, certificate: Certificate) -> None:
        self._certificate = certificate
        self._known = _pem(certificate)
        self._context = context_for(*self._known, "h2")

    def __call__(self) -> ssl.SSLContext:
        """The context, with the certificate of this moment."""
        pem = _pem(self._certificate)
        if pem != self._known:
            self._known = pem
            context_for(*pem, "h2", self._context)
        return self._context


def _pem(certificate: Certificate) -> tuple[bytes, bytes]:
    return certificate.certificate_chain_pem, certificate.private_key_pem
