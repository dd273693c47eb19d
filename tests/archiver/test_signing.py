"""Detached signatures: what is signed, by whom, and all the ways in which one is none."""

import json
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve_archiver import cli, open_archive
from marserve_archiver.errors import ArchiveError, ArchiveExists, InputInvalid, NotTrusted
from marserve_archiver.signature import Signature, dump, parse
from marserve_archiver.signing import SignatureCheck, make_key, sign, signature_path, trusted_keys

FIXTURES = Path(__file__).parent.parent / "fixtures" / "archives"
MADE_AT = "2026-05-01T10:00:00Z"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_key(tmp_path / "release.pem")
    shutil.copy(FIXTURES / "infozip.mar", tmp_path / "m.mar")
    shutil.copy(FIXTURES / "gnutar.tar.gz", tmp_path / "m.tar.gz")
    return tmp_path


def checked(archive: Path, key: Path) -> str:
    """ "fine", or the reason why the archive is refused."""
    check = SignatureCheck(signature_path(archive), trusted_keys((key,)))
    try:
        open_archive(archive, check=check).close()
    except ArchiveError as error:
        return error.reason
    return "fine"


@pytest.mark.parametrize("name", ["m.mar", "m.tar.gz"])
def test_a_signed_archive_is_accepted_with_its_key_and_with_no_other(name, folder):
    sign(folder / name, folder / "release.pem", MADE_AT)
    make_key(folder / "other.pem")

    assert checked(folder / name, folder / "release.pub.pem") == "fine"
    assert checked(folder / name, folder / "other.pub.pem") == "unknown-key"


def test_a_changed_archive_is_refused_before_it_is_understood(folder):
    sign(folder / "m.mar", folder / "release.pem", MADE_AT)
    (folder / "m.mar").write_bytes(b"no archive at all")

    assert checked(folder / "m.mar", folder / "release.pub.pem") == "other-archive"


def test_an_archive_without_signature_is_refused(folder):
    assert checked(folder / "m.mar", folder / "release.pub.pem") == "no-signature"


def test_a_signature_is_for_one_archive_only(folder):
    sign(folder / "m.mar", folder / "release.pem", MADE_AT)
    shutil.copy(folder / "m.mar.sig", folder / "m.tar.gz.sig")

    assert checked(folder / "m.tar.gz", folder / "release.pub.pem") == "other-archive"


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("format", 2, "bad-signature"),
        ("algorithm", "rsa", "bad-signature"),
        ("key_id", "0" * 64, "unknown-key"),
        ("key_id", "F" * 64, "bad-signature"),
        ("key_id", 7, "bad-signature"),
        ("sha256", "0" * 64, "bad-signature"),
        ("made_at", "2020-01-01T00:00:00Z", "bad-signature"),
        ("made_at", "yesterday", "bad-signature"),
        ("signature", "AAAA", "bad-signature"),
        ("signature", "A" * 85 + "B==", "bad-signature"),
        ("signature", "é", "bad-signature"),
        ("signature", None, "bad-signature"),
    ],
)
def test_no_field_of_a_signature_can_be_changed(field, value, reason, folder):
    path = sign(folder / "m.mar", folder / "release.pem", MADE_AT)
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))

    assert checked(folder / "m.mar", folder / "release.pub.pem") == reason


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"format": 1, "format": 1}'])
def test_a_damaged_signature_file_is_one_sentence(content):
    with pytest.raises(NotTrusted, match=r"^The signature file cannot be used: .*\.$"):
        parse(content)


@given(st.binary(max_size=200), st.integers(0, 10_000))
def test_no_signature_file_is_an_accident(content, at):
    good = dump(Signature("a" * 64, "b" * 64, MADE_AT, bytes(64)))
    assert parse(good) == Signature("a" * 64, "b" * 64, MADE_AT, bytes(64))
    at %= len(good)
    for bad in (content, good[:at], good[:at] + content + good[at + 1 :], good + b" " * 4096):
        with suppress(NotTrusted):
            parse(bad)


