"""Imports the python files of a model directory, and says what is wrong with one that fails.

The file's own directory comes before all packages on `sys.path`, so `import helper` finds the
helper beside it; but after Python's own library, for which no file of the same name can stand in.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import sysconfig
import traceback
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any, Final

from marserve_handlers.errors import HandlerLoadFailed

_OURS: Final = frozenset({"ts", "marserve", "marserve_archiver", "marserve_handlers"})

_STANDARD_LIBRARY: Final = frozenset(
    {
        sysconfig.get_path("stdlib"),
        sysconfig.get_path("platstdlib"),
        f"{sysconfig.get_path('platstdlib')}/lib-dynload",
        os.path.dirname(os.__file__),  # noqa: PTH120  as it stands on sys.path
    }
)

_DISTRIBUTIONS: Final = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}
"""What to install for modules that are called otherwise."""


def find_file(model_dir: Path, name: str) -> Path | None:
    """The python file that `name` (with or without `.py`) means, or None.

    A path inside the model directory is looked up as it stands, then by its last part alone:
    packing puts every file at the root of an archive.
    """
    path = PurePosixPath(name if name.endswith(".py") else f"{name}.py")
    if not path.is_absolute() and ".." not in path.parts:
        nested = model_dir / path
        if nested.is_file():
            return nested
    flat = model_dir / path.name
    return flat if flat.is_file() else None


def import_file(file: Path, model_dir: Path, what: str) -> ModuleType:
    """The module in `file`; the same one when it was imported before.

    Args:
        file: a python file somewhere below `model_dir`.
        model_dir: where the model's files are.
        what: how to call the file in an error: `handler file`, `model file`.

    Raises:
        HandlerLoadFailed: the file raised while it was imported; MemoryError passes through.
    """
    put_before_packages(model_dir, file.parent)
    importlib.invalidate_caches()
    name = module_name(file)
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(file):
        return known
    try:
        return _imported(name, file)
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:
        raise HandlerLoadFailed(
            f"the {what} {file.name} could not be imported: {cause(error, model_dir)}"
            f"{remedy(error)}"
        ) from error


def put_before_packages(*directories: Path | str) -> None:
    """Have modules looked for in these, right after Python's own library. They are moved there.

    A model's `json.py` would else be what every package gets that imports json.
    """
    moved = list(dict.fromkeys(str(directory) for directory in directories))
    others = [entry for entry in sys.path if entry not in moved]
    own = [index for index, entry in enumerate(others) if entry in _STANDARD_LIBRARY]
    place = own[-1] + 1 if own else 0
    sys.path[:] = [*others[:place], *moved, *others[place:]]


def list_classes_from_module(
    module: ModuleType, parent_class: type | None = None
) -> list[type[Any]]:
    """The classes that `module` itself defines, in order; with a parent, only those below it."""
    defined = (
        value
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__
    )
    classes = list(dict.fromkeys(defined))
    if parent_class is None:
        return classes
    return [found for found in classes if issubclass(found, parent_class)]


def get_yaml_config(yaml_file_path: str | Path) -> Any:
    """What a YAML file says: plain maps, lists and values.

    Raises:
        OSError: the file cannot be read.
        yaml.YAMLError: it is no YAML, or asks for python objects.
    """
    import yaml  # only here: handlers get their own YAML file read

    return yaml.safe_load(Path(yaml_file_path).read_text(encoding="utf-8"))


def module_name(file: Path) -> str:
    """The name that `file` is imported under: its stem, unless that would replace something.

    A file may be called `queue.py` or `ts.py`, but must not stand in for those modules.
    """
    stem = file.stem
    is_taken = stem in _OURS or stem in sys.stdlib_module_names
    return f"model_{stem}" if is_taken else stem


def remedy(error: BaseException) -> str:
    """What to do about a package that is missing, to follow the cause; "" when none is."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    module = error.name.partition(".")[0]
    if module in sys.modules:
        return ""  # the package is there, but in a release without this part
    return (
        f"; the package {_DISTRIBUTIONS.get(module, module)} is not installed where the worker "
        "runs: list it in the archive's requirements file, or install it beside the server"
    )


def cause(error: BaseException, model_dir: Path) -> str:
    """One line: type, text, and the last line of the model's own files that it came through."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, SyntaxError) and error.filename:
        # the text of a SyntaxError already ends in its place
        return text
    root = f"{model_dir}{os.sep}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename.startswith(root):
            return f"{text} ({Path(frame.filename).name}, line {frame.lineno})"
    return text


def _imported(name: str, file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    replaced = sys.modules.get(name)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if replaced is None:
            sys.modules.pop(name, None)
        else:
            sys.modules[name] = replaced
        raise
    return module
