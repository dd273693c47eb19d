"""How a model's workers are shut in, from what the operator and the archive say. Pure.

The archive may ask for less freedom than the server gives, and only with the operator's leave for
more. `sandbox.py` carries it out in the worker; docs/sandbox.md tells it to people.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath
from typing import Final

from marserve.config import Config
from marserve.registry.model_config import ModelConfig
from marserve.workers.messages import Confinement

OFF: Final = "off"
DEFAULT: Final = "default"
STRICT: Final = "strict"
_FROM_LOOSE_TO_TIGHT: Final = (OFF, DEFAULT, STRICT)


def mode_of(config: Config, yaml: ModelConfig) -> str:
    """The tighter of the two, or what the archive says where it may loosen."""
    if yaml.sandbox is None:
        return config.sandbox
    if config.sandbox_model_may_loosen:
        return yaml.sandbox
    return max(config.sandbox, yaml.sandbox, key=_FROM_LOOSE_TO_TIGHT.index)


def confinement(
    config: Config,
    yaml: ModelConfig,
    model_dir: PurePath,
    python_path: tuple[str, ...],
    torchrun_logs: PurePath | None = None,
) -> Confinement:
    """What holds for every worker of a version.

    Args:
        config: of the server.
        yaml: of the archive.
        model_dir: where the archive is unpacked.
        python_path: where packages are that the model brought.
        torchrun_logs: the worker is a launcher that writes here, and whose ranks talk over TCP.
    """
    mode = mode_of(config, yaml)
    if yaml.network is None or torchrun_logs is not None:
        has_network = mode != STRICT or torchrun_logs is not None
    else:
        has_network = yaml.network
    own = [config.metrics_config] if config.metrics_config else []
    return Confinement(
        mode=mode,
        model_dir=str(model_dir),
        writable=_texts(config.sandbox_writable),
        readable=[*_texts(config.sandbox_readable), *python_path, *_texts(own)],
        protected=_texts(_of_the_server(config)),
        has_network=has_network,
        made=[] if torchrun_logs is None else [str(torchrun_logs)],
    )


def _of_the_server(config: Config) -> list[PurePath]:
    folders = (
        config.log_dir,
        config.metrics_log_dir,
        config.cache_dir,
        config.model_store,
        config.workflow_store,
    )
    return [folder for folder in folders if folder is not None]


def _texts(paths: Iterable[PurePath]) -> list[str]:
    return [str(path) for path in paths]
