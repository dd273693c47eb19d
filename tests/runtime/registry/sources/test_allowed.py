import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve.registry.sources.allowed import AllowedUrls, rules_of
from marserve.registry.sources.remote_url import UrlRefused, parse_url


def permits(entries: list[str], url: str) -> bool:
    try:
        parsed = parse_url(url)
    except UrlRefused:
        return False
    return AllowedUrls(entries).permit(parsed) is not None


BUCKET = "https://bucket.s3.amazonaws.com/.*"
TWO = ["https://s3.amazonaws.com/.*", "https://torchserve.pytorch.org/.*"]
EVERYTHING = "file://.*|http(s)?://.*"


@pytest.mark.parametrize(
    ("entries", "url"),
    [
        ([BUCKET], "https://bucket.s3.amazonaws.com/m.mar"),
        ([BUCKET], "https://bucket.s3.amazonaws.com/a/b/m.mar?X-Amz-Signature=ab"),
        ([BUCKET], "https://bucket.s3.amazonaws.com:443/m.mar"),
        ([BUCKET], "HTTPS://BUCKET.S3.amazonaws.com/m.mar"),
        ([EVERYTHING], "https://anywhere.example/m.mar"),
        ([EVERYTHING], "http://anywhere.example:8000/m.mar?x"),
        ([EVERYTHING], "file:///srv/m.mar"),
        ([".*"], "http://anywhere.example/m.mar"),
        (TWO, "https://s3.amazonaws.com/m.mar"),
        (TWO, "https://torchserve.pytorch.org/mar_files/densenet161.mar"),
        (["https?://h.example/.*"], "http://h.example/m.mar"),
        (["(http|https)://h.example/.*"], "https://h.example/m.mar"),
        (["(?i)https://H.example/.*"], "https://h.example/m.mar"),
        (["^https://h.example/.*$"], "https://h.example/m.mar"),
        ([r"https:\/\/h\.example\/.*"], "https://h.example/m.mar"),
        (["https://s3.amazonaws.com.*"], "https://s3.amazonaws.com/bucket/m.mar"),
        ([r"https://.*\.example\.com/.*"], "https://a.b.example.com/m.mar"),
        ([r"https://[a-z0-9-]+\.s3\.amazonaws\.com/.*"], "https://my-bucket.s3.amazonaws.com/m"),
        ([r"https://s3[.-].*\.amazonaws\.com/.*"], "https://s3.us-west-2.amazonaws.com/b/m.mar"),
        (["https://(a|b).example/.*"], "https://b.example/m.mar"),
        (["https://h.example(:8443)?/.*"], "https://h.example:8443/m.mar"),
        ([r"https://h.example:\d+/.*"], "https://h.example:8443/m.mar"),
        (["https://[^/]+/models/.*"], "https://h.example:8443/models/m.mar"),
        (["https://h.example/m.mar"], "https://h.example/m.mar"),
        (["https://h.example/.*?"], "https://h.example/m.mar"),
        ([r"https://h.example/[^/]+\.mar"], "https://h.example/m.mar"),
        ([r"https://h.example/(a|b)/\w+\.mar"], "https://h.example/a/m1.mar"),
        ([r"https://h.example/get\?name=.*"], "https://h.example/get?name=m.mar"),
        ([r"http://\[::1\]:8000/.*"], "http://[::1]:8000/m.mar"),
        (["http://10.0.0.7:9000/.*"], "http://10.0.0.7:9000/m.mar"),
        (["file:///srv/models/.*"], "file:///srv/models/m.mar"),
        (["file://localhost/srv/.*"], "file:///srv/m.mar"),
        (["s3://x/.*", "https://h.example/.*"], "https://h.example/m.mar"),
    ],
)
def test_what_existing_configurations_allow_is_allowed(entries, url):
    assert permits(entries, url)


