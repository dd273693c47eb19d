import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from marserve_handlers.torchserve import model_dir
from marserve_handlers.torchserve.model_dir import copy_files, download_model


@pytest.fixture
def served(tmp_path, monkeypatch):
    """The address of a server with one file, and the paths that it was asked for."""
    asked = []

    class Files(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            found = self.path == "/w.pt?x=1"
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(b"weights" if found else b"")

        def log_message(self, *args):
            pass

    monkeypatch.setattr(model_dir, "CACHE", tmp_path / "cache")
    with HTTPServer(("127.0.0.1", 0), Files) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def test_weights_are_downloaded_once(served, tmp_path):
    address, asked = served
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        download_model(f"{address}/w.pt?x=1", tmp_path / name)
        assert (tmp_path / name / "model.pt").read_bytes() == b"weights"
    assert asked == ["/w.pt?x=1"]


def test_what_cannot_be_downloaded_leaves_nothing(served, tmp_path):
    address, _ = served
    with pytest.raises(OSError, match="404"):
        download_model(f"{address}/none.pt", tmp_path)
    with pytest.raises(ValueError, match=r"http\(s\)"):
        download_model("file:///etc/hostname", tmp_path)
    assert list((tmp_path / "cache").iterdir()) == []
    assert not (tmp_path / "model.pt").exists()


def test_files_are_copied_to_their_new_names(tmp_path):
    source, target = tmp_path / "a", tmp_path / "b"
    source.mkdir()
    target.mkdir()
    (source / "x.py").write_text("1")
    copy_files(source, target, {"x.py": "model.py"})
    assert (target / "model.py").read_text() == "1"
