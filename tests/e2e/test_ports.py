"""Where the APIs can be reached: over TLS, on one shared port, on unix sockets."""

import http.client
import signal
import socket
import ssl
import stat

import pytest
from running_server import Crowd, Reply
from scripted_http import Certificates

PORTS = ("inference", "management", "metrics")
GRPC_OFF = {"enable_grpc_api": "false"}


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=30)
        self._path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(30)
        self.sock.connect(self._path)


def ask(connection, method, target, body=None):
    try:
        connection.request(method, target, body)
        response = connection.getresponse()
        return Reply(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def check_all_apis(calls):
    """`calls[port](method, target, body)` reach a server with the model echo."""
    assert calls["inference"]("GET", "/ping").json() == {"status": "Healthy"}
    assert calls["inference"]("POST", "/predictions/echo", b"hello").status == 200
    described = calls["management"]("GET", "/models/echo")
    assert described.status == 200
    assert described.json()[0]["modelName"] == "echo"
    assert calls["management"]("PUT", "/models/echo?min_worker=2&synchronous=true").status == 200
    metrics = calls["metrics"]("GET", "/metrics")
    assert metrics.status == 200
    assert b"# TYPE" in metrics.body


# --- TLS ------------------------------------------------------------------------------------------


@pytest.fixture
def tls(tmp_path):
    """Settings for https ports, and a client that believes in them."""
    authority = Certificates()
    certificate, key = authority.write(tmp_path, "localhost", "127.0.0.1")
    client = ssl.create_default_context(cadata=authority.authority_pem)
    return {"certificate_file": certificate, "private_key_file": key} | GRPC_OFF, client


def secure(server, port, client):
    host, number = server.address(port)
    return http.client.HTTPSConnection(host, number, timeout=30, context=client)


def test_every_api_is_served_over_tls(server, tls):
    settings, client = tls
    server.pack("echo", "echo.py")
    addresses = {f"{name}_address": "https://127.0.0.1:0" for name in PORTS}
    server.start(load_models="echo.mar", **settings, **addresses)
    assert server.failed is None
    assert all(server.addresses[name].startswith("https://") for name in PORTS)

    check_all_apis(
        {
            name: lambda method, target, body=None, name=name: ask(
                secure(server, name, client), method, target, body
            )
            for name in PORTS
        }
    )


def test_a_tls_port_keeps_no_stranger_and_tells_plain_http(server, tls):
    settings, client = tls
    server.pack("echo", "echo.py")
    server.start(load_models="echo.mar", **settings, inference_address="https://127.0.0.1:0")

    plain = server.call("GET", "inference", "/ping")
    assert plain.status == 403
    assert b"https" in plain.body.lower()
    with pytest.raises(ssl.SSLCertVerificationError):
        ask(secure(server, "inference", ssl.create_default_context()), "GET", "/ping")
    with server.raw() as silent:  # a handshake that never comes does not hold up the end
        assert ask(secure(server, "inference", client), "GET", "/ping").status == 200
        assert server.stop() == 0
        assert silent.recv(1) == b""


def test_requests_that_run_over_tls_are_answered_before_the_end(server, tls, tmp_path):
    settings, client = tls
    server.pack("moody", "moody.py")
    server.start(load_models="moody.mar", **settings, inference_address="https://127.0.0.1:0")
    gate = tmp_path / "gate"
    crowd = Crowd(
        lambda _: ask(
            secure(server, "inference", client),
            "POST",
            "/predictions/moody",
            f"wait {gate}".encode(),
        ),
        1,
    )
    server.wait_until((tmp_path / "gate.started").exists)

    server.process.send_signal(signal.SIGTERM)
    server.wait_until(lambda: is_refused(server))
    gate.touch()

    assert [reply.status for reply in crowd.join()] == [200]
    assert server.wait() == 0


# --- one port for all -----------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_all_apis_share_one_port(server, tls, scheme):
    settings, client = tls
    server.pack("echo", "echo.py")
    address = f"{scheme}://127.0.0.1:{free_port()}"
    addresses = {f"{name}_address": address for name in PORTS}
    server.start(load_models="echo.mar", **settings, **addresses)
    assert server.failed is None
    assert {server.addresses[name] for name in PORTS} == {address}

    def call(method, target, body=None):
        if scheme == "https":
            return ask(secure(server, "inference", client), method, target, body)
        return server.call(method, "inference", target, body)

    check_all_apis(dict.fromkeys(PORTS, call))
    assert server.stop() == 0


def test_a_shared_port_takes_no_changes_while_it_answers_what_it_took(server, tmp_path):
    server.pack("moody", "moody.py")
    address = f"http://127.0.0.1:{free_port()}"
    server.start(
        load_models="moody.mar", **{f"{name}_address": address for name in PORTS}, **GRPC_OFF
    )
    gate = tmp_path / "gate"
    crowd = server.block("moody", gate)

    server.process.send_signal(signal.SIGTERM)
    server.wait_until(lambda: is_refused(server))
    gate.touch()

    assert [reply.status for reply in crowd.join()] == [200]
    assert server.wait() == 0


def is_refused(server):
    try:
        with server.raw():
            return False
    except ConnectionRefusedError:
        return True


# --- unix sockets ---------------------------------------------------------------------------------


def on_unix(folder):
    return {f"{name}_address": f"unix:{folder / name}.sock" for name in PORTS} | GRPC_OFF


def over_unix(folder):
    return {
        name: lambda method, target, body=None, name=name: ask(
            UnixConnection(folder / f"{name}.sock"), method, target, body
        )
        for name in PORTS
    }


def test_every_api_is_served_on_a_unix_socket_that_goes_with_the_server(server, tmp_path):
    server.pack("echo", "echo.py")
    server.start(load_models="echo.mar", **on_unix(tmp_path))
    assert server.failed is None

    check_all_apis(over_unix(tmp_path))

    assert server.stop() == 0
    assert [path.name for path in tmp_path.glob("*.sock")] == []


def test_all_apis_share_one_unix_socket(server, tmp_path):
    server.pack("echo", "echo.py")
    addresses = {f"{name}_address": f"unix:{tmp_path}/all.sock" for name in PORTS}
    server.start(load_models="echo.mar", **addresses, **GRPC_OFF)

    def call(method, target, body=None):
        return ask(UnixConnection(tmp_path / "all.sock"), method, target, body)

    check_all_apis(dict.fromkeys(PORTS, call))


def test_a_socket_that_a_killed_server_left_behind_is_replaced(server, tmp_path):
    server.pack("echo", "echo.py")
    server.start(load_models="echo.mar", **on_unix(tmp_path))
    workers = server.children()
    assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    server.wait_until(lambda: not any(worker.is_running() for worker in workers))
    assert stat.S_ISSOCK((tmp_path / "inference.sock").stat().st_mode)

    server.start(load_models="echo.mar", **on_unix(tmp_path))

    assert server.failed is None
    assert over_unix(tmp_path)["inference"]("GET", "/ping").status == 200


# --- what is in the way ---------------------------------------------------------------------------


def test_a_socket_on_which_another_server_listens_is_left_alone(server, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(tmp_path / "management.sock"))
        other.listen()
        server.start(**on_unix(tmp_path))

        assert "management_address" in server.failed
        assert (tmp_path / "management.sock").exists()
        assert not (tmp_path / "inference.sock").exists()
        assert server.wait() != 0


def test_a_file_in_the_place_of_a_socket_is_left_alone(server, tmp_path):
    (tmp_path / "inference.sock").write_text("precious")
    server.start(**on_unix(tmp_path))

    assert "inference_address" in server.failed
    assert (tmp_path / "inference.sock").read_text() == "precious"
    assert server.wait() != 0


@pytest.mark.parametrize("name", PORTS)
def test_a_port_that_is_taken_is_named_with_the_remedy(server, name):
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"http://127.0.0.1:{other.getsockname()[1]}"
        server.start(**{f"{name}_address": taken})

        assert f"{name}_address" in server.failed
        assert taken in server.failed
        assert "Stop what listens there" in server.failed
        assert server.wait() != 0
