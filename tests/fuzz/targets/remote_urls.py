"""F-URL: what may be fetched, for any entry of allowed_urls, any url and any resolved address.

The first line is an entry, the second a url, the third an address. An entry or a url is understood
or refused; a url that is understood is read by the standard library in the same way; and no address
is public that the standard library takes for anything else.
"""

from contextlib import suppress
from ipaddress import ip_address
from urllib.parse import urljoin, urlsplit

from marserve.registry.sources.addresses import Reach, may_connect, reach
from marserve.registry.sources.allowed import AllowedUrls, rules_of
from marserve.registry.sources.remote_url import RemoteUrl, UrlRefused, is_remote, parse_url

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789:/.-_")

SEEDS = [
    line.encode()
    for line in (
        "https://models.example.com/.*\nhttps://models.example.com/a/m.mar?x=1\n93.184.216.34",
        "https://.*\\.s3\\.amazonaws\\.com/team/.*\\.mar\nhttps://b.s3.amazonaws.com/team/m.mar\n::1",
        "http(s)?://10.0.0.7:9000/.*\nhttp://10.0.0.7:9000/m.mar\n10.0.0.7",
        "file:///srv/incoming/.*\nfile:///srv/incoming/m.mar\n64:ff9b::7f00:1",
        "https://[a-z]+\\.example/(a|b)/.*\nHTTPS://X.example:443/a/%41\n::ffff:127.0.0.1",
        "https://.*\nhttps://user@127.0.0.1:80/../m\n169.254.169.254",
        ".*\nhttp://2130706433/\nfd00:ec2::254",
        "^https?://(?:a|b)\\.c(:80)?/x\\?y=.*$\nhttp://[::1%25lo]:80/#f\nfe80::1%lo",
        "https://a.*b.*c.*\\.d/.*\nhttps://" + "a" * 60 + ".d/\n100.64.0.1",
        "(((((a|b)|c)|d)|e)|f)?+*{}[]\nhttp:\\\\a\\b\n0.0.0.0",
    )
]


def one_input(data: bytes) -> None:
    """Raises if somebody is led astray, or anything but a refusal comes out."""
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    entry, text, address, *_ = [*lines, "", ""] if len(lines) < 3 else lines
    url = _understood(text)
    _entry_allows_what_it_says(entry, url)
    _address_is_what_it_is(address)


def _understood(text: str) -> RemoteUrl | None:
    try:
        url = parse_url(text)
    except UrlRefused:
        return None
    assert is_remote(text)
    assert url.host == url.host.lower()
    assert parse_url(url.text) == url
    assert not any(ord(c) <= 32 or ord(c) >= 127 for c in text), "it could be read in two ways"
    other = urlsplit(text)  # a second reader: the one that http clients have
    assert other.scheme.lower() == url.scheme
    assert (other.username, other.password, other.fragment) == (None, None, "")
    assert (other.path or "/") == url.path
    if url.scheme != "file":
        assert url.port == (other.port or {"http": 80, "https": 443}[url.scheme])
        assert _same_host(url.host, other.hostname or "")
    with suppress(ValueError):
        joined = parse_url(urljoin(url.text, "/x"))  # as redirects are read
        assert joined.same_origin(url)
    return url


def _same_host(mine: str, others: str) -> bool:
    try:
        return ip_address(mine) == ip_address(others)
    except ValueError:
        return mine == others.lower()


def _entry_allows_what_it_says(entry: str, url: RemoteUrl | None) -> None:
    try:
        rules = rules_of(entry)
    except ValueError:
        rules = ()
    allowed, sentences = AllowedUrls.understood([entry])
    assert allowed.rules == rules
    assert rules or sentences, "what allows nothing is told"
    if url is None:
        return
    assert AllowedUrls().permit(url) is None
    permission = allowed.permit(url)
    if permission is None:
        return
    assert permission.url is url
    assert rules, "nothing is allowed unless an entry allows it"
    if permission.named_host and set(entry) <= _PLAIN:
        assert url.host in entry, "an entry allows a host that it does not name"
    if permission.named_address:
        assert permission.named_host
        ip_address(url.host)


def _address_is_what_it_is(text: str) -> None:
    choices = [may_connect(text, *named) for named in ((False, False), (True, False), (True, True))]
    assert choices == sorted(choices), "who may less must not get further"
    try:
        address = ip_address(text)
    except ValueError:
        assert choices == [False] * 3
        return
    if reach(address) is Reach.PUBLIC:
        assert choices[0]
        embedded = getattr(address, "ipv4_mapped", None)
        shown = embedded or address
        nat64 = address.version == 6 and int(address) >> 32 == 0x64FF9B << 64
        assert nat64 or (shown.is_global and not shown.is_multicast and not shown.is_link_local)
