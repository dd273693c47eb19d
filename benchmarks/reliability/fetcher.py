"""SEC-06: a fetcher that is led astray connects nowhere it should not.

    python benchmarks/reliability/fetcher.py --n 5000

Each case is a url that may be fetched, and a server that redirects: with each of five statuses, to
loopback, metadata services, translated and mapped addresses, odd spellings, other ports and other
schemes, over chains of redirects, while the resolver gives another answer each time it is asked.
The interpreter's audit hook records every connection; the bar is none but to addresses that were
allowed and checked.
"""

from __future__ import annotations

import contextlib
import random
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "runtime")]
sys.path[:0] = [str(Path(__file__).parents[2] / name) for name in ("archiver", "handlers")]

from budget import Budget  # noqa: E402  it lies beside this file
from standalone import standalone  # noqa: E402  as above

from marserve.errors import MarServeError  # noqa: E402  the path is set above
from marserve.registry.sources.allowed import AllowedUrls  # noqa: E402  as above
from marserve.registry.sources.fetcher import Fetcher  # noqa: E402  as above
from marserve.registry.sources.landing import CannotFetch, Limits  # noqa: E402  as above

STATUSES = ("301 a", "302 b", "303 c", "307 d", "308 e")
TARGETS = (
    "http://127.0.0.1:{inside}/m",
    "http://localhost:{inside}/m",
    "http://[::1]:{inside}/m",
    "http://169.254.169.254/latest/meta-data/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://100.100.100.200/",
    "http://[64:ff9b::7f00:1]:{inside}/m",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[::ffff:127.0.0.1]:{inside}/m",
    "http://[::ffff:a9fe:a9fe]/",
    "http://[::127.0.0.1]:{inside}/m",
    "http://[2002:7f00:1::]:{inside}/m",
    "http://2130706433:{inside}/m",
    "http://0x7f000001:{inside}/m",
    "http://0177.0.0.1:{inside}/m",
    "http://127.1:{inside}/m",
    "http://0.0.0.0:{inside}/m",
    "http://[::]:{inside}/m",
    "http://10.0.0.1/m",
    "http://models.test:{inside}/m",
    "http://models.test.:{outside}/m",
    "http://models.test@127.0.0.1:{inside}/m",
    "http://127.0.0.1:{inside}\\@models.test:{outside}/m",
    "http://inside.pattern.test:{inside}/m",
    "http://any.pattern.test:{outside}/again/{status}",
    "https://any.pattern.test:{inside}/m",
    "//127.0.0.1:{inside}/m",
    "/again/{status}",
    "\\\\127.0.0.1:{inside}\\m",
    "file:///etc/passwd",
    "file://127.0.0.1/etc/passwd",
    "gopher://127.0.0.1:{inside}/_GET",
    "ftp://127.0.0.1:{inside}/m",
    "data:application/zip;base64,UEsFBg==",
    "http://models.test:{outside}/%2e%2e/m",
    "http://models.test:{outside}/m#@127.0.0.1:{inside}",
    "http://127.0.0.1:{inside}/m\r\nX: y",
    "",
)
FORBIDDEN_ANSWERS = (
    ["127.0.0.1"],
    ["169.254.169.254"],
    ["::1"],
    ["fd00:ec2::254"],
    ["64:ff9b::7f00:1"],
    ["::ffff:127.0.0.1"],
    ["100.64.0.1"],
    ["93.184.216.34", "127.0.0.1"],
    ["fe80::1%lo"],
    ["0.0.0.0"],
)
_EACH_S = 0.004


