"""The handler that most handlers extend: one torch model, in whatever form the archive holds it.

Owns the journey of a batch (preprocess, inference, postprocess), and which loader reads the model.
Subclasses replace the steps they need.
"""

from __future__ import annotations

import contextlib
import logging
import time
from pathlib import Path
from typing import Any

import torch
from torch.profiler import record_function

from marserve_handlers.compile import accelerated
from marserve_handlers.contract import Context
from marserve_handlers.deferred_init import build
from marserve_handlers.devices import choose_device, on_device, prepare, settle
from marserve_handlers.errors import PredictionException
from marserve_handlers.exported import (
    is_compiled_package,
    read_compiled_package,
    read_exported_program,
    read_library,
)
from marserve_handlers.labels import LABELS_FILE, load_label_mapping
from marserve_handlers.model_files import find_file, import_file, list_classes_from_module
from marserve_handlers.onnx import is_session, open_session, run_session
from marserve_handlers.optimize import optimize
from marserve_handlers.optimize_report import Report
from marserve_handlers.profiler import is_wanted, log_summary, profiler
from marserve_handlers.row import row_value
from marserve_handlers.timing import timed
from marserve_handlers.weights import fill, is_torchscript, read_state_dict, read_torchscript

_log = logging.getLogger("marserve_handlers.torch")


