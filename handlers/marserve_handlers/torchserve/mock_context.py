"""The stand-in for a worker's context that tests of TorchServe handlers are written with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from marserve_handlers.contract import Context


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
        model_file: str | None = None,
        gpu_id: int | str | None = None,
        model_name: str = "mnist",
        model_yaml_config_file: str | None = None,
    ) -> None:
        model = {"modelName": model_name}
        if model_pt_file:
            model["serializedFile"] = str(model_pt_file)
        if model_file:
            model["modelFile"] = str(model_file)
        super().__init__(
            model_name=model_name,
            manifest={"model": model},
            model_dir=str(model_dir),
            batch_size=1,
            gpu_id=None if gpu_id is None else int(gpu_id),
            model_yaml_config=_read_yaml(model_dir, model_yaml_config_file),
        )
        self.begin_batch(["0"], [{}])

    @property
    def explain(self) -> bool:
        """Whether the request asks for an explanation."""
        return bool(self.get_request_header(0, "explain") == "True")

    @explain.setter
    def explain(self, wanted: bool) -> None:
        self.get_all_request_header(0)["explain"] = str(bool(wanted))


def _read_yaml(model_dir: str | Path, name: str | None) -> dict[str, Any]:
    if name is None:
        return {}
    import yaml  # only here: the contract needs no YAML parser

    loaded = yaml.safe_load((Path(model_dir) / name).read_text(encoding="utf-8"))
    return loaded if isinstance(loaded, dict) else {}
