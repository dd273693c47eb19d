import os
import socket
import tempfile
import time
from pathlib import Path

import pytest
from scripted_http import Certificates, reply, scripted_http

from marserve import __version__
from marserve.errors import ArchiveNotFound
from marserve.registry.sources.allowed import AllowedUrls
from marserve.registry.sources.fetcher import Fetcher
from marserve.registry.sources.landing import CannotFetch, Limits
from marserve.registry.sources.s3 import Credentials

BODY = b"an archive" * 1000
HERE = ["127.0.0.1"]


@pytest.fixture
def server():
    with scripted_http() as server:
        yield server


@pytest.fixture(scope="module")
def certificates():
    return Certificates()


class Resolver:
    """Gives scripted answers, the last one again and again."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if not answer:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return answer


def fetch(entries, url, *, limits=None, is_signed=False, **options) -> bytes:
    options.setdefault("resolve", Resolver(HERE))
    fetcher = Fetcher(AllowedUrls(entries), limits, options.pop("credentials", None), **options)
    with tempfile.TemporaryFile() as file:
        fetcher.fetch(fetcher.permission(url), is_signed, file)
        file.seek(0)
        return file.read()


def near(server, scheme: str = "http") -> list[str]:
    """Allows the server's host by name, so that it may be on loopback."""
    return [f"{scheme}://models.test:{server.port}/.*"]


def at(server, target: str, scheme: str = "http") -> str:
    return f"{scheme}://models.test:{server.port}{target}"


def refused(reason, *args, **kwargs) -> None:
    with pytest.raises(CannotFetch, match=reason):
        fetch(*args, **kwargs)


# --- what is asked and what is taken ---------------------------------------------------------


def test_a_download_is_an_ordinary_request(server):
    server.answers["/a/m.mar?x=1"] = reply(BODY)
    assert fetch(near(server), at(server, "/a/m.mar?x=1")) == BODY
    assert server.asked == [
        "GET /a/m.mar?x=1 HTTP/1.1\r\n"
        f"Host: models.test:{server.port}\r\n"
        f"User-Agent: marserve/{__version__}\r\n"
        "Accept-Encoding: identity\r\n"
        "Connection: close\r\n\r\n"
    ]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"5\r\nhello\r\n1;x=y\r\n!\r\n0\r\n\r\n",
            id="chunked",
        ),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\nhello!", id="until the end"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello!and more", id="pipelined"),
        pytest.param(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello!",
            id="after a 100",
        ),
    ],
)
def test_every_way_of_sending_a_body_is_understood(answer, server):
    server.answers["/m"] = answer
    assert fetch(near(server), at(server, "/m")) == b"hello!"


def test_proxies_of_the_environment_are_not_used(server, monkeypatch):
    server.answers["/m"] = reply(BODY)
    with scripted_http() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert fetch(near(server), at(server, "/m")) == BODY
        assert proxy.asked == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (reply(b"no", "403 Forbidden"), r"models\.test answered 403 Forbidden"),
        (reply(b"no", "500 \x01\x02"), r"models\.test answered 500"),
        (reply(status="204 No Content"), "answered 204"),
        (reply(b"part", "206 Partial Content"), "answered 206"),
        (reply(status="304 Not Modified"), "answered 304"),
        (reply(BODY, content_length="20000"), "sent 10000 of 20000 bytes"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", "IncompleteRead|failed"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhel", "connection to"),
        (b"SSH-2.0-OpenSSH\r\n", "the connection to models.test failed"),
        (b"", "the connection to models.test failed"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1000 + b"\r\n", "got more than 100 headers"),
        (b"HTTP/1.1 200 OK\r\na: " + b"b" * 100_000, "got more than 65536 bytes"),
        (reply(b"x" * 100_001), r"larger than 100000 bytes \(max_archive_size\)"),
        (b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 100_001, "larger than 100000 bytes"),
        (reply(b"", content_length=str(10**30)), "larger than 100000 bytes"),
    ],
)
def test_what_is_no_complete_answer_is_told(answer, reason, server):
    server.answers["/m"] = answer
    refused(reason, near(server), at(server, "/m"), limits=Limits(max_bytes=100_000))


