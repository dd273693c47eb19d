"""Which port asks for which token, by the configuration. Owns the keys of this run."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from marserve.config import Config
from marserve.errors import ConfigInvalid, ShuttingDown
from marserve.servers.auth import KEY_FILE, Authorize, Scope, Tokens, is_enforced

_log = logging.getLogger("marserve.servers")
_SCOPES: Final = {
    "inference": Scope.INFERENCE,
    "management": Scope.MANAGEMENT,
    "grpc_inference": Scope.INFERENCE,
    "grpc_management": Scope.MANAGEMENT,
    "metrics": Scope.MANAGEMENT,
}
_BY_NAME: Final = {scope.value: scope for scope in Scope}


class PortTokens:
    """The tokens of all ports; none at all when they are switched off."""

    def __init__(
        self, config: Config, folder: Path, static: Mapping[Scope, str] | None = None
    ) -> None:
        """Draws the keys.

        Args:
            config: says where tokens are asked for.
            folder: gets the key file.
            static: keys that the operator has set.

        Raises:
            ConfigInvalid: a static key cannot be used.
        """
        self.notes: tuple[str, ...] = ()
        """What an operator should be told at the start."""
        self._renewing = threading.Lock()
        self._is_frozen = False
        """Whether a successor has been given the keys, or is about to be."""
        self._static = frozenset(static or ())
        self._reach = _reach(config)
        self._trust_client_headers = config.trust_client_headers
        self._enforced = frozenset(
            port
            for port, only_this_machine in self._reach.items()
            if is_enforced(
                config.token_authorization,
                # whoever reaches management can load code; a port for predictions is opened to
                # others in order to be used by them
                only_this_machine or _SCOPES[port] is Scope.INFERENCE,
            )
        )
        if config.token_for_metrics:
            self._enforced |= {"metrics"}
        self._tokens = (
            None
            if config.token_authorization is False
            else Tokens(
                folder / KEY_FILE,
                config.token_expiration_min * 60,
                static=static,
                errors_as_400=config.token_errors_as_400,
            )
        )

    def start(self) -> None:
        """Write the key file, if there is a key that nobody knows yet, and say where it is.

        Raises:
            ConfigInvalid: it cannot be written, and a port asks for a key that would stand in it.
        """
        if self._tokens is None or self._static == frozenset(Scope):
            return
        try:
            self._tokens.start()
        except ConfigInvalid as error:
            if any(_SCOPES[port] not in self._static for port in self._enforced):
                raise
            _log.warning("%s No port asks for a key that would stand in it.", error.message)
            return
        sentences = self._tokens.announcement(bool(self._enforced))
        for sentence in sentences:
            _log.info("%s", sentence)
        if self._enforced:
            self.notes = sentences

    def document(self) -> str:
        """What stands in the key file; empty where there are no keys."""
        return "" if self._tokens is None else self._tokens.document()

    def freeze(self, is_on: bool) -> None:
        """Renew no key while this is on: a successor goes on with those there are.

        Waits for a renewal that is under way.
        """
        with self._renewing:
            self._is_frozen = is_on

    def adopt(self, document: str) -> None:
        """Go on with the keys of the server before this one."""
        if self._tokens is not None and document:
            self._tokens.adopt(document)

    def stop(self) -> None:
        """Remove the key file."""
        if self._tokens is not None:
            self._tokens.stop()

    def authorize(self, port: str) -> Authorize | None:
        """What refuses requests without a token; None where the port asks for none.

        `port`: inference, management, metrics, grpc_inference or grpc_management.
        """
        if self._tokens is None or port not in self._enforced:
            return None
        return self._tokens.guard(_SCOPES[port])

    def trusts_clients(self, port: str) -> bool:
        """Whether to believe what clients of a port say of themselves and of their requests.

        Unless the operator says: where they have shown a token, or are on this machine.
        """
        if self._trust_client_headers is not None:
            return self._trust_client_headers
        return port in self._enforced or self._reach[port]

    @property
    def has_keys(self) -> bool:
        """Whether there are keys that could be renewed."""
        return self._tokens is not None

    def renew(self, name: str, authorization: str | None) -> None:
        """Draw a new key; `name` is the text of the parameter `type`.

        Raises:
            TokenMissing, TokenRefused, StateNotSaved: as `Tokens.renew` does.
            ShuttingDown: a successor is loading; the keys are as before.
        """
        assert self._tokens is not None
        with self._renewing:
            if self._is_frozen:
                raise ShuttingDown(
                    "The server is being restarted and renews no keys. Try again soon."
                )
            self._tokens.renew(_BY_NAME.get(name), authorization)


def static_keys(config: Config) -> dict[Scope, str]:
    """The keys that the operator has set."""
    keys = {Scope.INFERENCE: config.inference_token, Scope.MANAGEMENT: config.management_token}
    return {scope: key for scope, key in keys.items() if key}


def _reach(config: Config) -> dict[str, bool]:
    """Whether only this machine can connect, by port."""
    ports = {
        "inference": config.inference.is_loopback,
        "management": config.management.is_loopback,
    }
    if config.enable_grpc_api:
        ports["grpc_inference"] = ip_address(config.grpc_inference_host).is_loopback
        ports["grpc_management"] = ip_address(config.grpc_management_host).is_loopback
    return ports
