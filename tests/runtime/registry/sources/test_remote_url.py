import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.registry.sources.remote_url import RemoteUrl, UrlRefused, is_remote, parse_url


@pytest.mark.parametrize(
    ("text", "scheme", "host", "port", "path", "query"),
    [
        ("https://h.example/m.mar", "https", "h.example", 443, "/m.mar", None),
        ("HTTPS://H.Example/M.mar", "https", "h.example", 443, "/M.mar", None),
        ("http://h:8080/a/b.mar?x=1&y", "http", "h", 8080, "/a/b.mar", "x=1&y"),
        ("https://h/a%20b.mar", "https", "h", 443, "/a%20b.mar", None),
        ("https://10.0.0.7/m.mar", "https", "10.0.0.7", 443, "/m.mar", None),
        ("https://[::1]:9000/m.mar", "https", "::1", 9000, "/m.mar", None),
        ("https://[0:0::1]/m.mar", "https", "::1", 443, "/m.mar", None),
        ("https://my_bucket.xn--bcher-kva/m", "https", "my_bucket.xn--bcher-kva", 443, "/m", None),
        ("https://h", "https", "h", 443, "/", None),
        ("https://h?x", "https", "h", 443, "/", "x"),
        ("file:///srv/m.mar", "file", "", 0, "/srv/m.mar", None),
        ("file://localhost/srv/m.mar", "file", "", 0, "/srv/m.mar", None),
    ],
)
def test_a_url_is_taken_apart(text, scheme, host, port, path, query):
    assert parse_url(text) == RemoteUrl(text, scheme, host, port, path, query)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("m.mar", "is not of the form"),
        ("ftp://h/m", "is not of the form"),
        ("https:/h/m", "is not of the form"),
        ("https:h/m", "is not of the form"),
        ("https:///m", "no host"),
        ("https://good@evil/m", "a user name"),
        ("https://good%40evil/m", "which is no DNS name"),
        ("https://user:secret@good/m", "a user name"),
        ("https://good\\@evil/m", "a backslash"),
        ("https://good\\.evil/m", "a backslash"),
        ("https://evil#.good/m", "a fragment"),
        ("https://good/m.mar#x", "a fragment"),
        ("https://good/m mar", "control characters"),
        ("https://good/m\r\nHost: evil", "control characters"),
        ("https://good/m\0", "control characters"),
        ("https://good\t.evil/m", "control characters"),
        ("https://g\u043eod/m", "beyond ASCII"),  # a Cyrillic letter
        ("https://good\u3002evil/m", "beyond ASCII"),  # a full stop under NFKC
        ("https://\u210aood/m", "beyond ASCII"),
        ("https://good/a/../m", "a relative part"),
        ("https://good/./m", "a relative part"),
        ("https://good/%2e%2e/m", "the escape %2e"),
        ("https://good/a%2Fm", "the escape %2F"),
        ("https://good/a%5cm", "the escape %5c"),
        ("https://good/m%00", "the escape %00"),
        ("https://good/m%0d%0aX:", "the escape %0d"),
        ("https://good/m%7f", "the escape %7f"),
        ("https://good/m%", "begins no escape"),
        ("https://good/m%zz", "begins no escape"),
        ("https://good/m%+1", "begins no escape"),
        ("https://good:/m", "no host of the form"),
        ("https://good:0/m", "a port beyond"),
        ("https://good:65536/m", "a port beyond"),
        ("https://good:80:80/m", "no host of the form"),
        ("https://good:-1/m", "no host of the form"),
        ("https://good./m", "a number for a host|no DNS name"),
        ("https://-good/m", "no DNS name"),
        ("https://a..b/m", "no DNS name"),
        (f"https://{'a' * 64}/m", "no DNS name"),
        (f"https://{'a.' * 127}a/m", "no DNS name"),
        ("https://2130706433/m", "a number for a host"),
        ("https://0x7f000001/m", "a number for a host"),
        ("https://0x7f.1/m", "a number for a host"),
        ("https://127.1/m", "a number for a host"),
        ("https://0177.0.0.1/m", "a number for a host"),
        ("https://127.0.0.1.2/m", "a number for a host"),
        ("https://[::1/m", "no host of the form"),
        ("https://[1.2.3.4]/m", "no IPv6 address"),
        ("https://[fe80::1%25eth0]/m", "no host of the form"),
        ("file://evil/m", "names another machine"),
        ("file:///m?x", "has a query"),
        ("https://good/" + "x" * 9000, "longer than"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(text, reason):
    with pytest.raises(UrlRefused, match=reason):
        parse_url(text)


def test_the_parts_are_written_as_http_wants_them():
    url = parse_url("https://[::1]:9000/a/m.mar?x=1")
    assert (url.host_header, url.target, url.file_name) == ("[::1]:9000", "/a/m.mar?x=1", "m.mar")
    assert parse_url("https://h:443/").host_header == "h"
    assert parse_url("http://h:443/").host_header == "h:443"


@pytest.mark.parametrize("text", ["http://h/m", "HTTPS://h", "file://x", "s3://b/m"])
def test_what_means_to_be_a_url_is_told_from_a_name(text):
    assert is_remote(text)
    assert not is_remote(f"x{text}")
    assert not is_remote("m.mar")


@given(st.text(alphabet=st.sampled_from("htps:/@.a1%[]\\?#e2f \n"), max_size=40))
def test_whatever_is_accepted_has_unambiguous_parts(text):
    try:
        url = parse_url(f"https://{text}")
    except UrlRefused:
        return
    assert not set("/@\\#?% \n[]") & set(url.host)
    assert url.path.startswith("/")
    assert ".." not in url.path.split("/")
    assert f"https://{text}".startswith("https://")
    assert 0 < url.port < 65536