class BaseHandler:
    """Runs a torch model on batches.

    Attributes:
        model: the model, on `device`, in evaluation mode.
        mapping: index to class name from `index_to_name.json`, or None.
        device: where the model is; `initialize` chooses it.
        initialized: whether `initialize` is done.
        context: the worker's context.
        model_pt_path: the weights file, or None.
        optimization: what came of `optimize` in the YAML file; None: it asks for nothing.
    """

    def __init__(self) -> None:
        self.model: Any = None
        self.mapping: dict[str, str] | None = None
        self.device: torch.device = torch.device("cpu")
        self.initialized = False
        self.context: Any = None
        self.model_pt_path: str | None = None
        self.manifest: dict[str, Any] = {}
        self.model_yaml_config: dict[str, Any] = {}
        self.map_location: str | None = "cpu"
        self.explain = False
        self.target: Any = 0
        self.profiler_args: dict[str, Any] = {}
        self.optimization: Report | None = None

    # --- loading ------------------------------------------------------------------------------

    def initialize(self, context: Context) -> None:
        """Load model and class names from the model directory.

        Raises:
            RuntimeError: there is nothing that could be loaded, or the weights do not fit.
            ValueError: the model file does not define exactly one class, or `pt2` in the YAML file
                is neither text nor a map.
            HandlerLoadFailed: the model file raises, the weights would run code, a package that
                the model needs is missing, or `optimize` in the YAML file has a wrong value.
        """
        self.context = context
        self.manifest = context.manifest
        self.model_yaml_config = getattr(context, "model_yaml_config", None) or {}
        properties = context.system_properties
        model_dir = str(properties["model_dir"])
        self.device = choose_device(properties.get("gpu_id"))
        self.map_location = None if self.device.type == "xla" else self.device.type
        prepare(self.device)
        model = self.manifest.get("model") or {}
        self.model_pt_path = None
        if model.get("serializedFile"):
            self.model_pt_path = str(Path(model_dir) / model["serializedFile"])
        self.model = self._load_model(model_dir, model.get("modelFile") or None)
        if isinstance(self.model, torch.nn.Module):
            self.model.to(self.device)
            with contextlib.suppress(NotImplementedError):  # exported programs have one mode only
                self.model.eval()
        self.mapping = load_label_mapping(Path(model_dir) / LABELS_FILE)
        self.optimization = optimize(self)
        if isinstance(self.model, torch.nn.Module):
            self.model = accelerated(self.model, self.model_yaml_config, self.device)
        settle(self.device)
        self.initialized = True

    def get_device(self) -> torch.device:
        """Where the model is."""
        return self.device

    def _load_model(self, model_dir: str, model_file: str | None) -> Any:
        path = self.model_pt_path
        if path is not None and not Path(path).is_file():
            raise RuntimeError(
                f"The weights file {Path(path).name}, which the manifest names, is not in the "
                "archive."
            )
        if model_file is not None:
            return self._load_pickled_model(model_dir, model_file, path)
        if path is None:
            raise RuntimeError(
                "No model weights could be loaded: the manifest names neither a serialized file "
                "nor a model file."
            )
        return self._load_by_kind(path)

    def _load_by_kind(self, path: str) -> Any:
        """The model in a file that needs no model file, by its extension."""
        file = Path(path)
        match file.suffix:
            case ".pt" if is_torchscript(file):
                return self._load_torchscript_model(path)
            case ".onnx":
                return open_session(file, self.map_location)
            case ".so" if self._use_torch_export_aot_compile():
                return self._load_torch_export_aot_compile(path)
            case ".so":
                remedy = "loads only with pt2: {export: {aot_compile: true}} in the YAML file"
            case ".pt2" if is_compiled_package(file):
                return read_compiled_package(file, self.device)
            case ".pt2":
                return read_exported_program(file, self.device)
            case _:
                remedy = (
                    "is not a TorchScript file with the extension .pt, and a state dict needs the "
                    "model's code; pack it with --model-file"
                )
        raise RuntimeError(f"No model weights could be loaded: {file.name} {remedy}.")

    def _load_torch_export_aot_compile(self, model_so_path: str) -> Any:
        return read_library(Path(model_so_path), self.device)

    def _use_torch_export_aot_compile(self) -> bool:
        pt2 = self.model_yaml_config.get("pt2")
        export = pt2.get("export") if isinstance(pt2, dict) else None
        return isinstance(export, dict) and export.get("aot_compile") is True

    def _load_torchscript_model(self, model_pt_path: str) -> Any:
        return read_torchscript(Path(model_pt_path), self.device)

    def _load_pickled_model(
        self, model_dir: str, model_file: str, model_pt_path: str | None
    ) -> Any:
        file = find_file(Path(model_dir), model_file)
        if file is None:
            raise RuntimeError(f"Missing the {model_file} file")
        module = import_file(file, Path(model_dir), "model file")
        model, fills = build(_model_class(list_classes_from_module(module)))
        if model_pt_path is None:
            fills.catch_up()
        else:
            fill(model, read_state_dict(Path(model_pt_path)), fills)
        return model

    # --- a batch ------------------------------------------------------------------------------

    def handle(self, data: Any, context: Context) -> Any:
        """One result per row: preprocess, inference, postprocess; or what the headers ask for."""
        started = time.perf_counter()
        self.context = context
        if self._is_describe():
            output: Any = [self.describe_handle() for _ in data] or [self.describe_handle()]
        elif is_wanted():
            output, _ = self._infer_with_profiler(data)
        else:
            output = self._answer(data)
        duration_ms = (time.perf_counter() - started) * 1000
        context.metrics.add_time("HandlerTime", round(duration_ms, 2), None, "ms")
        return output

    def _answer(self, data: Any) -> Any:
        prepared = self.preprocess(data)
        if self._is_explain():
            return self.explain_handle(prepared, data)
        return self.postprocess(self.inference(prepared))

    def _infer_with_profiler(self, data: Any) -> tuple[Any, Any]:
        """The batch's results and torch's profile of the way there; each stage has its name."""
        model_name = str((self.manifest.get("model") or {}).get("modelName", ""))
        with profiler(self.profiler_args, model_name) as profile:
            with record_function("preprocess"):
                prepared = self.preprocess(data)
            if self._is_explain():
                with record_function("explain"):
                    output = self.explain_handle(prepared, data)
            else:
                with record_function("inference"):
                    outcome = self.inference(prepared)
                with record_function("postprocess"):
                    output = self.postprocess(outcome)
        log_summary(profile)
        return output, profile

    @timed
    def preprocess(self, data: Any) -> Any:
        """The rows as one tensor on `device`. Each row is a (nested) list of numbers.

        Raises:
            PredictionException: a row is something else, or the rows differ in shape (400).
        """
        values = [row_value(row) if isinstance(row, dict) else row for row in data]
        for value in values:
            if isinstance(value, bytes | bytearray | str | dict):
                raise PredictionException(
                    "The input must be a JSON list of numbers, sent with the header "
                    f"Content-Type: application/json; it came as {type(value).__name__}.",
                    400,
                )
        try:
            return on_device(torch.as_tensor(values), self.device)
        except (TypeError, ValueError) as error:
            raise PredictionException(f"The input is not a tensor: {error}.", 400) from error

    @timed
    def inference(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        """What the model makes of the prepared batch."""
        with torch.inference_mode():
            if is_session(self.model):
                return run_session(self.model, data, *args, **kwargs)
            return self.model(on_device(data, self.device), *args, **kwargs)

    @timed
    def postprocess(self, data: Any) -> Any:
        """The model's output as nested lists, one entry per row."""
        if not isinstance(data, torch.Tensor):
            raise TypeError(
                f"The model returned a {type(data).__name__}, not a tensor; a handler of your own "
                "can turn it into results in postprocess."
            )
        return data.tolist()

    # --- descriptions and explanations --------------------------------------------------------

    def describe_handle(self) -> Any:
        """What a description of the model shall add: how it was optimised, if that was asked for.

        Subclasses may say something else.
        """
        return None if self.optimization is None else {"optimization": self.optimization.facts()}

    def explain_handle(self, data_preprocess: Any, raw_data: Any) -> Any:
        """Explanations for the batch, from the subclass's `get_insights`.

        It is called as `get_insights(prepared, value of the first row, target)`, where the first
        row may name a `target` (0 otherwise).

        Raises:
            PredictionException: the handler has no `get_insights` (501).
        """
        get_insights = getattr(self, "get_insights", None)
        if get_insights is None:
            raise PredictionException(
                f"The handler {type(self).__name__} has no explanations: it defines no "
                "get_insights.",
                501,
            )
        first = raw_data[0]
        if isinstance(first, dict):
            self.target = first.get("target") or 0
            first = row_value(first)
        return get_insights(data_preprocess, first, self.target)

    def _is_explain(self) -> bool:
        self.explain = self._header("explain") == "True"
        return self.explain

    def _is_describe(self) -> bool:
        return bool(self._header("describe") == "True")

    def _header(self, name: str) -> Any:
        return self.context.get_request_header(0, name) if self.context is not None else None


def _model_class(classes: list[type[Any]]) -> type[Any]:
    """The one class of a model file; helpers that are no torch modules do not count."""
    models = [found for found in classes if issubclass(found, torch.nn.Module)] or classes
    if len(models) != 1:
        names = [found.__name__ for found in models]
        raise ValueError(
            f"Expected only one class as model definition. {names} The model file must define one; "
            "keep its building blocks in a file of their own, packed with --extra-files."
        )
    return models[0]
