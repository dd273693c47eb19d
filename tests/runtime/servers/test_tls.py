import datetime
import logging
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12
from scripted_http import Certificates

from marserve.errors import ConfigInvalid
from marserve.servers.tls import Tls, TlsFiles

PAST = datetime.timedelta(days=-1)


@pytest.fixture(scope="module")
def certificates():
    return Certificates()


@pytest.fixture
def pem(certificates, tmp_path) -> TlsFiles:
    return TlsFiles(*certificates.write(tmp_path, "server.test"))


def keystore(certificates, path, password: bytes | None = b"changeit") -> TlsFiles:
    certificate, key = certificates.issue("server.test")
    encryption = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    path.write_bytes(
        pkcs12.serialize_key_and_certificates(b"x", key, certificate, None, encryption)
    )
    return TlsFiles(keystore=path)


def shake_hands(tls: Tls, client: ssl.SSLContext) -> tuple[int, str | None]:
    """The serial number that the client sees, and the TLS version; over a real socket."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            with tls.context.wrap_socket(ours, server_side=True) as secure:
                secure.recv(1)
        except OSError:
            ours.close()

    serving = threading.Thread(target=serve)
    serving.start()
    try:
        with client.wrap_socket(theirs, server_hostname="server.test") as secure:
            certificate = secure.getpeercert()
            return int(certificate["serialNumber"], 16), secure.version()
    finally:
        theirs.close()
        serving.join()


def refusal(files: TlsFiles) -> str:
    with pytest.raises(ConfigInvalid) as caught:
        Tls(files)
    return str(caught.value)


# --- what works ------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_pem_files_serve_both_versions_of_tls(version, pem, certificates):
    client = certificates.client_context()
    client.minimum_version = client.maximum_version = version
    tls = Tls(pem)
    assert shake_hands(tls, client)[1] == version.name.replace("_", ".")
    assert tls.warnings == ()


def test_older_versions_are_refused(pem, certificates):
    client = certificates.client_context()
    client.set_ciphers("ALL:@SECLEVEL=0")
    # asking for them is what is deprecated
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        client.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        client.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        shake_hands(Tls(pem), client)


def test_a_keystore_of_java_serves(certificates, tmp_path):
    tls = Tls(keystore(certificates, tmp_path / "server.p12"))
    shake_hands(tls, certificates.client_context())
    assert tls.certificate_chain_pem.startswith(b"-----BEGIN CERTIFICATE-----")
    assert tls.private_key_pem.startswith(b"-----BEGIN PRIVATE KEY-----")


def test_a_keystore_may_be_without_a_password(certificates, tmp_path):
    path = keystore(certificates, tmp_path / "server.p12", None).keystore
    tls = Tls(TlsFiles(keystore=path, keystore_pass=""))
    shake_hands(tls, certificates.client_context())


@pytest.mark.parametrize(
    "arguments",
    [
        ["genrsa", "-traditional", "2048"],
        ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        ["ecparam", "-genkey", "-name", "prime256v1", "-noout"],
        ["genpkey", "-algorithm", "ed25519"],
    ],
    ids=["PKCS#1", "PKCS#8", "SEC1", "Ed25519"],
)
def test_every_usual_form_of_key_is_read(arguments, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    key.write_bytes(subprocess.run(["openssl", *arguments], capture_output=True, check=True).stdout)
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-new", "-key", key, "-out", certificate, "-days", "1"),
            *("-subj", "/CN=server.test", "-addext", "subjectAltName=DNS:server.test"),
        ],
        check=True,
        capture_output=True,
    )
    client = ssl.create_default_context(cafile=certificate)
    tls = Tls(TlsFiles(certificate, key))
    shake_hands(tls, client)
    assert (tls.private_key_pem, tls.warnings) == (key.read_bytes(), ())


def test_pem_files_win_over_a_keystore(pem, tmp_path):
    files = TlsFiles(pem.certificate_file, pem.private_key_file, tmp_path / "gone.p12")
    assert Tls(files).private_key_pem == pem.private_key_file.read_bytes()


def test_secrets_are_not_printed(pem):
    assert "PRIVATE" not in repr(vars(Tls(pem)))
    assert "swordfish" not in repr(TlsFiles(keystore_pass="swordfish"))


# --- what does not ---------------------------------------------------------------------------


@pytest.mark.parametrize("half", ["certificate_file", "private_key_file", None])
def test_without_a_certificate_none_is_made_up(half, tmp_path):
    files = TlsFiles(**({half: tmp_path / "x.pem"} if half else {}))
    assert refusal(files).startswith(
        "An https address needs a certificate: set certificate_file and private_key_file (PEM), "
        "or keystore and keystore_pass (PKCS12)."
    )


def test_a_missing_file_is_named(pem, tmp_path):
    pem.private_key_file.unlink()
    assert refusal(pem) == f"{pem.private_key_file} cannot be read: No such file or directory."


def test_a_key_of_another_certificate_is_told(pem, certificates, tmp_path):
    (tmp_path / "other").mkdir()
    _, other = certificates.write(tmp_path / "other", "server.test")
    assert "do not belong together" in refusal(TlsFiles(pem.certificate_file, other))


def test_swapped_files_are_told(pem):
    message = refusal(TlsFiles(pem.private_key_file, pem.certificate_file))
    assert message.startswith(f"certificate_file={pem.private_key_file} holds no certificate")


def test_an_encrypted_key_is_told_with_the_remedy(pem, tmp_path):
    encrypted = tmp_path / "encrypted.pem"
    command = ["openssl", "pkey", "-in", pem.private_key_file, "-out", encrypted]
    subprocess.run([*command, "-aes256", "-passout", "pass:x"], check=True)
    message = refusal(TlsFiles(pem.certificate_file, encrypted))
    assert "is encrypted" in message
    assert f"openssl pkey -in {encrypted}" in message


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "holds no certificate in PEM form"),
        (b"\x30\x82", "openssl x509 -inform der"),
        (b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n", "cannot be used"),
        (b"x" * (1 << 20) + b"y", "too large"),
    ],
)
def test_a_broken_certificate_is_told(content, reason, pem):
    pem.certificate_file.write_bytes(content)
    assert reason in refusal(pem)


def test_a_broken_key_is_told(pem):
    text = b"-----BEGIN PRIVATE KEY-----\nnonsense\n-----END PRIVATE KEY-----\n"
    pem.private_key_file.write_bytes(text)
    assert "cannot be used for TLS" in refusal(pem)


@pytest.mark.parametrize("mark", [b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce"])
def test_a_java_keystore_is_refused_with_the_command_that_converts_it(mark, tmp_path):
    path = tmp_path / "server.jks"
    path.write_bytes(mark + b"rest")
    message = refusal(TlsFiles(keystore=path))
    assert f"keytool -importkeystore -srckeystore {path} -destkeystore server.p12" in message


def test_a_wrong_password_is_told_and_not_shown(certificates, tmp_path):
    path = keystore(certificates, tmp_path / "server.p12").keystore
    message = refusal(TlsFiles(keystore=path, keystore_pass="swordfish"))
    assert message == (
        f"keystore={path} cannot be opened: keystore_pass is wrong, or it is no PKCS12 file."
    )


def test_a_keystore_without_a_key_is_told(certificates, tmp_path):
    certificate, _ = certificates.issue("server.test")
    path = tmp_path / "trust.p12"
    path.write_bytes(
        pkcs12.serialize_key_and_certificates(
            b"x", None, certificate, None, serialization.BestAvailableEncryption(b"changeit")
        )
    )
    assert "holds no private key with its certificate" in refusal(TlsFiles(keystore=path))


def test_without_the_package_that_reads_keystores_it_is_named(certificates, tmp_path, monkeypatch):
    files = keystore(certificates, tmp_path / "server.p12")
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    assert "pip install 'marserve[tls]'" in refusal(files)


def test_an_expired_certificate_is_a_warning(certificates, tmp_path):
    files = TlsFiles(*certificates.write(tmp_path, "server.test", lifetime=PAST))
    assert Tls(files).warnings == (
        f"The certificate in {files.certificate_file} has expired; clients will refuse it.",
    )


# --- reloading -------------------------------------------------------------------------------


def test_a_renewed_certificate_is_used_without_a_restart(pem, certificates, tmp_path):
    tls, client = Tls(pem), certificates.client_context()
    context, before = tls.context, shake_hands(tls, client)
    assert tls.reload_if_changed() is False
    certificates.write(tmp_path, "server.test")
    assert tls.reload_if_changed() is True
    assert tls.context is context
    assert shake_hands(tls, client) != before
    assert tls.private_key_pem == pem.private_key_file.read_bytes()
    assert tls.reload_if_changed() is False


def test_a_renewal_in_two_steps_is_used_after_the_second(pem, certificates, tmp_path, caplog):
    tls, client = Tls(pem), certificates.client_context()
    before = shake_hands(tls, client)
    (tmp_path / "new").mkdir()
    certificate, key = certificates.write(tmp_path / "new", "server.test")
    certificate.replace(pem.certificate_file)
    with caplog.at_level(logging.WARNING):
        assert [tls.reload_if_changed(), tls.reload_if_changed()] == [False, False]
    assert [record.message for record in caplog.records] == [
        f"The certificate in use stays: {pem.certificate_file} and {pem.private_key_file} "
        "do not belong together: the key is not the certificate's."
    ]
    assert shake_hands(tls, client) == before
    key.replace(pem.private_key_file)
    assert tls.reload_if_changed() is True
    assert shake_hands(tls, client) != before


def test_a_certificate_that_vanishes_stays_in_use(pem, certificates):
    tls = Tls(pem)
    pem.certificate_file.unlink()
    assert tls.reload_if_changed() is False
    shake_hands(tls, certificates.client_context())


def test_no_descriptor_is_left_open(pem):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        Tls(pem)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
