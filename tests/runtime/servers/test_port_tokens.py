import json
import logging
from pathlib import Path

import pytest

from marserve.config import Config, load
from marserve.errors import ConfigInvalid, ShuttingDown, TokenMissing, TokenRefused
from marserve.servers.auth import Scope
from marserve.servers.port_tokens import PortTokens

PORTS = ("inference", "management", "grpc_inference", "grpc_management")
OPEN = "inference_address=http://0.0.0.0:8080\n"
OPEN_MANAGEMENT = "management_address=http://0.0.0.0:8081\n"
STATIC = "a-static-key-of-an-operator"


def config(text: str) -> Config:
    overrides = dict(line.split("=") for line in text.splitlines())
    return load(None, overrides, {}, Path("/nowhere")).config


def asking(tokens: PortTokens) -> list[str]:
    return [port for port in PORTS if tokens.authorize(port) is not None]


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("", []),
        ("disable_token_authorization=true\n" + OPEN, []),
        ("disable_token_authorization=false\n", list(PORTS)),
        ("disable_token_authorization=false\nenable_grpc_api=false\n", list(PORTS[:2])),
        (OPEN, []),
        (OPEN_MANAGEMENT, ["management"]),
        ("grpc_inference_address=0.0.0.0\n", []),
        ("grpc_management_address=::\n", ["grpc_management"]),
        ("inference_address=unix:/tmp/x.sock\n", []),
    ],
)
def test_the_configuration_says_which_ports_ask(text, ports, tmp_path):
    assert asking(PortTokens(config(text), tmp_path)) == ports


def test_each_port_takes_the_key_of_its_scope(tmp_path):
    tokens = PortTokens(config("disable_token_authorization=false\n"), tmp_path)
    tokens.start()
    keys = json.loads((tmp_path / "key_file.json").read_text())
    for port in PORTS:
        scope = port.removeprefix("grpc_")
        other = "management" if scope == "inference" else "inference"
        authorize = tokens.authorize(port)
        authorize(f"Bearer {keys[scope]['key']}")
        with pytest.raises(TokenRefused):
            authorize(f"Bearer {keys[other]['key']}")
        with pytest.raises(TokenMissing):
            authorize(None)
    tokens.stop()
    assert list(tmp_path.iterdir()) == []


def test_a_type_that_does_not_exist_is_not_renewed(tmp_path):
    tokens = PortTokens(config(""), tmp_path)
    tokens.start()
    api = json.loads((tmp_path / "key_file.json").read_text())["API"]["key"]
    tokens.renew("inference", f"Bearer {api}")
    with pytest.raises(TokenRefused, match="The type must be"):
        tokens.renew("API", f"Bearer {api}")


def test_switched_off_there_are_no_keys(tmp_path):
    tokens = PortTokens(config("disable_token_authorization=true\n"), tmp_path)
    tokens.start()
    tokens.stop()
    assert not tokens.has_keys
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("static", "is_fatal"),
    [({}, True), ({Scope.INFERENCE: STATIC}, True), ({Scope.MANAGEMENT: STATIC}, False)],
)
def test_only_a_port_that_needs_the_key_file_makes_it_a_must(static, is_fatal, tmp_path, caplog):
    tokens = PortTokens(config(OPEN_MANAGEMENT), tmp_path / "gone", static)
    if is_fatal:
        with pytest.raises(ConfigInvalid):
            tokens.start()
        return
    with caplog.at_level(logging.WARNING):
        tokens.start()
    assert "cannot be written" in caplog.text


def test_with_keys_of_the_operator_alone_there_is_no_key_file(tmp_path):
    tokens = PortTokens(config(OPEN_MANAGEMENT), tmp_path, dict.fromkeys(Scope, STATIC))
    tokens.start()
    assert list(tmp_path.iterdir()) == []
    tokens.authorize("management")(f"Bearer {STATIC}")


@pytest.mark.parametrize(
    ("text", "trusted"),
    [
        ("", ["inference", "grpc_inference"]),
        (OPEN, ["grpc_inference"]),
        ("grpc_inference_address=0.0.0.0\n", ["inference"]),
        (OPEN + "disable_token_authorization=false\n", ["inference", "grpc_inference"]),
        (OPEN + "trust_client_headers=true\n", ["inference", "grpc_inference"]),
        ("trust_client_headers=false\n", []),
    ],
)
def test_clients_are_believed_that_have_a_token_or_are_on_this_machine(text, trusted, tmp_path):
    tokens = PortTokens(config(text), tmp_path)
    ports = ("inference", "grpc_inference")
    assert [port for port in ports if tokens.trusts_clients(port)] == trusted


def test_no_key_is_renewed_behind_the_back_of_a_successor(tmp_path):
    tokens = PortTokens(config("disable_token_authorization=false\n"), tmp_path)
    tokens.start()
    api = json.loads((tmp_path / "key_file.json").read_text())["API"]["key"]
    tokens.freeze(True)
    offered = tokens.document()
    with pytest.raises(ShuttingDown, match="being restarted"):
        tokens.renew("management", f"Bearer {api}")
    assert tokens.document() == offered

    tokens.freeze(False)  # it has failed
    tokens.renew("management", f"Bearer {api}")
    assert tokens.document() != offered