def test_a_port_where_nobody_listens_is_told():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    url = f"http://models.test:{port}/m"
    refused(r"models\.test refused the connection: Connection refused", [url], url)


def test_the_next_address_is_tried_when_one_does_not_answer(server):
    server.answers["/m"] = reply(BODY)
    resolver = Resolver(["::1", "127.0.0.1"])  # the server listens on the second one only
    assert fetch(near(server), at(server, "/m"), resolve=resolver) == BODY


# --- time ------------------------------------------------------------------------------------


def drip(first: bytes, piece: bytes):
    def send(sock: socket.socket) -> None:
        sock.sendall(first)
        while True:
            sock.sendall(piece)
            time.sleep(0.01)

    return send


def test_a_server_that_falls_silent_is_left(server):
    def send(sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        server.ending.wait()

    server.answers["/m"] = send
    refused(r"nothing came for 0\.2 s", near(server), at(server, "/m"), limits=Limits(idle_s=0.2))


@pytest.mark.parametrize(
    ("first", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x"),
        (b"HTTP/1.0 200 OK\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nx: ", b"x"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
)
def test_a_server_that_sends_drop_by_drop_is_left(first, piece, server):
    server.answers["/m"] = drip(first, piece)
    limits = Limits(idle_s=5.0, total_s=0.3)
    refused(r"it took longer than 0\.3 s", near(server), at(server, "/m"), limits=limits)


def test_a_server_that_does_not_begin_tls_is_left(certificates):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://models.test:{silent.getsockname()[1]}/m"
        limits = Limits(connect_s=0.2)
        refused(r"did not take the connection within 0\.2 s", [url], url, limits=limits)


# --- addresses -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        ["127.0.0.1"],
        ["8.8.8.8", "127.0.0.1"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["10.0.0.1"],
        ["100.64.0.1"],
        ["169.254.169.254"],
        ["fd00:ec2::254"],
        ["fe80::1%lo"],
    ],
)
def test_a_name_that_fits_a_pattern_must_not_lead_inside(answer, server):
    refused(
        "is at an address that is not public",
        ["http://.*"],
        at(server, "/m"),
        resolve=Resolver(answer),
    )
    assert server.asked == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:{}/m", "http://[::ffff:127.0.0.1]:{}/m"])
def test_an_address_that_fits_a_pattern_must_not_lead_inside(url, server):
    refused("is not public", ["http://.*"], url.format(server.port))
    assert server.asked == []


@pytest.mark.parametrize("answer", [["169.254.169.254"], ["fd00:ec2::254"], ["0.0.0.0"], ["::"]])
def test_not_even_a_named_host_leads_to_a_metadata_service(answer, server):
    refused("is not public", near(server), at(server, "/m"), resolve=Resolver(answer))
    assert server.asked == []


def test_a_named_address_may_be_connected_to(server):
    server.answers["/m"] = reply(BODY)
    entry = f"http://127.0.0.1:{server.port}/.*"
    resolver = Resolver([])
    assert fetch([entry], f"http://127.0.0.1:{server.port}/m", resolve=resolver) == BODY
    assert resolver.asked == []


def test_a_name_is_resolved_once_and_the_answer_is_kept(server):
    server.answers["/m"] = reply(BODY)
    resolver = Resolver(HERE, ["169.254.169.254"])
    assert fetch(near(server), at(server, "/m"), resolve=resolver) == BODY
    assert resolver.asked == ["models.test"]


def test_a_name_without_an_address_is_told(server):
    refused(
        r"the name models\.test cannot be resolved",
        near(server),
        at(server, "/m"),
        resolve=Resolver([]),
    )


# --- redirects -------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["301 a", "302 b", "303 c", "307 d", "308 e"])
@pytest.mark.parametrize("is_relative", [True, False])
def test_a_redirect_within_what_is_allowed_is_followed(status, is_relative, server):
    location = "/moved/m" if is_relative else at(server, "/moved/m")
    server.answers["/m"] = reply(status=status, location=location)
    server.answers["/moved/m"] = reply(BODY)
    assert fetch(near(server), at(server, "/m")) == BODY


@pytest.mark.parametrize("status", ["301 a", "302 b", "303 c", "307 d", "308 e"])
@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:{}/m",
        "http://localhost:{}/m",
        "http://[::1]:{}/m",
        "http://2130706433:{}/m",
        "http://0x7f.1:{}/m",
        "http://[64:ff9b::7f00:1]:{}/m",
        "http://[::ffff:127.0.0.1]:{}/m",
        "http://169.254.169.254:{}/latest/meta-data",
        "http://[fd00:ec2::254]:{}/latest",
        "http://models.test@127.0.0.1:{}/m",
        "//127.0.0.1:{}/m",
        "\\\\127.0.0.1:{}/m",
        "https://models.test:{}/m",
        "file:///etc/passwd?{}",
        "file:///etc/passwd",
        "gopher://127.0.0.1:{}/m",
        "http://models.test:1{}/m",
        "http://models.test:{}/%2e%2e/m",
        "http://[",
    ],
)
def test_a_redirect_to_anywhere_else_is_refused(status, location, server):
    with scripted_http() as inside:
        server.answers["/m"] = reply(status=status, location=location.format(inside.port))
        refused(r"models\.test redirected", near(server), at(server, "/m"))
        assert inside.asked == []
    assert len(server.asked) == 1


