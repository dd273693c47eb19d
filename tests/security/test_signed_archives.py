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

ROOT = Path(__file__).parents[2]
COMMANDS = re.findall(r"^\$ (.+)$", (ROOT / "docs/signed-archives.md").read_text(), re.MULTILINE)


@pytest.fixture
def server(tmp_path):
    one = Server(tmp_path)
    yield one
    end(one)


def run(command: str, folder: Path) -> None:
    """A command of the document; `archiver` is this tree's."""
    line = command.replace("archiver ", f"{shlex.quote(sys.executable)} -m marserve_archiver ", 1)
    subprocess.run(line if command.startswith("archiver") else command, shell=True, check=True,
                   cwd=folder)  # fmt: skip


def follow_the_document(server: Server) -> None:
    """The whole page, in the model store; the private key goes elsewhere."""
    server.pack("digits", "version.py")
    for command in COMMANDS:
        run(command, server.store)
    (server.store / "keys").rename(server.root / "keys")
    (server.store / "release.pem").rename(server.root / "release.pem")


def registered(server: Server, query: str) -> tuple[int, str]:
    reply = server.manage("POST", f"/models?url={query}&initial_workers=1")
    return reply.status, reply.json().get("message", "")


def test_the_page_holds_the_commands_that_are_tested():
    assert [command.split()[0] for command in COMMANDS] == [
        *("archiver", "mkdir", "mv", "archiver", "archiver", "sha256sum"),
    ]


def test_a_server_takes_what_is_signed_and_goes_on_serving_it(server):
    follow_the_document(server)
    server.pack("unsigned", "version.py")
    server.pack("digits", "version.py", "2.0", file_name="other.mar")
    (server.store / "other.mar.sig").write_bytes((server.store / "digits.mar.sig").read_bytes())
    server.start(
        load_models="digits.mar,unsigned.mar",
        require_signed="true",
        trusted_keys=server.root / "keys",
    )
    assert server.predict("digits").json()["version"] == "1.0"
    assert ["unsigned.mar" in problem for problem in server.problems] == [True]

    status, message = registered(server, "unsigned.mar")
    assert (status, "It is not signed: there is no unsigned.mar.sig" in message) == (400, True)
    status, message = registered(server, "other.mar")
    assert (status, "The signature is for an archive with the sha256" in message) == (400, True)
    for key in (server.root / "keys").iterdir():
        key.unlink()
    status, message = registered(server, "digits.mar&model_name=again")
    assert (status, "not among the 0 trusted keys" in message) == (400, True)
    assert server.predict("digits").json()["version"] == "1.0"


def test_a_server_without_keys_does_not_start_to_require_signatures(server):
    server.start(require_signed="true")
    assert "require_signed=true refuses every archive" in server.failed


def test_a_server_takes_what_is_pinned(server):
    follow_the_document(server)
    server.pack("loose", "version.py")
    pin = hashlib.sha256((server.store / "digits.mar").read_bytes()).hexdigest()
    server.start(require_pins="true", load_models=f"one=digits.mar#sha256={pin}")
    assert server.predict("one").json()["version"] == "1.0"

    assert registered(server, f"digits.mar&sha256={pin.upper()}&model_name=two")[0] == 200
    assert registered(server, "digits.mar&sha256=0&model_name=three") == (
        400,
        "Parameter sha256 must be 64 hexadecimal digits.",
    )
    status, message = registered(server, f"digits.mar&sha256={'0' * 64}&model_name=three")
    assert (status, "was expected" in message) == (400, True)
    status, message = registered(server, "loose.mar")
    assert (status, "SHA256SUMS of the store does not list it" in message) == (400, True)


def test_an_archive_that_was_replaced_is_not_served_after_a_restart(server):
    server.pack("m", "version.py")
    server.pack("kept", "version.py")
    server.start(load_models="m.mar,kept.mar")
    server.stop()
    old = (server.store / "m.mar").read_bytes()
    server.pack("m", "echo.py")

    server.start(load_models="m.mar,kept.mar")
    [problem] = server.problems
    assert "The archive of m:1.0 was replaced after it was registered" in problem
    assert "unregister m:1.0 and register it again" in problem
    [described] = server.manage("GET", "/models/m").json()
    assert (described["state"], described["workers"]) == ("FAILED", [])
    assert "was replaced" in described["lastError"]
    assert server.predict("m").status == 503
    assert server.predict("kept").status == 200

    (server.store / "m.mar").write_bytes(old)  # the one remedy
    assert server.manage("PUT", "/models/m?min_worker=1&synchronous=true").status == 200
    assert server.predict("m").json()["version"] == "1.0"

    server.pack("m", "echo.py")  # the other
    assert server.manage("DELETE", "/models/m").status == 200
    assert registered(server, "m.mar")[0] == 200
    assert server.predict("m", b"x").status == 200
    digest = hashlib.sha256((server.store / "m.mar").read_bytes()).hexdigest()
    saved = json.loads((server.root / "logs/state/wanted.json").read_text())
    assert saved["models"]["m"]["versions"]["1.0"]["sha256"] == digest
