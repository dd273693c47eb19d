"""What a handler's environment variables say about its server and its model. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Final

from marserve.config import Config
from marserve.workers.messages import Load

_SECRET_PARTS: Final = ("SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "APIKEY")
_SECRET_WORDS: Final = frozenset({"TOKEN", "PAT", "JWT", "PASS", "PWD", "AUTH", "DSN"})
_SECRET_AT_THE_END: Final = frozenset({"KEY", "KEYS"})
_SECRET_NAMES: Final = frozenset({"KUBECONFIG", "DATABASE_URL", "REDIS_URL", "MONGO_URL", "NETRC"})
_OF_CLOUDS: Final = ("AWS_", "AZURE_", "ARM_CLIENT_")
_HARMLESS: Final = frozenset({"PWD", "OLDPWD", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE"})
_HARMLESS_BEGINNINGS: Final = ("AWS_NEURON_", "AWS_ENDPOINT_URL", "AWS_EC2_METADATA_")
HIDDEN: Final = "MARSERVE_HIDDEN_VARIABLES"
"""Tells a worker the names of what is hidden from it."""


def worker_environ(config: Config, environ: Mapping[str, str]) -> dict[str, str]:
    """The server's environment, less what is `hidden_from_workers`, plus what handlers look for.

    Args:
        config: of the server.
        environ: of the server.
    """
    hidden = hidden_from_workers(config, environ)
    shown = {name: value for name, value in environ.items() if name not in hidden}
    shown.pop(HIDDEN, None)  # of another server, in a worker of which this one runs
    if hidden:
        shown[HIDDEN] = ",".join(sorted(hidden))
    return shown | {
        "TS_DECODE_INPUT_REQUEST": _flag(config.decode_input_request),
        "TS_IPEX_ENABLE": _flag(config.ipex_enable),
        "TS_IPEX_GPU_ENABLE": _flag(config.ipex_gpu_enable),
        "TS_REQUEST_SEQUENCE_ID": config.header_key_sequence_id,
        "TS_REQUEST_SEQUENCE_START": config.header_key_sequence_start,
        "TS_REQUEST_SEQUENCE_END": config.header_key_sequence_end,
    }


def hidden_from_workers(config: Config, environ: Mapping[str, str]) -> frozenset[str]:
    """What workers must not see: secrets by their names, and what `blacklist_env_vars` says."""
    blacklist: re.Pattern[str] | None = config.blacklist_env_vars
    return frozenset(
        name
        for name in environ
        if (blacklist is not None and blacklist.fullmatch(name))
        or (looks_secret(name) and not _is_allowed(name, config.worker_env_allow))
    )


def looks_secret(name: str) -> bool:
    """Whether a variable of this name commonly holds a secret."""
    upper = name.upper()
    if upper in _HARMLESS or upper.startswith(_HARMLESS_BEGINNINGS):
        return False
    words = upper.split("_")
    return (
        upper.startswith(_OF_CLOUDS)
        or upper in _SECRET_NAMES
        or any(part in upper for part in _SECRET_PARTS)
        or any(word in _SECRET_WORDS for word in words)
        or (len(words) > 1 and words[-1] in _SECRET_AT_THE_END)
    )


def _is_allowed(name: str, allowed: Sequence[str]) -> bool:
    return any(
        name.startswith(entry[:-1]) if entry.endswith("*") else name == entry for entry in allowed
    )


def remedy(environ: Mapping[str, str]) -> str:
    """What may help where a handler failed for want of a variable; "" where none is hidden."""
    hidden = environ.get(HIDDEN, "")
    if not hidden:
        return ""
    names = hidden.replace(",", ", ")
    return f"Hidden from this worker: {names}. Pass what it needs: worker_env_allow."


def handler_environ(load: Load, environ: Mapping[str, str]) -> dict[str, str]:
    """What a worker sets before it imports the handler of the model it is to `load`.

    PYTHONPATH lets what a handler starts import what the handler can: the folder of a handler
    that is given with its function, the model's packages, what was there, the model's folder.
    """
    model_dir = PurePath(load.model_dir)
    file, colon, _ = load.handler.rpartition(":")
    folders = [str((model_dir / file).parent)] if colon else []
    inherited = environ.get("PYTHONPATH", "").split(":")
    folders += [*load.python_path, *inherited, str(model_dir)]
    path = ":".join(dict.fromkeys(folder for folder in folders if folder))
    return load.environ | {"PYTHONPATH": path}


def _flag(is_set: bool) -> str:
    return "true" if is_set else "false"
