"""What an archive is made of."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Self


@dataclass
class ModelArchiverConfig:
    """The flags of `torch-model-archiver` as values; paths are texts."""

    model_name: str
    handler: str
    version: str
    serialized_file: str | None = None
    model_file: str | None = None
    extra_files: str | None = None
    """Separated by commas; wildcards and directories are possible."""
    runtime: str = "python"
    export_path: str = field(default_factory=lambda: str(Path.cwd()))
    archive_format: str = "default"
    """default, zip-store, tgz or no-archive."""
    force: bool = False
    requirements_file: str | None = None
    config_file: str | None = None

    @classmethod
    def from_args(cls, args: argparse.Namespace) -> Self:
        """The values of parsed arguments; those that are not there have their default."""
        names = [one.name for one in fields(cls)]
        return cls(**{name: getattr(args, name) for name in names if hasattr(args, name)})
