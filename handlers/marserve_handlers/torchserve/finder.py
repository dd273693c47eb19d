"""The import hook behind `ts.*`: a meta-path finder that answers from the table in `names.py`.

A member of a carried module is looked up when it is first asked for; frameworks are imported only
then. Nothing called `ts` exists on disk.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final

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
        """Let the module answer for the members that the table names, and for its submodules."""
        places = MODULES[module.__name__]

        def member(name: str) -> Any:
            if name in places:
                value = _look_up(places[name])
            elif f"{module.__name__}.{name}" in MODULES:
                value = importlib.import_module(f"{module.__name__}.{name}")
            else:
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
            setattr(module, name, value)
            return value

        vars(module).update(
            __getattr__=member, __all__=list(places), __dir__=lambda: [*vars(module), *places]
        )


def install() -> None:
    """Make `ts.*` importable in this process. Calling it again changes nothing.

    An installed TorchServe, or a `ts.py` beside the model, steps back: the names are ours.
    """
    if any(isinstance(finder, NamesFinder) for finder in sys.meta_path):
        return
    if ROOT in sys.modules:  # looking through all names costs a worker its share of their memory
        for name in [name for name in sys.modules if name == ROOT or name.startswith(f"{ROOT}.")]:
            del sys.modules[name]
    sys.meta_path.insert(0, NamesFinder())


_PACKAGES: Final = frozenset(name.rpartition(".")[0] for name in MODULES if name.rpartition(".")[0])


def _leaves() -> list[str]:
    return [name for name in MODULES if name not in _PACKAGES]


def _look_up(place: str) -> Any:
    origin, _, attribute = place.partition(":")
    return getattr(importlib.import_module(origin), attribute)
