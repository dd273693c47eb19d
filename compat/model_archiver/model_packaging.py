"""`generate_model_archive`, as a function of a configuration or of the command line."""

from __future__ import annotations

import sys

from marserve_torchserve_commands import torch_model_archiver
from model_archiver.model_archiver import ModelArchiver
from model_archiver.model_archiver_config import ModelArchiverConfig
from model_archiver.model_archiver_error import ModelArchiverError

__all__ = ["ModelArchiverConfig", "ModelArchiverError", "generate_model_archive"]


def generate_model_archive(config: ModelArchiverConfig | None = None) -> None:
    """Write one archive. Without `config` the arguments of the process say which.

    Raises:
        ModelArchiverError: the archive that `config` describes cannot be written.
        SystemExit: the one of the command line cannot.
    """
    if config is not None:
        ModelArchiver.generate_model_archive(config)
        return
    code = torch_model_archiver()
    if code:
        sys.exit(code)
