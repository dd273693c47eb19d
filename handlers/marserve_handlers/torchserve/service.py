"""A loaded handler that answers batches outside a worker, as `ts.service` and `ts.model_loader` do.

For code and tests that were written against these; workers of ours do not use them.
"""

from __future__ import annotations

import json
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from marserve_handlers import builtin
from marserve_handlers.contract import Context, RequestProcessor
from marserve_handlers.entry_point import load_entry_point
from marserve_handlers.envelopes import wrap
from marserve_handlers.errors import PredictionException
from marserve_handlers.metrics import Metrics
from marserve_handlers.model_files import get_yaml_config
from marserve_handlers.streaming import Connection
from marserve_handlers.torchserve.version import __version__
from marserve_handlers.wire import PredictResponse, create_predict_response

PREDICTION_METRIC: Final = "PredictionTime"

_log = logging.getLogger("marserve_handlers.service")


class Service:
    """A handler and its context.

    Args:
        model_name: the name of the model.
        model_dir: where its files are.
        manifest: everything that its manifest says.
        entry_point: `handle(data, context)`, initialised or about to be.
        gpu: the number of the device; None: the CPU.
        batch_size: how many requests a batch holds at most.
        limit_max_image_pixels: whether images of any size are to be refused.
        metrics_cache: where figures are reported.
    """

    def __init__(
        self,
        model_name: str,
        model_dir: str,
        manifest: dict[str, Any] | None,
        entry_point: Callable[[Any, Context], Any],
        gpu: int | None,
        batch_size: int | None,
        limit_max_image_pixels: bool = True,
        metrics_cache: Metrics | None = None,
    ) -> None:
        manifest = manifest or {}
        file = (manifest.get("model") or {}).get("configFile")
        if metrics_cache is not None:
            metrics_cache.model_name = model_name
        self._entry_point = entry_point
        self._context = Context(
            model_name,
            model_dir,
            manifest,
            batch_size or 1,
            gpu,
            __version__,
            limit_max_image_pixels,
            metrics_cache,
            get_yaml_config(Path(model_dir) / file) if file else None,
        )

    @property
    def context(self) -> Context:
        """What the handler is given."""
        return self._context

    def set_cl_socket(self, cl_socket: Connection) -> None:
        """Where intermediate responses go."""
        self._context.cl_socket = cl_socket

    @staticmethod
    def retrieve_data_for_inference(
        batch: Sequence[Mapping[str, Any]],
    ) -> tuple[list[RequestProcessor], list[dict[str, Any]], dict[int, str]]:
        """Headers, rows and ids of a batch in the shape that TorchServe's protocol gives it.

        Raises:
            ValueError: the batch is empty or None.
        """
        if not batch:
            raise ValueError("There is no request in this batch.")
        headers, rows, ids = [], [], {}
        for index, request in enumerate(batch):
            ids[index] = request["requestId"].decode("utf-8")
            told: dict[str, Any] = {}
            row = {}
            for parameter in request["parameters"]:
                row[parameter["name"]] = parameter["value"]
                told[parameter["name"]] = {"content-type": parameter["contentType"]}
            for header in request.get("headers") or ():
                told[header["name"].decode("utf-8")] = header["value"].decode("utf-8")
            headers.append(RequestProcessor(told))
            rows.append(row)
        return headers, rows, ids

    def predict(self, batch: Sequence[Mapping[str, Any]]) -> PredictResponse:
        """The reply to a batch, in TorchServe's protocol; a failure of the handler is a reply too.

        Raises:
            ValueError: the batch is empty or None.
        """
        headers, rows, ids = self.retrieve_data_for_inference(batch)
        self._context.request_ids = ids
        self._context.request_processor = headers
        self._context.metrics.set_request_ids(ids)
        started = time.perf_counter()
        try:
            results = self._entry_point(rows, self._context)
        except PredictionException as error:
            return _failed(ids, error.message, error.error_code)
        except MemoryError:
            return _failed(ids, "Out of resources", 507)
        except Exception as error:  # noqa: BLE001  user code: answered, not propagated
            is_out_of_memory = "CUDA" in str(error)
            return _failed(
                ids,
                *(("Out of resources", 507) if is_out_of_memory else ("Prediction failed", 503)),
            )
        if not isinstance(results, list):
            return _failed(ids, "Invalid model predict output", 503)
        if len(results) != len(rows):
            return _failed(ids, "number of batch response mismatched", 503)
        duration_ms = round((time.perf_counter() - started) * 1000, 2)
        self._context.metrics.add_time(PREDICTION_METRIC, duration_ms)
        return create_predict_response(results, ids, "Prediction success", 200, self._context)


class ModelLoader(ABC):
    """Makes services of model directories."""

    @abstractmethod
    def load(
        self,
        model_name: str,
        model_dir: str,
        handler: str | None = None,
        gpu_id: int | None = None,
        batch_size: int | None = None,
        envelope: str | None = None,
        limit_max_image_pixels: bool | None = True,
    ) -> Service:
        """A service whose handler is initialised."""


class TsModelLoader(ModelLoader):
    """Loads as a worker does."""

    def load(
        self,
        model_name: str,
        model_dir: str,
        handler: str | None = None,
        gpu_id: int | None = None,
        batch_size: int | None = None,
        envelope: str | None = None,
        limit_max_image_pixels: bool | None = True,
        metrics_cache: Metrics | None = None,
    ) -> Service:
        """A service whose handler is initialised.

        Args:
            model_name: the name of the model.
            model_dir: where its files are, with or without a manifest.
            handler: a file of it, or a built-in handler; None: what the manifest says.
            gpu_id: the number of the device; None: the CPU.
            batch_size: how many requests a batch holds at most.
            envelope: the name of an envelope around the handler.
            limit_max_image_pixels: whether images of any size are to be refused.
            metrics_cache: where figures are reported.

        Raises:
            HandlerError: there is no such handler or envelope, or it cannot be loaded.
        """
        manifest = _read_manifest(Path(model_dir))
        name = handler or (manifest.get("model") or {}).get("handler") or ""
        entry = load_entry_point(name, Path(model_dir), builtin.marserve_handler)
        handle = wrap(envelope, entry.handle) if envelope else entry.handle
        limit = limit_max_image_pixels is not False
        service = Service(
            model_name, model_dir, manifest, handle, gpu_id, batch_size, limit, metrics_cache
        )
        entry.initialize(service.context)
        return service


class ModelLoaderFactory:
    """Knows the one loader."""

    @staticmethod
    def get_model_loader() -> ModelLoader:
        """A loader of model directories."""
        return TsModelLoader()


def _failed(ids: Mapping[int, str], message: str, code: int) -> PredictResponse:
    _log.warning("Invoking custom service failed.", exc_info=True)
    return create_predict_response(None, ids, message, code)


def _read_manifest(model_dir: Path) -> dict[str, Any]:
    file = model_dir / "MAR-INF" / "MANIFEST.json"
    if not file.is_file():
        return {}
    manifest = json.loads(file.read_bytes())
    return manifest if isinstance(manifest, dict) else {}
