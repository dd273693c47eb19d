"""Where the environments of the peers are."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

VARIABLE = "MARSERVE_PEERS"
DEFAULT = Path.home() / ".cache" / "marserve-peers"


def add_option(parser: argparse.ArgumentParser, name: str = "--peers") -> None:
    """Let the caller of a script say where; the environment variable is the default."""
    parser.add_argument(
        name,
        type=Path,
        default=Path(os.environ.get(VARIABLE, DEFAULT)),
        metavar="DIR",
        help=f"where the peers are installed (default: ${VARIABLE} or {DEFAULT})",
    )
