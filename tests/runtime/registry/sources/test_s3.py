from datetime import UTC, datetime

import pytest

from marserve.registry.sources.s3 import (
    EMPTY_BODY_SHA256,
    Credentials,
    authorization,
    signed_get,
    signing_key,
)

# the accounts of AWS's own published examples
SUITE = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "us-east-1")
S3_DOCUMENTATION = Credentials(
    "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1"
)


@pytest.mark.parametrize(
    ("path", "query", "headers", "signature"),
    [
        ("/", "", {}, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        (
            "/",
            "Param2=value2&Param1=value1",
            {},
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        ("/%E1%88%B4", "", {}, "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
        (
            "/",
            "",
            {"My-Header1": "value2,value2,value1"},
            "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
        ),
    ],
)
def test_signatures_are_those_of_awss_test_suite(path, query, headers, signature):
    signed = {"Host": "example.amazonaws.com", "X-Amz-Date": "20150830T123600Z"} | headers
    names = ";".join(sorted(name.lower() for name in signed))
    assert authorization(SUITE, "service", "GET", path, query, signed, EMPTY_BODY_SHA256) == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        f"SignedHeaders={names}, Signature={signature}"
    )


def test_the_signing_key_is_that_of_awss_documentation():
    key = signing_key(SUITE, "20150830", "iam")
    assert key.hex() == "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"


def test_an_s3_get_with_a_range_is_signed_as_in_the_s3_documentation():
    headers = {
        "Host": "examplebucket.s3.amazonaws.com",
        "Range": "bytes=0-9",
        "x-amz-content-sha256": EMPTY_BODY_SHA256,
        "x-amz-date": "20130524T000000Z",
    }
    value = authorization(
        S3_DOCUMENTATION, "s3", "GET", "/test.txt", "", headers, EMPTY_BODY_SHA256
    )
    assert value.endswith(
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )


@pytest.mark.parametrize(
    ("query", "signature"),
    [
        ("lifecycle", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        (
            "max-keys=2&prefix=J",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
def test_a_signed_get_is_that_of_the_s3_documentation(query, signature):
    moment = datetime(2013, 5, 24, tzinfo=UTC)
    assert signed_get(S3_DOCUMENTATION, "examplebucket.s3.amazonaws.com", f"/?{query}", moment) == {
        "Host": "examplebucket.s3.amazonaws.com",
        "x-amz-content-sha256": EMPTY_BODY_SHA256,
        "x-amz-date": "20130524T000000Z",
        "Authorization": "AWS4-HMAC-SHA256 "
        "Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        "SignedHeaders=host;x-amz-content-sha256;x-amz-date, "
        f"Signature={signature}",
    }


def test_a_session_token_is_sent_and_signed():
    credentials = Credentials("A", "B", "eu-central-1", "session")
    headers = signed_get(credentials, "h:9000", "/m.mar", datetime(2026, 1, 2, tzinfo=UTC))
    assert headers["x-amz-security-token"] == "session"
    assert "x-amz-date;x-amz-security-token," in headers["Authorization"]


@pytest.mark.parametrize(
    "missing", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"]
)
def test_credentials_are_complete_or_none(missing):
    environ = {
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "region",
    }
    assert Credentials.of(environ) == Credentials("id", "secret", "region")
    assert Credentials.of(environ | {"AWS_SESSION_TOKEN": "t"}).session_token == "t"
    assert Credentials.of(environ | {missing: ""}) is None
    assert Credentials.of({k: v for k, v in environ.items() if k != missing}) is None


def test_secrets_are_not_printed():
    shown = repr(Credentials("id", "the-secret", "region", "the-session"))
    assert "the-secret" not in shown
    assert "the-session" not in shown
