"""The import hook behind `ts.*`: a meta-path finder that answers from the table in `names.py`.

A carried module is made of our own objects when it is first imported; frameworks are imported
only then. Nothing called `ts` exists on disk.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Final

from marserve_handlers.torchserve.names import MODULES

ROOT: Final = "ts"


class NamesFinder(MetaPathFinder, Loader):
    """Finds and loads `ts` and everything below it, and nothing else."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """The spec of a carried module; None for names that are not TorchServe's.

        Raises:
            ImportError: the name is TorchServe's, but not carried.
        """
        if fullname != ROOT and not fullname.startswith(f"{ROOT}."):
            return None
        if fullname not in MODULES:
            # not ModuleNotFoundError: `from ts.x import y` would swallow it and this sentence
            raise ImportError(
                f"MarServe does not carry TorchServe's module {fullname}. "
                f"Carried are: {', '.join(_leaves())}.",
                name=fullname,
            )
        return ModuleSpec(fullname, self, is_package=fullname in _PACKAGES)

    def exec_module(self, module: ModuleType) -> None:
        """Fill the module with the objects that the table names."""
        for name, place in MODULES[module.__name__].items():
            origin, _, attribute = place.partition(":")
            setattr(module, name, getattr(importlib.import_module(origin), attribute))


def install() -> None:
    """Make `ts.*` importable in this process. Calling it again changes nothing.

    An installed TorchServe, or a `ts.py` beside the model, steps back: the names are ours.
    """
    if any(isinstance(finder, NamesFinder) for finder in sys.meta_path):
        return
    for name in [name for name in sys.modules if name == ROOT or name.startswith(f"{ROOT}.")]:
        del sys.modules[name]
    sys.meta_path.insert(0, NamesFinder())


_PACKAGES: Final = frozenset(name.rpartition(".")[0] for name in MODULES if name.rpartition(".")[0])


def _leaves() -> list[str]:
    return [name for name in MODULES if name not in _PACKAGES]
