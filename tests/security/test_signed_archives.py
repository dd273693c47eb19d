"""A real server that takes signed archives only, pinned ones only, and none that was replaced.

The commands are those of `docs/signed-archives.md`, as they stand there.
"""

import hashlib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from running_server import Server, end

from marserve_archiver.signing import sign

ROOT = Path(__file__).parents[2]
MADE_AT = "2026-05-01T10:00:00Z"
COMMANDS = re.findall(r"^\$ (.+)$", (ROOT / "docs/signed-archives.md").read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of two runs, left in its second.

    In the first it asked for nothing, and models were registered. Between the runs, the commands
    of the page were followed in its store, and one archive was replaced.
    """
    one = Server(tmp_path_factory.mktemp("server"))
    for name in ("digits", "kept", "replaced", "restored", "unsigned", "unlisted"):
        one.pack(name, "version.py")
    _first_run(one)
    (one.root / "old.mar").write_bytes((one.store / "restored.mar").read_bytes())
    for name in ("replaced", "restored"):
        one.pack(name, "echo.py")
    _follow_the_page(one)
    one.start(
        load_models="digits.mar,unsigned.mar",
        require_signed="true",
        require_pins="true",
        trusted_keys=one.root / "keys",
    )
    yield one
    end(one)


def _first_run(server: Server) -> None:
    digest = digest_of(server, "digits.mar")
    server.start(
        load_models=f"kept.mar,replaced.mar,restored.mar,pinned=digits.mar#sha256={digest}"
    )
    assert server.problems == []
    assert registered(server, f"digits.mar&sha256={digest.upper()}&model_name=two")[0] == 200
    assert registered(server, "digits.mar&sha256=0&model_name=three") == (
        400,
        "Parameter sha256 must be 64 hexadecimal digits.",
    )
    status, message = registered(server, f"digits.mar&sha256={'0' * 64}&model_name=three")
    assert (status, "was expected" in message) == (400, True)
    for name in ("pinned", "two"):
        assert server.manage("DELETE", f"/models/{name}").status == 200
    server.stop()


def _follow_the_page(server: Server) -> None:
    """In the model store; the private key goes elsewhere. Then the same for more archives."""
    for command in COMMANDS:
        run(command, server.store)
    (server.store / "keys").rename(server.root / "keys")
    (server.store / "release.pem").rename(server.root / "release.pem")
    for name in ("kept", "replaced", "restored", "unlisted"):
        sign(server.store / f"{name}.mar", server.root / "release.pem", MADE_AT)
    list_digests(server)


def list_digests(server: Server) -> None:
    names = "digits.mar kept.mar replaced.mar restored.mar unsigned.mar"
    run(f"sha256sum {names} > SHA256SUMS", server.store)


def run(command: str, folder: Path) -> None:
    """A command of the page; `archiver` is this tree's."""
    archiver = f"{shlex.quote(sys.executable)} -m marserve_archiver "
    line = re.sub(r"^archiver ", lambda _: archiver, command)
    subprocess.run(line, shell=True, check=True, cwd=folder)


def digest_of(server: Server, name: str) -> str:
    return hashlib.sha256((server.store / name).read_bytes()).hexdigest()


def registered(server: Server, query: str) -> tuple[int, str]:
    reply = server.manage("POST", f"/models?url={query}&initial_workers=1")
    return reply.status, reply.json().get("message", "")


def test_the_page_holds_the_commands_that_are_tested():
    assert [command.split()[0] for command in COMMANDS] == [
        *("archiver", "mkdir", "mv", "archiver", "archiver", "sha256sum"),
    ]


def test_what_is_signed_and_listed_is_served_and_the_rest_is_told(server):
    assert server.predict("digits").json()["version"] == "1.0"
    assert server.predict("kept").json()["version"] == "1.0"
    assert len(server.problems) == 3  # the others are those that were replaced
    assert [one for one in server.problems if one.startswith("unsigned.mar")] != []
    assert server.predict("unsigned").status == 404


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        ("unsigned.mar", "It is not signed: there is no unsigned.mar.sig"),
        ("unlisted.mar", "SHA256SUMS of the store does not list it"),
        ("digits.mar&sha256=" + "0" * 64, "was expected"),
    ],
)
def test_what_is_not_is_refused(archive, message, server):
    status, told = registered(server, f"{archive}&model_name=x")
    assert (status, message in told) == (400, True), told


def test_an_archive_that_was_replaced_is_not_served_after_a_restart(server):
    """Though it is signed and listed: it is another one than was registered."""
    [problem] = [one for one in server.problems if one.startswith("replaced:1.0")]
    assert "The archive of replaced:1.0 was replaced after it was registered" in problem
    assert "unregister replaced:1.0 and register it again" in problem
    [described] = server.manage("GET", "/models/replaced").json()
    assert (described["state"], described["workers"]) == ("FAILED", [])
    assert "was replaced" in described["lastError"]
    assert server.predict("replaced").status == 503

    assert server.manage("DELETE", "/models/replaced").status == 200  # one remedy
    assert registered(server, "replaced.mar")[0] == 200
    assert server.predict("replaced").status == 200
    saved = json.loads((server.root / "logs/state/wanted.json").read_text())
    version = saved["models"]["replaced"]["versions"]["1.0"]
    assert version["sha256"] == digest_of(server, "replaced.mar")


def test_the_old_archive_put_back_is_served_again(server):
    """The other remedy."""
    assert server.predict("restored").status == 503
    path = server.store / "restored.mar"
    path.write_bytes((server.root / "old.mar").read_bytes())
    sign(path, server.root / "release.pem", MADE_AT)
    assert server.manage("PUT", "/models/restored?min_worker=1&synchronous=true").status == 503
    list_digests(server)
    assert server.manage("PUT", "/models/restored?min_worker=1&synchronous=true").status == 200
    assert server.predict("restored").json()["version"] == "1.0"


def test_a_key_that_is_deleted_is_revoked_and_what_serves_goes_on(server):
    (server.root / "keys" / "release.pub.pem").unlink()
    status, message = registered(server, "digits.mar&model_name=last")
    assert (status, "not among the 0 trusted keys" in message) == (400, True)
    assert server.predict("digits").json()["version"] == "1.0"


def test_a_server_without_keys_does_not_start_to_require_signatures(tmp_path):
    one = Server(tmp_path)
    one.start(require_signed="true")
    end(one)
    assert "require_signed=true refuses every archive" in one.failed
