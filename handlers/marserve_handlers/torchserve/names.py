"""Which `ts.*` names existing handlers may import, and where each of them really is. A table."""

from __future__ import annotations

from typing import Final

_HERE: Final = "marserve_handlers"
_TS: Final = f"{_HERE}.torchserve"


def _places(origin: str, *names: str) -> dict[str, str]:
    """These names, all of one module of ours."""
    return {name: f"{origin}:{name}" for name in names}


_METRIC_VALUES: Final = _places(f"{_HERE}.metric_values", "Dimension", "MetricTypes")
_STREAMING: Final = {
    **_places(f"{_HERE}.streaming", "send_intermediate_predict_response"),
    **_places(f"{_HERE}.wire", "create_predict_response"),
}
_METRICS_CACHE: Final = f"{_HERE}.metrics:Metrics"
_VERSION: Final = _places(f"{_TS}.version", "__version__")

_CORE: Final[dict[str, dict[str, str]]] = {
    "ts": _VERSION,
    "ts.version": _VERSION,
    "ts.context": _places(f"{_HERE}.contract", "Context", "RequestProcessor"),
    "ts.launcher": _places(
        f"{_TS}.launcher", "register_model", "register_model_with_params", "start", "stop"
    ),
    "ts.model_loader": _places(
        f"{_TS}.service", "ModelLoader", "ModelLoaderFactory", "TsModelLoader"
    ),
    "ts.protocol": {},
    "ts.protocol.otf_message_handler": {
        **_STREAMING,
        **_places(f"{_HERE}.wire", "create_load_model_response", "encode_response_headers"),
    },
    "ts.service": {
        **_places(f"{_TS}.service", "PREDICTION_METRIC", "Service"),
        **_places(f"{_TS}.metrics_store", "emit_metrics"),
        **_places(f"{_HERE}.errors", "PredictionException"),
    },
    "ts.utils": {},
    "ts.utils.util": {
        **_places(f"{_TS}.util", "deprecated"),
        **_places(f"{_HERE}.text_cleaning", "CLEANUP_REGEX"),
        **_places(f"{_HERE}.errors", "PredictionException"),
        **_places(f"{_HERE}.model_files", "get_yaml_config", "list_classes_from_module"),
        **_places(f"{_HERE}.labels", "load_label_mapping", "map_class_to_label"),
        **_places(
            f"{_HERE}.compile", "PT2Backend", "check_valid_pt2_backend", "load_compiler_config"
        ),
    },
}

_HANDLER_UTILS: Final[dict[str, dict[str, str]]] = {
    "ts.handler_utils": {},
    "ts.handler_utils.distributed": {},
    "ts.handler_utils.distributed.deepspeed": _places(
        f"{_HERE}.distributed", "create_checkpoints_json", "get_ds_engine"
    ),
    "ts.handler_utils.distributed.pt_pippy": _places(
        f"{_HERE}.distributed", "get_pipeline_driver", "initialize_rpc_workers"
    ),
    "ts.handler_utils.hf_batch_streamer": _places(
        f"{_TS}.hf_streamer", "TextIteratorStreamerBatch"
    ),
    "ts.handler_utils.micro_batching": _places(f"{_HERE}.micro_batching", "MicroBatching"),
    "ts.handler_utils.preprocess": {},
    "ts.handler_utils.preprocess.dali": _places(f"{_HERE}.dali", "get_dali_pipeline"),
    "ts.handler_utils.text_utils": _places(
        f"{_HERE}.text_cleaning", "get_tokenizer", "ngrams_iterator"
    ),
    "ts.handler_utils.timer": _places(f"{_HERE}.timing", "timed"),
    "ts.handler_utils.utils": {**_STREAMING, **_places(f"{_TS}.util", "import_class")},
}

