"""`generate_workflow_archive`, as a function of the command line."""

from __future__ import annotations

import sys

from marserve_torchserve_commands import torch_workflow_archiver

__all__ = ["generate_workflow_archive"]


def generate_workflow_archive() -> None:
    """Write the archive that the arguments of the process describe.

    Raises:
        SystemExit: it cannot be written.
    """
    code = torch_workflow_archiver()
    if code:
        sys.exit(code)
