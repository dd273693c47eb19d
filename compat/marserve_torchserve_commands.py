"""The commands of TorchServe under their old names: each hands its arguments to MarServe's own."""

from __future__ import annotations

import sys

from marserve import torchserve_cli
from marserve_archiver import cli as archiver

_KEPT_CODES = (0, 2, 130)
"""Done, wrong usage, interrupted; of everything else TorchServe's archivers said only 1."""


def torchserve() -> int:
    """`torchserve`: start, stop, version. The exit code."""
    return torchserve_cli.main(prog="torchserve")


def torch_model_archiver() -> int:
    """`torch-model-archiver`: pack a model. The exit code."""
    return _archived(["pack", *sys.argv[1:]])


def torch_workflow_archiver() -> int:
    """`torch-workflow-archiver`: pack a workflow. The exit code."""
    return _archived(["workflow", *sys.argv[1:]])


def _archived(arguments: list[str]) -> int:
    code = archiver.main(arguments)
    return code if code in _KEPT_CODES else 1
