"""Downloads over http and https, to addresses that were checked before the connection is made.

The standard library's client, because it takes a socket that is connected already: the name is
resolved once, every answer is checked, and the connection goes to an answer that was checked, while
TLS still verifies the name. Proxies named by the environment are not used: they would resolve and
connect in our place.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, cast

from marserve import __version__
from marserve.registry.sources.addresses import may_connect
from marserve.registry.sources.allowed import Permission
from marserve.registry.sources.landing import CannotFetch, Landing, Limits, shown
from marserve.registry.sources.rate_floor import RateFloor
from marserve.registry.sources.remote_url import RemoteUrl

_PIECE_BYTES: Final = 1 << 20
_STOPPED: Final = "the server is being stopped"
REDIRECTS: Final = frozenset([301, 302, 303, 307, 308])

Resolve = Callable[[str, int], list[str]]
"""From a host's name and port to its IP addresses; raises OSError."""
Clock = Callable[[], float]
Known = dict[str, list[str]]
"""The addresses of the hosts of one download, by name."""


@dataclass(frozen=True, slots=True)
class Redirect:
    """The archive is elsewhere."""

    location: str


def resolve(host: str, port: int) -> list[str]:
    """All addresses of `host`, as the system knows them."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class HttpSource:
    """Gets one url after the other, each over a connection of its own."""

    def __init__(
        self,
        limits: Limits,
        clock: Clock,
        resolve: Resolve = resolve,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`tls` None: certificates are checked against the system's authorities."""
        self._limits = limits
        self._clock = clock
        self._resolve = resolve
        self._tls = tls
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        self._is_closed = False

    def close(self) -> None:
        """End what is under way, and begin nothing more. Called from any thread."""
        with self._guard:
            self._is_closed = True
            for sock in self._open:
                with suppress(OSError):  # it has ended by itself
                    sock.shutdown(socket.SHUT_RDWR)

    def get(
        self,
        permission: Permission,
        headers: Mapping[str, str],
        landing: Landing,
        deadline: float,
        known: Known,
    ) -> Redirect | None:
        """Add the body of the answer to `landing`, unless the answer is a redirect.

        `known` has, and gets, the addresses of hosts: who is asked twice may answer twice.

        Raises:
            CannotFetch: anything went wrong; a part may have landed then.
        """
        url = permission.url
        if self._is_closed:
            raise CannotFetch(_STOPPED)
        try:
            sock = self._connect(permission, deadline, known)
            with (
                _Timed(sock, self._limits, deadline, self._clock) as timed,
                self._closable(sock),
            ):
                return self._exchange(url, headers, timed, landing)
        except TimeoutError as error:
            raise CannotFetch(self._lateness(deadline)) from error
        except (OSError, http.client.HTTPException) as error:
            raise CannotFetch(f"the connection to {url.host} failed: {shown(error)}") from error

    @contextmanager
    def _closable(self, sock: socket.socket) -> Iterator[None]:
        with self._guard:
            if self._is_closed:
                raise CannotFetch(_STOPPED)
            self._open.add(sock)
        try:
            yield
        except CannotFetch as error:
            if self._is_closed:
                raise CannotFetch(_STOPPED) from error
            raise
        finally:
            with self._guard:
                self._open.discard(sock)

    # --- connecting -------------------------------------------------------------------------------

    def _connect(self, permission: Permission, deadline: float, known: Known) -> socket.socket:
        """A connection to an address that may be connected to; TLS verified where there is TLS."""
        url = permission.url
        failure: OSError | None = None
        for address in self._addresses(permission, known):
            try:
                return self._connected(url, address, deadline)
            except ssl.SSLCertVerificationError as error:
                raise CannotFetch(
                    f"the certificate of {url.host} is not valid: {error.verify_message}"
                ) from error
            except OSError as error:
                failure = error
        if isinstance(failure, TimeoutError):
            raise CannotFetch(
                f"{url.host} did not take the connection within {self._limits.connect_s:g} s"
            ) from failure
        raise CannotFetch(f"{url.host} refused the connection: {shown(failure)}") from failure

    def _addresses(self, permission: Permission, known: Known) -> list[str]:
        url = permission.url
        found = [url.host] if url.address is not None else known.get(url.host)
        if found is None:
            try:
                found = known[url.host] = self._resolve(url.host, url.port)
            except (OSError, UnicodeError) as error:
                raise CannotFetch(f"the name {url.host} cannot be resolved") from error
        if not found:
            raise CannotFetch(f"the name {url.host} has no address")
        for address in found:
            if not may_connect(address, permission.named_host, permission.named_address):
                # which address a name of the inner network has is not the caller's to learn
                raise CannotFetch(
                    f"{url.host} is at an address that is not public; if that is meant, "
                    "name this host in allowed_urls, without wildcards"
                )
        return found

    def _connected(self, url: RemoteUrl, address: str, deadline: float) -> socket.socket:
        timeout_s = min(self._limits.connect_s, deadline - self._clock())
        if timeout_s <= 0:
            raise TimeoutError
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        plain = socket.socket(family, socket.SOCK_STREAM)
        try:
            plain.settimeout(timeout_s)
            plain.connect((address, url.port))
            if url.scheme == "http":
                return plain
            if self._tls is None:
                self._tls = ssl.create_default_context()
            return self._tls.wrap_socket(plain, server_hostname=url.host)
        except BaseException:
            plain.close()
            raise

    # --- one exchange -----------------------------------------------------------------------------

    def _exchange(
        self,
        url: RemoteUrl,
        headers: Mapping[str, str],
        timed: _Timed,
        landing: Landing,
    ) -> Redirect | None:
        connection = http.client.HTTPConnection(url.host, url.port)
        connection.sock = cast(socket.socket, timed)
        connection.putrequest("GET", url.target, skip_host=True, skip_accept_encoding=True)
        for name, value in (
            {"Host": url.host_header, "User-Agent": f"marserve/{__version__}"} | dict(headers)
        ).items():
            connection.putheader(name, value)
        connection.putheader("Accept-Encoding", "identity")
        connection.putheader("Connection", "close")
        connection.endheaders()
        response = connection.getresponse()
        location = response.headers.get("Location")
        if response.status in REDIRECTS and location is not None:
            return Redirect(location)
        if response.status != 200:
            raise CannotFetch(
                f"{url.host} answered {response.status} {shown(response.reason)}".rstrip()
            )
        _copy(url, response, landing)
        return None

    def _lateness(self, deadline: float) -> str:
        if self._clock() >= deadline:
            return f"it took longer than {self._limits.total_s:g} s"
        return f"nothing came for {self._limits.idle_s:g} s"


