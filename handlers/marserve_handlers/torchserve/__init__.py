"""The names of TorchServe (`ts.*`) that existing handlers import. `install` makes them importable.

They exist only in processes that call `install`: the server's workers, and handler tests.
"""

from marserve_handlers.torchserve.finder import install

__all__ = ["install"]
