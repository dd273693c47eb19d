"""Writes the archive that a ModelArchiverConfig describes."""

from __future__ import annotations

import logging
from pathlib import Path

from marserve_archiver import errors
from marserve_archiver.collect import Recipe
from marserve_archiver.packing import ARCHIVE_FORMATS, ArchiveFormat, pack
from model_archiver.model_archiver_config import ModelArchiverConfig
from model_archiver.model_archiver_error import InputMissing, ModelArchiverError

_log = logging.getLogger("model_archiver")


class ModelArchiver:
    """A name to import."""

    @staticmethod
    def generate_model_archive(config: ModelArchiverConfig) -> None:
        """Write the archive into the folder `config.export_path`.

        Raises:
            InputMissing: a file that `config` names does not exist.
            ModelArchiverError: the archive cannot be written as it is described.
        """
        recipe = Recipe(
            model_name=config.model_name,
            version=str(config.version),
            handler=config.handler,
            model_file=_path(config.model_file),
            serialized_file=_path(config.serialized_file),
            extra_files=tuple(filter(None, map(str.strip, (config.extra_files or "").split(",")))),
            requirements_file=_path(config.requirements_file),
            config_file=_path(config.config_file),
            runtime=config.runtime,
        )
        try:
            pack(
                recipe,
                Path(config.export_path),
                _format(config.archive_format),
                force=config.force,
                on_note=lambda note: _log.warning("%s", note),
            )
        except errors.InputMissing as error:
            raise InputMissing(str(error)) from error
        except errors.ArchiveError as error:
            raise ModelArchiverError(str(error)) from error


def _format(name: str) -> ArchiveFormat:
    for archive_format in ARCHIVE_FORMATS:
        if name == archive_format:
            return archive_format
    raise ModelArchiverError(
        f"There is no archive format {name!r}: choose one of {', '.join(ARCHIVE_FORMATS)}."
    )


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
