import pytest

from marserve.bench.endpoint import Endpoint, model_path


@pytest.mark.parametrize(
    ("url", "expected", "authority"),
    [
        ("http://h:81", ("h", 81, False, "", ""), "h:81"),
        ("h:81", ("h", 81, False, "", ""), "h:81"),
        ("https://h", ("h", 443, True, "", ""), "h"),
        ("http://h", ("h", 80, False, "", ""), "h"),
        ("http://[::1]:8080/base/", ("::1", 8080, False, "", "/base"), "[::1]:8080"),
        ("unix:/run/m.sock", ("localhost", 0, False, "/run/m.sock", ""), "localhost"),
        ("unix:///run/m.sock", ("localhost", 0, False, "/run/m.sock", ""), "localhost"),
    ],
)
def test_an_address_is_read(url, expected, authority):
    found = Endpoint.of(url)
    got = (found.host, found.port, found.is_secure, found.socket_path, found.base)
    assert (got, found.authority) == (expected, authority)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("ftp://h", "is not an address like"),
        ("http://", "is not an address like"),
        ("http://h:x", "has no usable port"),
        ("http://[::1", "has no usable port"),
        ("unix:", "names no socket"),
    ],
)
def test_what_is_no_address_is_refused(url, sentence):
    with pytest.raises(ValueError, match=sentence):
        Endpoint.of(url)


def test_a_request_is_written_in_full():
    written = Endpoint.of("http://h:81/base").message(
        "POST", "/predictions/m", b"abc", {"Content-Type": "text/plain", "host": "other"}
    )
    assert written == (
        b"POST /base/predictions/m HTTP/1.1\r\nAccept: */*\r\nContent-Length: 3\r\n"
        b"Content-Type: text/plain\r\nhost: other\r\n\r\nabc"
    )


def test_a_get_has_no_length():
    assert b"ontent-" not in Endpoint.of("http://h").message("GET", "/metrics")


@pytest.mark.parametrize(
    ("name", "version", "path"),
    [
        ("m", None, "/models/m"),
        ("m", "1.0", "/models/m/1.0"),
        ("a/b c", "x?", "/models/a%2Fb%20c/x%3F"),
    ],
)
def test_names_cannot_leave_their_place_in_a_path(name, version, path):
    assert model_path("models", name, version) == path