def test_a_redirect_that_resolves_to_the_inside_is_refused(server):
    public = ["http://.*"]
    server.answers["/m"] = reply(status="302 x", location=f"http://other.test:{server.port}/n")
    entries = [*near(server), *public]
    refused("other.test is at an address that is not public", entries, at(server, "/m"))
    assert len(server.asked) == 1


def test_redirects_end_somewhere(server):
    server.answers["/m"] = reply(status="302 x", location="/m")
    refused("redirected more than 3 times", near(server), at(server, "/m"))
    assert len(server.asked) == 4


def test_a_redirect_from_https_to_http_is_refused_even_where_http_is_allowed(
    certificates, tmp_path, server
):
    with scripted_http(certificates.server_context(tmp_path, "models.test")) as secure:
        secure.answers["/m"] = reply(status="302 x", location=at(server, "/m"))
        refused(
            "redirected from https to http",
            [*near(server), *near(secure, "https")],
            at(secure, "/m", "https"),
            tls=certificates.client_context(),
        )
    assert server.asked == []


# --- TLS -------------------------------------------------------------------------------------


def test_the_name_and_not_the_address_is_verified(certificates, tmp_path):
    with scripted_http(certificates.server_context(tmp_path, "models.test")) as server:
        server.answers["/m"] = reply(BODY)
        url = at(server, "/m", "https")
        tls = certificates.client_context()
        assert fetch(near(server, "https"), url, tls=tls) == BODY


@pytest.mark.parametrize(
    ("names", "knows_authority", "reason"),
    [
        (("other.test", "127.0.0.1"), True, "certificate of models.test is not valid: Hostname"),
        (("models.test",), False, "certificate of models.test is not valid: .*issuer"),
    ],
)
def test_a_certificate_that_does_not_hold_is_refused(
    names, knows_authority, reason, certificates, tmp_path
):
    with scripted_http(certificates.server_context(tmp_path, *names)) as server:
        tls = certificates.client_context() if knows_authority else None
        refused(reason, near(server, "https"), at(server, "/m", "https"), tls=tls)
        assert server.asked == []


# --- S3 --------------------------------------------------------------------------------------

CREDENTIALS = Credentials("the-id", "the-secret", "eu-central-1", "the-session")


def test_a_request_is_signed_where_that_is_asked(server):
    server.answers["/m"] = reply(BODY)
    url = at(server, "/m")
    assert fetch(near(server), url, is_signed=True, credentials=CREDENTIALS) == BODY
    headers = server.headers()
    assert headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=the-id/")
    assert headers["x-amz-security-token"] == "the-session"
    assert headers["host"] == f"models.test:{server.port}"
    assert server.asked[0].lower().count("host:") == 1
    fetch(near(server), url, credentials=CREDENTIALS)
    assert "authorization" not in server.headers()


