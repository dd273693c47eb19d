import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from marserve_handlers.torchserve import launcher


@pytest.fixture
def command(tmp_path, monkeypatch):
    """A stand-in for the command line: notes its arguments, does what it is told."""
    script = tmp_path / "command.py"
    script.write_text(
        "import json, pathlib, sys\n"
        f"notes = pathlib.Path({str(tmp_path / 'notes')!r})\n"
        "with notes.open('a') as file:\n"
        "    file.write(json.dumps(sys.argv[1:]) + '\\n')\n"
        "if '--start' in sys.argv:\n"
        "    print('ready')\n"
        "    sys.exit('broken' in sys.argv)\n"
    )
    monkeypatch.setattr(launcher, "_COMMAND", (launcher.sys.executable, str(script)))
    return lambda: [json.loads(line) for line in (tmp_path / "notes").read_text().splitlines()]


def test_starting_stops_the_old_server_and_passes_everything_on(command):
    lines = launcher.start(
        "store", "config.properties", True, None, True, "a.mar,b=c.mar", enable_model_api=True
    )
    assert [lines.get(), lines.get()] == ["ready", None]
    assert command() == [
        ["--stop"],
        [
            *("--start", "--model-store", "store", "--ts-config", "config.properties"),
            *("--no-config-snapshots", "--disable-token-auth", "--enable-model-api"),
            *("--models", "a.mar", "b=c.mar"),
        ],
    ]


def test_nothing_is_passed_that_was_not_asked_for(command):
    launcher.start("store")
    assert command()[1] == ["--start", "--model-store", "store"]


def test_a_server_that_does_not_start_is_told(command):
    with pytest.raises(RuntimeError, match="did not start: ready"):
        launcher.start("store", models="broken")


def test_java_plugins_are_refused(command):
    with pytest.raises(ValueError, match="Python packages"):
        launcher.start("store", plugin_folder="jars")


def test_stopping_stops(command):
    launcher.stop()
    launcher.stop(wait=False)
    assert command() == [["--stop"], ["--stop"]]


@pytest.fixture
def management(monkeypatch):
    """A stand-in for the management port; the targets that it was asked for."""
    asked = []

    class Management(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(self.path)
            self.send_response(404 if "none" in self.path else 200)
            self.end_headers()
            self.wfile.write(b'{"status": "done"}')

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Management) as server:
        monkeypatch.setattr(launcher, "MANAGEMENT", f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield asked
        server.shutdown()
        thread.join()


def test_models_are_registered(management):
    response = launcher.register_model("m", "a b.mar")
    assert (response.status_code, response.json()) == (200, {"status": "done"})
    assert management == ["/models?model_name=m&url=a+b.mar&initial_workers=1&synchronous=true"]


def test_a_refusal_is_a_response(management):
    response = launcher.register_model_with_params((("url", "none.mar"), ("x", "1")))
    assert response.status_code == 404
    assert management == ["/models?url=none.mar&x=1"]
