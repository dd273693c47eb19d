"""Where a port of a server is, and the bytes of a request to it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, urlsplit

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A port of a server: a host and a number, or the path of a unix socket."""

    url: str
    host: str
    port: int
    is_secure: bool = False
    socket_path: str = ""
    base: str = ""
    """What stands before every path, for a server behind a proxy; no slash at its end."""

    @classmethod
    def of(cls, url: str) -> Self:
        """Read `http[s]://HOST[:PORT][/BASE]` or `unix:/PATH`; without a scheme it is http.

        Raises:
            ValueError: `url` is not such an address.
        """
        if url.startswith("unix:"):
            return cls._unix(url)
        full = url if "://" in url else f"http://{url}"
        try:
            parts = urlsplit(full)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ValueError(f"{url} has no usable port") from None
        if parts.scheme not in _PORTS or not host:
            raise ValueError(f"{url} is not an address like http://127.0.0.1:8080")
        number = _PORTS[parts.scheme] if port is None else port
        return cls(full, host, number, parts.scheme == "https", base=parts.path.rstrip("/"))

    @classmethod
    def _unix(cls, url: str) -> Self:
        path = "/" + url.removeprefix("unix:").lstrip("/")
        if path == "/":
            raise ValueError(f"{url} names no socket: write unix:/PATH")
        return cls(url, "localhost", 0, socket_path=path)

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        is_usual = self.port in (0, _PORTS["https" if self.is_secure else "http"])
        return host if is_usual else f"{host}:{self.port}"

    def message(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> bytes:
        """A whole HTTP/1.1 request; `headers` win over the ones that would be sent anyway."""
        fields = {"Host": self.authority, "Accept": "*/*"}
        if method != "GET":
            fields["Content-Length"] = str(len(body))
        given = {name.lower() for name in headers or {}}
        kept = {name: value for name, value in fields.items() if name.lower() not in given}
        lines = [f"{method} {self.base}{path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in (kept | dict(headers or {})).items()]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def model_path(root: str, name: str, version: str | None) -> str:
    """/predictions/NAME or /predictions/NAME/VERSION, for `root` predictions."""
    path = f"/{root}/{quote(name, safe='')}"
    return f"{path}/{quote(version, safe='')}" if version else path
