"""What a handler's environment variables say about its server and its model. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath

from marserve.config import Config
from marserve.workers.messages import Load


def worker_environ(config: Config, environ: Mapping[str, str]) -> dict[str, str]:
    """The server's environment, less what `blacklist_env_vars` hides, plus what handlers look for.

    Args:
        config: of the server.
        environ: of the server.
    """
    hidden: re.Pattern[str] | None = config.blacklist_env_vars
    shown = {k: v for k, v in environ.items() if hidden is None or not hidden.fullmatch(k)}
    return shown | {
        "TS_DECODE_INPUT_REQUEST": _flag(config.decode_input_request),
        "TS_IPEX_ENABLE": _flag(config.ipex_enable),
        "TS_IPEX_GPU_ENABLE": _flag(config.ipex_gpu_enable),
        "TS_REQUEST_SEQUENCE_ID": config.header_key_sequence_id,
        "TS_REQUEST_SEQUENCE_START": config.header_key_sequence_start,
        "TS_REQUEST_SEQUENCE_END": config.header_key_sequence_end,
    }


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
