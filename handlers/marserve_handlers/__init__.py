"""What the author of a handler needs: the contract, the hooks and the errors. Light.

The built-in handlers are in modules of their own (`marserve_handlers.torch`, …), so that nothing
here imports a framework.
"""

from marserve_handlers.contract import Context, RequestProcessor
from marserve_handlers.errors import (
    HandlerError,
    HandlerLoadFailed,
    HandlerNotFound,
    PredictionException,
    UnsupportedOutput,
)
from marserve_handlers.hookspecs import hookimpl
from marserve_handlers.metrics import Dimension, MetricTypes

__all__ = [
    "Context",
    "Dimension",
    "HandlerError",
    "HandlerLoadFailed",
    "HandlerNotFound",
    "MetricTypes",
    "PredictionException",
    "RequestProcessor",
    "UnsupportedOutput",
    "hookimpl",
]
