"""The TorchServe release whose handler interface is carried; handlers compare against it."""

from typing import Final

__version__: Final = "0.12.0"
