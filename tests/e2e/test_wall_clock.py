"""F26: the wall clock may jump; no timeout comes early or late, and nothing is dropped.

The server reads a clock that the test sets an hour forth and back, to 1970 and to 2038. And a
reader of the sources says who may look at that clock at all.
"""

from __future__ import annotations

import ast
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from running_server import Server, end

ROOT = Path(__file__).parents[2]
SHIFTED = Path(__file__).parents[1] / "fixtures" / "shifted"
HOUR_S = 3600
JUMPS_S = {
    "an hour on": lambda: HOUR_S,
    "an hour back": lambda: -HOUR_S,
    "to 1970": lambda: -int(time.time()) + 5,
    "beyond 2038": lambda: 2**31 + 100 - int(time.time()),
    "home again": lambda: 0,
}

MAY_LOOK = {
    "runtime/marserve/observe/log_lines.py": "log lines",
    "runtime/marserve/observe/worker_log.py": "a line of the log",
    "runtime/marserve/observe/log_files.py": "files that turn over at midnight, and their names",
    "runtime/marserve/registry/snapshot_folder.py": "names of files",
    "runtime/marserve/registry/sources/fetcher.py": "the date in a signature for S3",
    "runtime/marserve/registry/sources/s3.py": "the same",
    "runtime/marserve/servers/auth.py": "when tokens expire",
    "runtime/marserve/workers/pool.py": "shown as startTime",
    "runtime/marserve/workers/worker.py": "shown as startTime",
    "runtime/marserve/cli.py": "shown as uptime",
    "runtime/marserve/pid_file.py": "the age of a file",
    "runtime/marserve/servers/inference.py": "a deadline that a client names by that clock",
    "runtime/marserve/servers/grpc_call.py": "the same",
    "runtime/marserve/doctor.py": "says what the clock shows, and whether it is wrong",
    "runtime/marserve/protocols/management.py": "shows startTime",
    "archiver/marserve_archiver/collect.py": "the date in a manifest",
    "archiver/marserve_archiver/signing_commands.py": "the date of a signature",
    "handlers/marserve_handlers/caching_metric.py": "the timestamp of a printed metric",
    "handlers/marserve_handlers/torchserve/metrics_store.py": "the same",
}
"""File, and what it needs a wall clock for. Timeouts are none of it."""
WALL = {"time.time", "time.time_ns", "time.gmtime", "time.localtime", "time.ctime"}
DATES = {"now", "utcnow", "today", "fromtimestamp"}


def looks(text: str) -> list[str]:
    """The wall clocks that a source looks at."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            if name in WALL or (node.attr in DATES and "date" in ast.unparse(node.value).lower()):
                found.append(name)
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            found += [f"time.{one.name}" for one in node.names if f"time.{one.name}" in WALL]
    return found


def test_nobody_looks_at_the_wall_clock_but_for_what_people_read():
    sources = [
        path
        for folder in ("runtime", "handlers", "archiver")
        for path in (ROOT / folder).rglob("*.py")
    ]
    lookers = {str(path.relative_to(ROOT)) for path in sources if looks(path.read_text())}
    assert lookers - MAY_LOOK.keys() == set()


@pytest.mark.parametrize(
    "text",
    [
        "import time\ntime.time()",
        "from time import time_ns",
        "import datetime\ndatetime.datetime.now()",
        "from datetime import date\ndate.today()",
        "f(clock=time.time)",
    ],
)
def test_the_reader_sees_it(text):
    assert looks(text)


@pytest.fixture(scope="module")
def shifted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    folder = tmp_path_factory.mktemp("shifted")
    file = folder / "shift"
    patch = pytest.MonkeyPatch()
    inherited = filter(None, [str(SHIFTED), os.environ.get("PYTHONPATH")])
    patch.setenv("PYTHONPATH", os.pathsep.join(inherited))
    patch.setenv("SHIFT_FILE", str(file))
    server = Server(folder)
    server.pack("moody", "moody.py")
    server.start(
        load_models="moody.mar",
        models='{"moody": {"1.0": {"marName": "moody.mar", "responseTimeout": 1,'
        ' "batchSize": 4, "maxBatchDelay": 20}}}',
    )
    patch.undo()
    yield server, file
    end(server)


def stamp(server: Server) -> str:
    """When the newest line of the access log was written, by the server's clock."""
    return (server.root / "logs" / "access_log.log").read_text().splitlines()[-1][:4]


def test_requests_are_served_and_time_out_as_ever_whatever_the_clock_says(shifted):
    server, file = shifted
    for name, shift_s in JUMPS_S.items():
        file.write_text(str(shift_s()))
        began = time.monotonic()
        statuses = [server.predict("moody", b"sleep 0.01").status for _ in range(15)]
        assert statuses == [200] * 15, name
        assert time.monotonic() - began < 5, name
        assert server.predict("moody", b"x", x_request_timeout_ms="5000").status == 200, name
        assert server.manage("GET", "/models/moody").status == 200, name
        assert (
            server.metrics()[
                'marserve_worker_restarts_total{model_name="moody",model_version="1.0"}'
            ]
            == 0
        ), name


def test_the_clock_did_jump(shifted):
    server, file = shifted
    file.write_text(str(JUMPS_S["beyond 2038"]()))
    server.predict("moody")
    server.wait_until(lambda: stamp(server) == "2038")


def test_a_worker_that_hangs_is_ended_when_its_time_is_over_and_not_when_the_clock_says_so(shifted):
    server, file = shifted
    file.write_text("0")
    began = time.monotonic()
    server.predict("moody")
    file.write_text(str(-HOUR_S))
    assert server.predict("moody", b"sleep 60").status >= 500
    took_s = time.monotonic() - began
    assert 0.9 <= took_s < 10