def test_keys_are_private_and_never_replaced(folder):
    assert (folder / "release.pem").stat().st_mode & 0o777 == 0o600
    secret = (folder / "release.pem").read_bytes()
    with pytest.raises(ArchiveExists):
        make_key(folder / "release.pem")
    assert (folder / "release.pem").read_bytes() == secret


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no key", "is no public key in PEM"),
        ((FIXTURES / "infozip.mar").read_bytes(), "is no public key in PEM"),
    ],
)
def test_a_file_that_is_no_key_is_named(content, message, folder):
    (folder / "bad.pem").write_bytes(content)
    with pytest.raises(InputInvalid, match=message):
        trusted_keys((folder / "bad.pem",))


def test_a_private_key_is_not_trusted_as_a_public_one(folder):
    with pytest.raises(InputInvalid, match="is a private key"):
        trusted_keys((folder / "release.pem",))


def test_a_key_of_another_kind_is_refused(folder):
    for kind, options in (("RSA", "rsa_keygen_bits:1024"), ("EC", "ec_paramgen_curve:P-256")):
        genpkey = ["openssl", "genpkey", "-algorithm", kind, "-pkeyopt", options]
        subprocess.run([*genpkey, "-out", "k.pem"], check=True, capture_output=True)
        public = ["openssl", "pkey", "-in", "k.pem", "-pubout", "-out", "k.pub.pem"]
        subprocess.run(public, check=True, capture_output=True)
        with pytest.raises(InputInvalid, match="another kind than Ed25519"):
            trusted_keys((folder / "k.pub.pem",))
        with pytest.raises(InputInvalid, match="another kind than Ed25519"):
            sign(folder / "m.mar", folder / "k.pem", MADE_AT)


def test_keys_of_openssl_sign_and_openssl_agrees_about_the_signature(folder):
    run = {"check": True, "capture_output": True}
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", "ssl.pem"], **run)
    subprocess.run(["openssl", "pkey", "-in", "ssl.pem", "-pubout", "-out", "ssl.pub.pem"], **run)
    signature = parse(sign(folder / "m.mar", folder / "ssl.pem", MADE_AT).read_bytes())

    assert checked(folder / "m.mar", folder / "ssl.pub.pem") == "fine"
    Path("message").write_bytes(signature.message())
    Path("signature").write_bytes(signature.signature)
    verify = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "ssl.pub.pem", "-rawin"]
    subprocess.run([*verify, "-in", "message", "-sigfile", "signature"], **run)


def test_a_folder_cannot_be_signed_and_a_broken_archive_is_not(folder):
    (folder / "model").mkdir()
    with pytest.raises(InputInvalid, match="is a folder; pack it"):
        sign(folder / "model", folder / "release.pem", MADE_AT)
    (folder / "m.mar").write_bytes(b"PK")
    with pytest.raises(ArchiveError):
        sign(folder / "m.mar", folder / "release.pem", MADE_AT)
    assert not (folder / "m.mar.sig").exists()


def test_the_commands_sign_and_verify(folder, capsys):
    assert cli.main(["keygen", "k.pem"]) == 0
    assert cli.main(["sign", "--key", "k.pem", "m.mar"]) == 0
    assert cli.main(["verify", "--key", "k.pub.pem", "m.mar"]) == 0
    out = capsys.readouterr().out
    assert "m.mar.sig\n" in out
    assert "\nsigned with " in out

    assert cli.main(["verify", "--key", "release.pub.pem", "m.mar"]) == 5
    assert "not among the 1 trusted keys" in capsys.readouterr().out
    assert cli.main(["verify", "--key", "gone.pem", "m.mar"]) == 3
    assert cli.main(["verify", "--signature", "m.mar.sig", "m.mar"]) == 2
    Path("m.mar.sig").rename("elsewhere.sig")
    command = ["verify", "--key", "k.pub.pem", "--signature", "elsewhere.sig", "m.mar"]
    assert cli.main(command) == 0
