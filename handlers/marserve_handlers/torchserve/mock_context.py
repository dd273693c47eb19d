"""The stand-in for a worker's context that tests of TorchServe handlers are written with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from marserve_handlers.contract import Context
from marserve_handlers.model_files import get_yaml_config


class MockContext(Context):
    """A context for one request without headers, outside any server.

    Args:
        model_pt_file: the weights' file name in `model_dir`, or None.
        model_dir: where the model's files are.
        model_file: the model file's name, or None.
        gpu_id: the device's number; a process without a GPU uses the CPU.
        model_name: the name of the model.
        model_yaml_config_file: a YAML file in `model_dir`, or None.
    """

    def __init__(
        self,
        model_pt_file: str | None = "model.pt",
        model_dir: str | Path = ".",
        model_file: str | None = "model.py",
        gpu_id: int | str | None = "0",
        model_name: str = "mnist",
        model_yaml_config_file: str | None = None,
    ) -> None:
        model = {"modelName": model_name}
        if model_pt_file:
            model["serializedFile"] = str(model_pt_file)
        if model_file:
            model["modelFile"] = str(model_file)
        settings = (
            get_yaml_config(Path(model_dir) / model_yaml_config_file)
            if model_yaml_config_file
            else None
        )
        super().__init__(
            model_name=model_name,
            manifest={"model": model},
            model_dir=str(model_dir),
            batch_size=1,
            gpu=None if gpu_id is None else int(gpu_id),
            model_yaml_config=settings,
        )
        self._explain: bool | str = False
        self.begin_batch(["0"], [{}])

    @property
    def explain(self) -> bool | str:
        """Whether the request asks for an explanation: what the header `explain` says."""
        return self._explain

    @explain.setter
    def explain(self, wanted: bool | str) -> None:
        self._explain = wanted
        self.get_all_request_header(0)["explain"] = str(wanted)

    def get_request_header(self, idx: int, exp: str) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """A header of the request; None if absent."""
        return super().get_request_header(idx, exp)
