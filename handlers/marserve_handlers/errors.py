"""What can go wrong around a handler, as sentences.

HandlerError
├── HandlerNotFound       the name is neither a file of the archive nor an installed handler
├── HandlerLoadFailed     the handler, its model file or its weights cannot be loaded
├── UnsupportedOutput     the handler returned something that has no bytes
└── MetricsError          a metric was named or measured in a way that cannot be
    ├── MetricsCacheKeyError      (also a KeyError)
    ├── MetricsCacheTypeError     (also a TypeError)
    ├── MetricsCacheValueError    (also a ValueError)
    ├── MetricsCacheIOError       (also an OSError)
    └── MetricsCachePyYamlError

PredictionException       raised by a handler on purpose: this request gets this status
"""

from __future__ import annotations


class HandlerError(Exception):
    """The base of what MarServe itself says about a handler. `str(error)` is one sentence."""


class HandlerNotFound(HandlerError):
    """Nobody offers a handler of this name."""

    def __init__(self, name: str, detail: str = "") -> None:
        super().__init__(
            f"There is no handler {name!r}: the archive holds no such file, and no installed "
            f"handler has this name.{detail}"
        )
        self.name = name


class HandlerLoadFailed(HandlerError):
    """User code or weights could not be loaded; the message has the cause."""


class UnsupportedOutput(HandlerError):
    """A result is neither bytes, text, tensor nor anything that JSON can say."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"Unsupported model output data type. {detail}")
        self.detail = detail


class MetricsError(HandlerError):
    """The base of what `context.metrics` refuses."""


class MetricsCacheKeyError(MetricsError, KeyError):
    """No metric of this name and type was recorded or declared."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would quote the sentence


class MetricsCacheTypeError(MetricsError, TypeError):
    """A name, a unit, a type or a dimension is not of the type that metrics take."""


class MetricsCacheValueError(MetricsError, ValueError):
    """A unit or a type is not one that metrics have."""


class MetricsCacheIOError(MetricsError, OSError):
    """The file that declares metrics cannot be read."""


class MetricsCachePyYamlError(MetricsError):
    """The file that declares metrics is not YAML."""


class PredictionException(Exception):
    """Raise this in `handle` to answer with a message and an HTTP status of your own.

    Args:
        message: what the client reads.
        error_code: the HTTP status, 400 to 599.
    """

    def __init__(self, message: str, error_code: int = 500) -> None:
        super().__init__(message)
        self.message = message
        self.error_code = error_code

    def __str__(self) -> str:
        return f"{self.message} : {self.error_code}"
