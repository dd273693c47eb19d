"""A management port over real sockets, in front of a control plane that remembers its calls."""

import asyncio
import http.client
import queue
import socket
import threading
from contextlib import contextmanager
from dataclasses import replace

from marserve import errors
from marserve.model_version import Description, Settings, VersionState
from marserve.protocols.management import Registered, Scaled
from marserve.protocols.workflows import WorkflowDescription, already_registered, not_registered
from marserve.refs import ModelRef
from marserve.servers.management import create_app
from marserve.servers.wsgi import WsgiServer


def described(name, version="1.0"):
    return Description(
        ref=ModelRef(name, version),
        url=f"{name}.mar",
        is_default=True,
        state=VersionState.READY,
        settings=Settings(min_workers=0, max_workers=0),
        loaded_at_startup=False,
        workers=(),
        pending_requests=0,
        last_error=None,
    )


class FakePlane:
    """Two models, a (1.0, 2.0) and b (1.0); names that start with an error raise it."""

    def __init__(self):
        self.calls = []
        self.known = {"a": ["1.0", "2.0"], "b": ["1.0"]}

    def _find(self, name, version):
        if name not in self.known:
            raise errors.ModelNotFound(name)
        if version not in (None, "all", *self.known[name]):
            raise errors.VersionNotFound(name, version)
        return version or "1.0"

    async def register(self, wish):
        assert threading.current_thread().name == "loop"
        self.calls.append(wish)
        trouble = TROUBLES.get(wish.url)
        if trouble is not None:
            raise trouble
        workers = wish.initial_workers or 0
        return Registered(ModelRef("m", "1.0"), workers, wish.synchronous or workers == 0)

    async def scale(self, name, version, min_workers, max_workers, synchronous):
        self.calls.append((name, version, min_workers, max_workers, synchronous))
        ref = ModelRef(name, self._find(name, version))
        return Scaled(ref, min_workers, synchronous, version is not None)

    async def set_default(self, name, version):
        self.calls.append(("default", name, self._find(name, version)))

    async def unregister(self, name, version):
        if version == "slow":
            raise errors.DeadlineExceeded("Two requests were still running after 120 s.")
        found = self._find(name, version)
        if name == "a" and found == "1.0":
            raise errors.DefaultVersionInUse(name)
        self.calls.append(("unregister", name, version))

    async def describe(self, name, version, *, customized=False):
        found = self._find(name, version)
        versions = self.known[name] if found == "all" else [found]
        if not customized:
            return tuple(described(name, one) for one in versions)
        self.calls.append(("ask the handler", name, version))
        if name == "b":
            raise errors.NoWorkers(name, version, purpose="describe")
        if version == "2.0":
            raise errors.DeadlineExceeded("The handler did not answer within 120 s.")
        return (replace(described(name, found), customized=b'{"labels": ["cat"]}'),)

    async def models(self):
        return tuple(described(name) for name in sorted(self.known))

    async def ready(self, name):
        self._find(name, None)
        return name == "a"

    async def register_workflow(self, wish):
        self.calls.append(wish)
        if wish.url == "twice.war":
            raise errors.WorkflowConflict(already_registered("flow"))
        if wish.url == "loop.war":
            raise errors.WorkflowInvalid("DAG should have only one start node")
        return wish.workflow_name or "flow"

    async def workflows(self):
        return (FLOW, replace(FLOW, name="other", url="other.war"))

    async def describe_workflow(self, name):
        if name != "flow":
            raise errors.WorkflowNotFound(not_registered(name))
        return FLOW

    async def unregister_workflow(self, name):
        await self.describe_workflow(name)
        self.calls.append(("unregister workflow", name))


def out_of_memory():
    error = errors.LoadFailed("Failed to start workers for model m version: 1.0")
    error.out_of_memory = True
    return error


FLOW = WorkflowDescription(
    name="flow",
    url="flow.war",
    min_workers=1,
    max_workers=2,
    batch_size=4,
    max_batch_delay_ms=50,
    dag={"pre": ("a", "b"), "a": ("post",), "b": ("post",)},
)

TROUBLES = {
    "twice.mar": errors.VersionConflict("m", "1.0"),
    "gone.mar": errors.ArchiveNotFound("Model not found at: gone.mar"),
    "broken.mar": errors.ArchiveRefused("broken.mar is not a zip archive."),
    "nostore.mar": errors.StoreMissing(),
    "bad.mar": errors.LoadFailed("Failed to start workers for model m version: 1.0"),
    "fat.mar": out_of_memory(),
    "full.mar": errors.StateNotSaved("The state could not be written: no space left on device."),
    "late.mar": errors.ShuttingDown("The server is being stopped."),
    "bug.mar": ZeroDivisionError("secret"),
}


class Port:
    """A running management port and what it published."""

    def __init__(self, loop, **options):
        self.plane = FakePlane()
        self.events = queue.Queue()
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.address = self.sock.getsockname()

        def run(coroutine):
            return asyncio.run_coroutine_threadsafe(coroutine, loop).result(10)

        options = {"enable_model_api": True, **options}
        app = create_app(self.plane, self.plane, run, self.events.put, "1.2.3", **options)
        self.server = WsgiServer(app, self.sock, 4, "management", self.events.put)
        self.server.start()

    def ask(self, method, target, body=None, headers=None):
        connection = http.client.HTTPConnection(*self.address, timeout=10)
        try:
            connection.request(method, target, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def raw(self, request):
        with socket.create_connection(self.address, timeout=10) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))


@contextmanager
def running_loop():
    """An event loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="loop")
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()