_METRICS: Final[dict[str, dict[str, str]]] = {
    "ts.metrics": {},
    "ts.metrics.caching_metric": {
        **_places(f"{_HERE}.caching_metric", "CachingMetric"),
        **_METRIC_VALUES,
    },
    "ts.metrics.dimension": _places(f"{_HERE}.metric_values", "Dimension"),
    "ts.metrics.metric": _places(f"{_TS}.metrics_store", "Metric"),
    "ts.metrics.metric_cache_abstract": {"MetricCacheAbstract": _METRICS_CACHE},
    "ts.metrics.metric_cache_errors": _places(
        f"{_HERE}.errors",
        "MetricsCacheIOError",
        "MetricsCacheKeyError",
        "MetricsCachePyYamlError",
        "MetricsCacheTypeError",
        "MetricsCacheValueError",
    ),
    "ts.metrics.metric_cache_yaml_impl": {"MetricsCacheYamlImpl": _METRICS_CACHE},
    "ts.metrics.metric_encoder": _places(f"{_TS}.metrics_store", "MetricEncoder"),
    "ts.metrics.metric_type_enum": _places(f"{_HERE}.metric_values", "MetricTypes"),
    "ts.metrics.metrics_store": {
        **_places(f"{_TS}.metrics_store", "Metric", "MetricsStore"),
        **_places(f"{_HERE}.metric_values", "Dimension"),
    },
    "ts.metrics.process_memory_metric": _places(
        f"{_TS}.process_memory", "check_process_mem_usage", "get_cpu_usage"
    ),
    "ts.metrics.unit": _places(f"{_TS}.metrics_store", "Units"),
}

_TORCH_HANDLER: Final[dict[str, dict[str, str]]] = {
    "ts.torch_handler": {},
    "ts.torch_handler.base_handler": _places(f"{_HERE}.torch", "BaseHandler"),
    "ts.torch_handler.contractions": _places(f"{_HERE}.contractions", "CONTRACTION_MAP"),
    "ts.torch_handler.dali_handler": _places(f"{_HERE}.dali", "DALIHandler"),
    "ts.torch_handler.dali_image_classifier": _places(f"{_HERE}.dali", "DALIImageClassifier"),
    "ts.torch_handler.densenet_handler": _places(f"{_HERE}.densenet", "DenseNetHandler"),
    "ts.torch_handler.distributed": {},
    "ts.torch_handler.distributed.base_deepspeed_handler": _places(
        f"{_HERE}.distributed", "BaseDeepSpeedHandler"
    ),
    "ts.torch_handler.distributed.base_pippy_handler": _places(
        f"{_HERE}.distributed", "BasePippyHandler"
    ),
    "ts.torch_handler.image_classifier": _places(f"{_HERE}.vision", "ImageClassifier"),
    "ts.torch_handler.image_segmenter": _places(f"{_HERE}.segmentation", "ImageSegmenter"),
    "ts.torch_handler.object_detector": _places(f"{_HERE}.detection", "ObjectDetector"),
    "ts.torch_handler.request_envelope": {},
    "ts.torch_handler.request_envelope.base": _places(f"{_HERE}.envelopes", "BaseEnvelope"),
    "ts.torch_handler.request_envelope.body": _places(f"{_HERE}.envelopes", "BodyEnvelope"),
    "ts.torch_handler.request_envelope.json": _places(f"{_HERE}.envelopes", "JSONEnvelope"),
    "ts.torch_handler.request_envelope.kserve": _places(f"{_HERE}.envelopes", "KServeEnvelope"),
    "ts.torch_handler.request_envelope.kservev2": _places(
        f"{_HERE}.kservev2_envelope", "KServev2Envelope"
    ),
    "ts.torch_handler.text_classifier": _places(f"{_HERE}.text", "TextClassifier"),
    "ts.torch_handler.text_handler": _places(f"{_HERE}.text", "TextHandler"),
    "ts.torch_handler.trt_llm_handler": _places(f"{_HERE}.trt_llm", "TRTLLMHandler"),
    "ts.torch_handler.unit_tests": {},
    "ts.torch_handler.unit_tests.test_utils": {},
    "ts.torch_handler.unit_tests.test_utils.mock_context": _places(
        f"{_TS}.mock_context", "MockContext"
    ),
    "ts.torch_handler.unit_tests.test_utils.model_dir": _places(
        f"{_TS}.model_dir", "copy_files", "download_model"
    ),
    "ts.torch_handler.vision_handler": _places(f"{_HERE}.vision", "VisionHandler"),
    "ts.torch_handler.vllm_handler": _places(f"{_HERE}.vllm", "VLLMHandler"),
}

MODULES: Final[dict[str, dict[str, str]]] = {
    **_CORE,
    **_HANDLER_UTILS,
    **_METRICS,
    **_TORCH_HANDLER,
}
"""`ts` module to its attributes, each `module:attribute` of ours."""