class _Timed:
    """A socket as http.client uses one; each of its waits ends with the deadline at the latest."""

    def __init__(self, sock: socket.socket, limits: Limits, deadline: float, clock: Clock) -> None:
        self._sock = sock
        self._limits = limits
        self._deadline = deadline
        self._clock = clock
        self._floor = RateFloor(limits.min_bytes_per_s, limits.window_s, clock())

    def __enter__(self) -> _Timed:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def sendall(self, data: bytes) -> None:
        self._arm()
        self._sock.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self._arm, self._sock, self._came))

    def close(self) -> None:
        """The response reads on after http.client has closed its socket; `__exit__` closes it."""

    def _came(self, size_bytes: int) -> None:
        if size_bytes and not self._floor.holds(size_bytes, self._clock()):
            raise CannotFetch(
                f"it came slower than {self._limits.min_bytes_per_s:g} bytes a second"
            )

    def _arm(self) -> None:
        left_s = self._deadline - self._clock()
        if left_s <= 0:
            raise TimeoutError
        self._sock.settimeout(min(self._limits.idle_s, left_s))


class _TimedReader(io.RawIOBase):
    def __init__(
        self, arm: Callable[[], None], sock: socket.socket, came: Callable[[int], None]
    ) -> None:
        super().__init__()
        self._arm = arm
        self._sock = sock
        self._came = came

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._arm()
        size_bytes = self._sock.recv_into(buffer)
        self._came(size_bytes)
        return size_bytes


def _copy(url: RemoteUrl, response: http.client.HTTPResponse, landing: Landing) -> None:
    announced = response.length
    if announced is not None:
        landing.announce(announced)
    size_bytes = 0
    while piece := response.read(_PIECE_BYTES):
        size_bytes += len(piece)
        landing.add(piece)
    if announced is not None and size_bytes < announced:
        raise CannotFetch(
            f"{url.host} sent {size_bytes} of {announced} bytes and closed the connection"
        )
