import importlib
import subprocess
import sys
from types import ModuleType

import pytest

import marserve_handlers.torchserve as ts_names
from marserve_handlers.torchserve.finder import NamesFinder
from marserve_handlers.torchserve.names import MODULES

FRAMEWORK_FREE = [name for name in MODULES if not name.endswith(("_handler", "_classifier"))]


@pytest.fixture(autouse=True)
def names():
    meta_path, modules = list(sys.meta_path), dict(sys.modules)
    sys.meta_path[:] = [f for f in meta_path if not isinstance(f, NamesFinder)]
    for name in [name for name in sys.modules if name.split(".")[0] == "ts"]:
        del sys.modules[name]
    yield
    sys.meta_path[:] = meta_path
    for name in [name for name in sys.modules if name.split(".")[0] == "ts"]:
        del sys.modules[name]
    sys.modules.update({n: m for n, m in modules.items() if n.split(".")[0] == "ts"})


@pytest.mark.parametrize("name", FRAMEWORK_FREE)
def test_each_carried_module_has_its_members(name):
    ts_names.install()
    module = importlib.import_module(name)
    for attribute in MODULES[name]:
        assert getattr(module, attribute) is not None


def test_a_name_is_the_very_object_of_ours():
    ts_names.install()
    from ts.context import Context as TheirContext
    from ts.utils.util import PredictionException as Their

    from marserve_handlers.contract import Context
    from marserve_handlers.errors import PredictionException

    assert (TheirContext, Their) == (Context, PredictionException)


def test_the_release_is_named():
    ts_names.install()
    import ts
    import ts.version

    assert ts.__version__ == ts.version.__version__ == "0.12.0"


@pytest.mark.parametrize(
    "statement",
    [
        "import ts.torch_handler.text_classifier",
        "from ts.torch_handler.text_classifier import TextClassifier",
        "from ts.torch_handler import text_classifier",
        "from ts.handler_utils.micro_batching import MicroBatching",
        "import ts.nothing",
    ],
)
def test_a_name_that_is_not_carried_is_named_in_the_error(statement):
    ts_names.install()
    with pytest.raises(ImportError, match=r"MarServe does not carry TorchServe's module ts\."):
        exec(statement)


def test_installing_twice_is_installing_once():
    ts_names.install()
    before = list(sys.meta_path)
    ts_names.install()
    assert sys.meta_path == before


def test_nothing_called_ts_exists_before():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("ts")


def test_ours_wins_over_a_file_beside_the_model_and_over_what_was_imported(tmp_path, monkeypatch):
    (tmp_path / "ts.py").write_text("raise RuntimeError('the wrong one')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "ts", ModuleType("ts"))
    monkeypatch.setitem(sys.modules, "ts.context", ModuleType("ts.context"))
    ts_names.install()
    assert importlib.import_module("ts.context").Context.__module__ == "marserve_handlers.contract"


def test_no_other_name_is_claimed():
    finder = NamesFinder()
    for name in ("tsx", "context", "utils", "torch_handler", "model.ts"):
        assert finder.find_spec(name) is None


def test_the_names_need_no_framework_until_a_torch_handler_is_imported():
    modules = ", ".join(FRAMEWORK_FREE)
    code = (
        "import sys, marserve_handlers.torchserve as names; names.install(); "
        f"import {modules}; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
