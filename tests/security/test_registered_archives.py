"""What a real server says of bad archives, and that it goes on serving what it had.

SEC-04 and SEC-05 over the management port; F16 (not saved), F17 (corrupt), F18 (half written).
"""

import json
import shutil
from pathlib import Path

import pytest
from hostile_archives import hostile_archives
from running_server import Server, end

SAMPLE = 20


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with version 1.0 of m, and half an archive that was there when it started."""
    one = Server(tmp_path_factory.mktemp("server"))
    one.pack("m", "version.py")
    whole = (one.store / one.pack("late", "version.py")).read_bytes()
    (one.store / "late.mar").write_bytes(whole[: len(whole) // 2])
    one.start(load_models="all")
    (one.root / "whole.mar").write_bytes(whole)
    yield one
    end(one)


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in folder.rglob("*")
    }


def registered(server: Server, url: str) -> tuple[int, str]:
    reply = server.manage("POST", f"/models?url={url}&model_name=m&initial_workers=1")
    return reply.status, reply.json().get("message", "")


def test_half_an_archive_at_the_start_is_told_and_the_rest_is_served(server):
    """F18."""
    [problem] = server.problems
    assert problem.startswith("late.mar could not be registered: late.mar is refused: The archive")
    assert "cut short" in problem
    assert server.predict("m").status == 200
    assert server.predict("late").status == 404


def test_half_an_archive_is_refused_and_registered_once_it_is_whole(server):
    """F18."""
    assert server.manage("POST", "/models?url=late.mar").status == 400
    shutil.copy(server.root / "whole.mar", server.store / "late.mar")
    reply = server.manage("POST", "/models?url=late.mar&initial_workers=1")
    assert reply.status == 200
    assert server.predict("late").status == 200


def test_a_hostile_archive_is_a_400_and_the_version_before_it_serves(server):
    """SEC-04, F17."""
    cases = hostile_archives()
    before = listing(server.root / "cache")
    for case in cases[:: len(cases) // SAMPLE]:
        path = server.store / f"hostile-{case.file_name}"
        case.write(path)
        status, message = registered(server, path.name)
        assert status == 400, case.name
        assert f"{path.name} is refused: " in message
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert listing(server.root / "cache") == before
    assert server.predict("m").json()["version"] == "1.0"
    assert [one["modelVersion"] for one in server.manage("GET", "/models/m/all").json()] == ["1.0"]


@pytest.mark.parametrize(
    "url",
    [
        *("../m.mar", "a/../m.mar", "..%2Fm.mar", "..", "http://127.0.0.1:9/../m.mar"),
        *("http://127.0.0.1:9/x/..%2F..%2Fm.mar", "file:///../etc/m.mar", "%2e%2e/m.mar"),
    ],
)
def test_dots_are_refused_before_anything_is_fetched_or_written(url, server):
    """SEC-05."""
    before = listing(server.store)
    status, message = registered(server, url)
    assert status == 404
    assert "Relative path is not allowed in url" in message
    assert listing(server.store) == before
    assert registered(server, "evil.mar") == (404, "Model not found at: evil.mar")


def test_a_change_that_cannot_be_saved_is_a_507_and_not_made(server):
    """F16: refused, and not applied in memory either; inference goes on."""
    state = server.root / "logs" / "state"
    saved = json.loads((state / "wanted.json").read_text())
    server.pack("n", "version.py")
    blocker = state / "wanted.json.partial"
    blocker.mkdir()
    try:
        reply = server.manage("POST", "/models?url=n.mar&initial_workers=1")
        assert reply.status == 507
        assert "The change was not made, because it could not be saved" in reply.json()["message"]
        assert server.manage("GET", "/models/n").status == 404
        assert server.predict("n").status == 404
        assert server.manage("DELETE", "/models/m").status == 507
        assert server.manage("PUT", "/models/m?min_worker=2").status == 507
        assert server.predict("m").status == 200
        assert json.loads((state / "wanted.json").read_text()) == saved
    finally:
        blocker.rmdir()
    assert server.manage("POST", "/models?url=n.mar&initial_workers=1").status == 200
    assert server.predict("n").status == 200
