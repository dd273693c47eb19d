"""Which `ts.*` names existing handlers may import, and where each of them really is. A table.

Not carried, so far: request envelopes, intermediate (streamed) responses, micro-batching, the
text, detection, segmentation and distributed handlers, the metrics store.
"""

from __future__ import annotations

from typing import Final

_HERE: Final = "marserve_handlers"

MODULES: Final[dict[str, dict[str, str]]] = {
    "ts": {"__version__": f"{_HERE}.torchserve.version:__version__"},
    "ts.version": {"__version__": f"{_HERE}.torchserve.version:__version__"},
    "ts.context": {
        "Context": f"{_HERE}.contract:Context",
        "RequestProcessor": f"{_HERE}.contract:RequestProcessor",
    },
    "ts.handler_utils": {},
    "ts.handler_utils.timer": {"timed": f"{_HERE}.timing:timed"},
    "ts.metrics": {},
    "ts.metrics.dimension": {"Dimension": f"{_HERE}.metrics:Dimension"},
    "ts.metrics.metric_type_enum": {"MetricTypes": f"{_HERE}.metrics:MetricTypes"},
    "ts.torch_handler": {},
    "ts.torch_handler.base_handler": {"BaseHandler": f"{_HERE}.torch:BaseHandler"},
    "ts.torch_handler.image_classifier": {"ImageClassifier": f"{_HERE}.vision:ImageClassifier"},
    "ts.torch_handler.unit_tests": {},
    "ts.torch_handler.unit_tests.test_utils": {},
    "ts.torch_handler.unit_tests.test_utils.mock_context": {
        "MockContext": f"{_HERE}.torchserve.mock_context:MockContext"
    },
    "ts.torch_handler.vision_handler": {"VisionHandler": f"{_HERE}.vision:VisionHandler"},
    "ts.utils": {},
    "ts.utils.util": {
        "PredictionException": f"{_HERE}.errors:PredictionException",
        "list_classes_from_module": f"{_HERE}.model_files:list_classes_from_module",
        "load_label_mapping": f"{_HERE}.labels:load_label_mapping",
        "map_class_to_label": f"{_HERE}.labels:map_class_to_label",
    },
}
"""`ts` module to its attributes, each `module:attribute` of ours."""