@pytest.mark.parametrize(
    ("entries", "url"),
    [
        ([], "https://h.example/m.mar"),
        ([BUCKET], "http://bucket.s3.amazonaws.com/m.mar"),
        ([BUCKET], "https://bucket.s3.amazonaws.com:8443/m.mar"),
        ([BUCKET], "https://bucket.s3.amazonaws.com@evil.example/m.mar"),
        ([BUCKET], "https://bucket.s3.amazonaws.com:x@evil.example/m.mar"),
        ([BUCKET], "https://bucket.s3.amazonaws.com.evil.example/m.mar"),
        ([BUCKET], "https://bucket-s3.amazonaws.com/m.mar"),
        ([BUCKET], "https://bucketxs3xamazonawsxcom/m.mar"),
        ([BUCKET], "https://evil.example/https://bucket.s3.amazonaws.com/m.mar"),
        ([BUCKET], "https://evil.example/?https://bucket.s3.amazonaws.com/m.mar"),
        ([BUCKET], "https://evil.example#https://bucket.s3.amazonaws.com/m.mar"),
        ([BUCKET], "https://evil.example\\bucket.s3.amazonaws.com/m.mar"),
        ([BUCKET], "https://evil.example%2fbucket.s3.amazonaws.com/m.mar"),
        ([BUCKET], "https://bucket.s3.amazonaws.com%2f@evil.example/m.mar"),
        ([BUCKET], "https://bucket.s3.amazonaws.com./m.mar"),
        ([BUCKET], "https://bucket\u3002s3.amazonaws.com/m.mar"),
        ([BUCKET], "https://bucket.s3.amazonaws.com/\nm.mar"),
        ([BUCKET], "file:///bucket.s3.amazonaws.com/m.mar"),
        (["https://s3.amazonaws.com.*"], "https://s3.amazonaws.com.evil.example/m.mar"),
        (["https://s3.amazonaws.com.*"], "https://s3.amazonaws.com:1/m.mar"),
        ([r"https://.*\.example\.com/.*"], "https://example.com/m.mar"),
        ([r"https://.*\.example\.com/.*"], "https://evil.example/.example.com/m.mar"),
        ([r"https://.*\.example\.com/.*"], "https://a.example.com:1/m.mar"),
        ([r"https://.*\.example\.com/.*"], "https://a.example.com.evil/m.mar"),
        (["https://h.example/team/.*"], "https://h.example/other/m.mar"),
        (["https://h.example/team/.*"], "https://h.example/TEAM/m.mar"),
        (["https://h.example/team/.*"], "https://h.example/team/../other/m.mar"),
        (["https://h.example/team/.*"], "https://h.example/team/%2e%2e/other/m.mar"),
        (["https://h.example/team/.*"], "https://h.example/?/team/m.mar"),
        ([r"https://h.example/.*\.mar"], "https://h.example/evil?x=.mar"),
        ([r"https://h.example/[^/]+\.mar"], "https://h.example/a/m.mar"),
        (["https://h.example/m.mar"], "https://h.example/mxmar"),
        (["https://h.example/m.mar"], "https://h.example/m.mar?x"),
        (["http(s)?://.*"], "file:///etc/passwd"),
        (["file:///srv/models/.*"], "file:///srv/models/../../etc/passwd"),
        (["file:///srv/models/.*"], "file:///etc/passwd"),
        (["https://h.example"], "https://h.example/m.mar"),
        (["http://10.0.0.7/.*"], "http://167772167/m.mar"),
    ],
)
def test_nothing_else_is_allowed_however_it_is_spelled(entries, url):
    assert not permits(entries, url)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("https://s3.*/x/.*", "its host ends with a wildcard"),
        (r"https://example\..*/x", "its host ends with a wildcard"),
        ("https://user@h/.*", "a user name"),
        ("https://h:port/.*", "is no port"),
        ("https://h.example/*", r"\* repeats something fixed"),
        ("https://h.example/a{3}", r"\{ repeats something fixed"),
        ("https://h.example/(a", "is not closed"),
        ("https://h.example/a)", "has no opening one"),
        ("https://h.example/[a", "is not closed"),
        ("https://h.example/[z-a]", "runs backwards"),
        ("https://h.example/(?=x)", "only"),
        (r"https://h.example/\bx", "not understood"),
        ("https://h.example/a\\", "a backslash ends it"),
        ("https://h.example/^x", "stands in the middle"),
        ("h.example/.*", "does not begin with a scheme"),
        ("http.*", "does not begin with a scheme"),
        ("", "does not begin with a scheme"),
        ("https://h.example/ü", "beyond ASCII"),
        ("https://2130706433/.*", "a number for a host"),
        ("file://models/.*", "three slashes"),
        ("https://h/" + "(a|b)" * 9, "more than 256 alternatives"),
        ("https://h/" + "x" * 5000, "longer than"),
        ("*", "nothing can be repeated"),
        ("https://h.example/.*+", "nothing can be repeated"),
    ],
)
def test_an_entry_that_is_not_understood_is_refused_with_what_to_write(entry, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        rules_of(entry)
    assert str(caught.value).endswith("write SCHEME://HOST[:PORT]/PATH, with .* for any text")


def test_entries_that_cannot_be_used_are_left_out_with_a_sentence():
    allowed, sentences = AllowedUrls.understood(["https://h/*", BUCKET, "s3://bucket/.*"])
    assert allowed.rules == rules_of(BUCKET)
    shape = "write SCHEME://HOST[:PORT]/PATH, with .* for any text."
    assert sentences == (
        "allowed_urls: 'https://h/*' cannot be used: * repeats something fixed: write .* for any "
        f"text; {shape}",
        f"allowed_urls: 's3://bucket/.*' allows nothing: {shape}",
    )


@pytest.mark.parametrize(
    ("entries", "url", "named_host", "named_address"),
    [
        ([EVERYTHING], "http://127.0.0.1:8000/m.mar", False, False),
        ([EVERYTHING], "http://localhost/m.mar", False, False),
        (["http://localhost:8000/.*"], "http://localhost:8000/m.mar", True, False),
        (["http://127.0.0.1:8000/.*"], "http://127.0.0.1:8000/m.mar", True, True),
        ([EVERYTHING, "http://127.0.0.1:1/.*"], "http://127.0.0.1:8000/m.mar", False, False),
        ([r"http://127\.0\.0\..*\.1/.*", EVERYTHING], "http://127.0.0.1/m.mar", False, False),
    ],
)
def test_only_a_host_without_wildcards_is_named(entries, url, named_host, named_address):
    permission = AllowedUrls(entries).permit(parse_url(url))
    assert (permission.named_host, permission.named_address) == (named_host, named_address)


def test_a_file_is_compared_by_its_path():
    allowed = AllowedUrls(["file:///srv/models/.*"])
    assert allowed.allows_file("/srv/models/m 1.mar")
    assert not allowed.allows_file("/srv/models-evil/m.mar")


@pytest.mark.timeout(20)
def test_no_pattern_and_no_url_takes_long():
    allowed = AllowedUrls(["https://h.example/" + ".*a" * 60 + "b"])
    assert allowed.permit(parse_url("https://h.example/" + "a" * 8000)) is None


@given(st.text(alphabet=st.sampled_from("abc.@/:\\%2f#?"), max_size=30))
def test_one_allowed_host_is_the_only_host_ever(text):
    url = f"https://good.example{text}"
    if permits(["https://good.example/.*"], url):
        assert re.match(r"(:0*443)?([/?]|$)", text)


@given(st.text(alphabet=st.sampled_from("ab.*+?()[]|\\^$-/:{}1"), max_size=25))
def test_every_entry_is_understood_or_refused(text):
    with suppress(ValueError):  # and nothing else
        rules_of(f"https://{text}")