class Connections:
    """Every connection that this process begins, while it is watched."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] | None = None
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "socket.connect" and self.seen is not None:
            address = args[1]
            self.seen.append((str(address[0]), int(address[1])))

    @contextlib.contextmanager
    def watched(self) -> Iterator[list[tuple[str, int]]]:
        """Those of the block."""
        self.seen = []
        try:
            yield self.seen
        finally:
            self.seen = None


class Redirector:
    """A server that redirects every request to `location`, and a neighbour that must not be met."""

    def __init__(self) -> None:
        self.location = ""
        self.status = STATUSES[0]
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._inside = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.outside_port: int = self._listener.getsockname()[1]
        self.inside_port: int = self._inside.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            with sock, contextlib.suppress(OSError):
                while b"\r\n\r\n" not in sock.recv(65536):
                    pass
                head = f"HTTP/1.1 {self.status}\r\nLocation: {self.location}\r\n"
                sock.sendall(f"{head}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())

    def was_entered(self) -> bool:
        """Whether somebody has connected to the neighbour."""
        self._inside.settimeout(0.0)
        try:
            self._inside.accept()[0].close()
        except BlockingIOError:
            return False
        return True


class FlippingResolver:
    """Answers what is allowed when it is asked first, and something forbidden ever after."""

    def __init__(self, first: list[str], later: list[str]) -> None:
        self._first, self._later = first, later
        self.asked: dict[str, int] = {}

    def __call__(self, host: str, _port: int) -> list[str]:
        """The addresses of `host`, this time."""
        self.asked[host] = self.asked.get(host, 0) + 1
        if host.endswith("pattern.test"):
            return self._later  # a host that only a pattern allows: its addresses must be public
        return self._first if self.asked[host] == 1 else self._later


def one_case(redirector: Redirector, connections: Connections, dice: random.Random) -> list[str]:
    """Fetch once; what went wrong."""
    target = dice.choice(TARGETS)
    redirector.status = dice.choice(STATUSES)
    redirector.location = target.format(
        inside=redirector.inside_port, outside=redirector.outside_port, status=dice.randrange(9)
    )
    resolver = FlippingResolver(["127.0.0.1"], dice.choice(FORBIDDEN_ANSWERS))
    entries = [
        f"http://models.test:{redirector.outside_port}/.*",
        "http://.*\\.pattern\\.test:.*/.*",
        "https://.*\\.pattern\\.test:.*/.*",
    ]
    limits = Limits(max_bytes=1000, connect_s=1.0, idle_s=1.0, total_s=3.0)
    fetcher = Fetcher(AllowedUrls(entries), limits, resolve=resolver)
    wrong = []
    with connections.watched() as seen, tempfile.TemporaryFile() as file:
        try:
            url = f"http://models.test:{redirector.outside_port}/m"
            fetcher.fetch(fetcher.permission(url), is_signed=False, file=file)
            wrong.append(f"fetched by way of {redirector.location!r}")
        except (CannotFetch, MarServeError):
            pass
        except Exception as error:  # noqa: BLE001  that is what is looked for
            wrong.append(f"{type(error).__name__} by {redirector.location!r}")
        if file.seek(0, 2):
            wrong.append(f"bytes landed by {redirector.location!r}")
    allowed = ("127.0.0.1", redirector.outside_port)
    wrong += [f"connected to {where}" for where in seen if where != allowed]
    if any(not ip_address(where[0]).is_loopback for where in seen) or redirector.was_entered():
        wrong.append(f"entered by {redirector.location!r}")
    return wrong


def run(budget: Budget) -> dict[str, object]:
    """As many cases as the budget allows."""
    redirector, connections = Redirector(), Connections()
    dice = random.Random(budget.seed)
    wrong: list[str] = []
    made = 0
    for _ in range(budget.trials(most=5000, each_s=_EACH_S)):
        if budget.is_over:
            break
        wrong += one_case(redirector, connections, dice)
        made += 1
    for line in wrong[:20]:
        print(f"  {line}", flush=True)
    return {
        "property": "redirected fetches: forbidden connections",
        "n": made,
        "bar": "0",
        "figure": str(len(wrong)),
        "passed": not wrong and made > 0,
        "notes": f"SEC-06; {len(STATUSES)} statuses, {len(TARGETS)} targets, "
        f"{len(FORBIDDEN_ANSWERS)} answers of a flipping resolver",
        "failures": len(wrong),
        "unit": "fetch",
    }


if __name__ == "__main__":
    standalone(run)