def test_a_signature_does_not_follow_a_redirect_to_another_place(server):
    with scripted_http() as other:
        other.answers["/m"] = reply(BODY)
        server.answers["/m"] = reply(status="307 x", location=at(other, "/m"))
        entries = [*near(server), *near(other)]
        assert fetch(entries, at(server, "/m"), is_signed=True, credentials=CREDENTIALS) == BODY
        assert "authorization" in server.headers()
        assert not {"authorization", "x-amz-security-token"} & other.headers().keys()


def test_without_credentials_nothing_is_asked(server):
    refused(
        "s3_sse_kms needs the environment variables AWS_ACCESS_KEY_ID",
        near(server),
        at(server, "/m"),
        is_signed=True,
    )
    assert server.asked == []


# --- files -----------------------------------------------------------------------------------


@pytest.fixture
def incoming(tmp_path):
    folder = tmp_path / "incoming"
    folder.mkdir()
    return folder


def test_an_allowed_file_is_copied(incoming):
    (incoming / "m 1.mar").write_bytes(BODY)
    assert fetch([f"file://{incoming}/.*"], f"file://{incoming}/m%201.mar") == BODY


def test_a_link_to_another_allowed_file_is_followed(incoming):
    (incoming / "v1").mkdir()
    (incoming / "v1/m.mar").write_bytes(BODY)
    (incoming / "m.mar").symlink_to("v1/m.mar")
    assert fetch([f"file://{incoming}/.*"], f"file://{incoming}/m.mar") == BODY


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gone.mar", "cannot be opened: No such file"),
        ("folder", "no regular file"),
        ("pipe", "no regular file"),
        ("out.mar", "a link to where no entry"),
        ("large.mar", "larger than 100000 bytes"),
        ("%ff.mar", "cannot be opened"),
    ],
)
def test_what_is_no_plain_file_inside_is_refused(name, reason, incoming, tmp_path):
    (tmp_path / "secret").write_bytes(BODY)
    (incoming / "folder").mkdir()
    os.mkfifo(incoming / "pipe")
    (incoming / "out.mar").symlink_to("../secret")
    with (incoming / "large.mar").open("wb") as file:
        file.truncate(100_001)
    limits = Limits(max_bytes=100_000)
    refused(reason, [f"file://{incoming}/.*"], f"file://{incoming}/{name}", limits=limits)


def test_a_device_is_no_file():
    refused("no regular file", ["file:///dev/.*"], "file:///dev/zero")


# --- permission ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://h/m.mar", "Given URL https://h/m.mar does not match any allowed URL(s)"),
        (
            "https://x@h/m.mar",
            "Given URL https://x@h/m.mar does not match any allowed URL(s): "
            "it has a user name in it.",
        ),
    ],
)
def test_a_url_that_is_not_allowed_is_not_found(url, message):
    with pytest.raises(ArchiveNotFound) as caught:
        Fetcher(AllowedUrls()).permission(url)
    assert str(caught.value) == message


def test_a_disk_that_is_full_is_told(server):
    server.answers["/m"] = reply(BODY)
    fetcher = Fetcher(AllowedUrls(near(server)), resolve=Resolver(HERE))
    permission = fetcher.permission(at(server, "/m"))
    with (
        Path("/dev/full").open("wb", buffering=0) as full,
        pytest.raises(CannotFetch, match=r"No space left|too full"),
    ):
        fetcher.fetch(permission, False, full)


# --- slow senders ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nx: ", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ],
)
def test_a_server_that_sends_too_little_in_a_window_is_left(first, piece, server):
    """F45: long before the end of all the time that a download may take."""
    server.answers["/m"] = drip(first, piece)
    limits = Limits(idle_s=5.0, total_s=60.0, min_bytes_per_s=10_000, window_s=0.2)
    began = time.monotonic()
    refused("slower than 10000 bytes a second", near(server), at(server, "/m"), limits=limits)
    assert time.monotonic() - began < 5


def test_a_host_is_resolved_once_however_often_it_redirects_to_itself(server):
    server.answers["/m"] = reply(status="302 x", location="/n")
    server.answers["/n"] = reply(BODY)
    resolver = Resolver(HERE, ["10.0.0.1"])
    assert fetch(near(server), at(server, "/m"), resolve=resolver) == BODY
    assert resolver.asked == ["models.test"]
