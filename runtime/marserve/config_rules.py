"""The rules that join several settings: which values can stand beside which. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any, NamedTuple

from marserve.addresses import Address
from marserve.config_models import LoadModels
from marserve.config_reading import Reading


class _Listener(NamedTuple):
    """A port that will be opened."""

    key: str
    address: Address
    is_http: bool

    def __str__(self) -> str:
        return f"{self.key}={self.address if self.is_http else self.address.port}"


def check_together(values: dict[str, Any], reading: Reading) -> None:
    """Add a mistake to `reading` for what cannot be, a warning for what surprises."""
    listeners = [one for one in _listeners(values) if one.key not in reading.unusable]
    for first, second in combinations(listeners, 2):
        _check_apart(first, second, reading)
    _check_open_management(values, reading)
    _check_token_for_metrics(values, reading)
    _check_certificate(values, listeners, reading)
    _check_signatures(values, reading)
    _settle_what_is_loaded(values, reading)


def _listeners(values: Mapping[str, Any]) -> list[_Listener]:
    keys = ["inference_address", "management_address"]
    keys += ["metrics_address"] if values["enable_metrics_api"] else []
    listeners = [_Listener(key, values[key], True) for key in keys]
    for port in ("inference", "management") if values["enable_grpc_api"] else ():
        key = f"grpc_{port}_port"
        listeners.append(
            _Listener(key, Address(values[f"grpc_{port}_address"], values[key]), False)
        )
    return listeners


def _check_apart(first: _Listener, second: _Listener, reading: Reading) -> None:
    if not first.address.collides_with(second.address):
        return
    if not (first.is_http and second.is_http):
        reading.complain(
            f"{first} and {second} are the same port: give each its own, or leave the gRPC ports "
            "closed with enable_grpc_api=false.",
            *(first.key, second.key),
        )
    elif first.address != second.address:
        reading.complain(
            f"{first} and {second} cannot both be opened: give each its own port, or both the "
            "same address to share one port.",
            *(first.key, second.key),
        )


def _check_open_management(values: Mapping[str, Any], reading: Reading) -> None:
    address = values["management_address"]
    if not address.is_loopback and values["disable_token_authorization"] is False:
        reading.warnings.append(
            f"management_address={address} is open beyond this machine and asks for no token: "
            "ANYONE WHO REACHES THIS PORT CAN LOAD CODE ON THIS MACHINE."
        )


def _check_token_for_metrics(values: Mapping[str, Any], reading: Reading) -> None:
    if values["token_for_metrics"] and values["disable_token_authorization"] is False:
        reading.complain(
            "token_for_metrics=true asks for a key, and disable_token_authorization=true says that "
            "there are none: leave one of them out.",
            "token_for_metrics",
        )


def _check_certificate(
    values: Mapping[str, Any], listeners: list[_Listener], reading: Reading
) -> None:
    if {"certificate_file", "private_key_file", "keystore"} & reading.unusable:
        return
    certificate, key = values["certificate_file"], values["private_key_file"]
    if (certificate is None) != (key is None):
        given, missing = ("certificate_file", "private_key_file")
        if certificate is None:
            given, missing = missing, given
        reading.complain(
            f"{given} is set without {missing}: set both, or a keystore in their place.", given
        )
        return
    secure = [one for one in listeners if one.address.is_tls]
    users = [str(one) for one in secure]
    users += ["enable_grpc_ssl=true"] if values["enable_grpc_ssl"] else []
    if users and certificate is None and values["keystore"] is None:
        reading.complain(
            f"{' and '.join(users)} asks for TLS, and there is no certificate: set "
            "certificate_file and private_key_file (PEM), or keystore and keystore_pass (PKCS#12).",
            *(one.key for one in secure),
            "enable_grpc_ssl",
        )


def _check_signatures(values: Mapping[str, Any], reading: Reading) -> None:
    if "trusted_keys" in reading.unusable:
        return
    if values["require_signed"] and not values["trusted_keys"]:
        reading.complain(
            "require_signed=true refuses every archive while trusted_keys names no key: set it to "
            "the folder of public keys.",
            "require_signed",
        )


def _settle_what_is_loaded(values: dict[str, Any], reading: Reading) -> None:
    """A snapshot says what is loaded, down to the last model, as it did in TorchServe."""
    loaded: LoadModels = values["load_models"]
    if values["model_snapshot"] is None or loaded == LoadModels():
        return
    values["load_models"] = LoadModels()
    reading.warnings.append(
        "load_models does not count, because model_snapshot says which models are loaded."
    )
