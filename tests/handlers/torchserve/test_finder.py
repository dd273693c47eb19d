import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import marserve_handlers.torchserve as ts_names
from marserve_handlers.torchserve.finder import NamesFinder
from marserve_handlers.torchserve.names import MODULES

STREAMER = "ts.handler_utils.hf_batch_streamer"


@pytest.fixture(autouse=True)
def names():
    meta_path, modules = list(sys.meta_path), dict(sys.modules)
    sys.meta_path[:] = [f for f in meta_path if not isinstance(f, NamesFinder)]
    for name in [name for name in sys.modules if name.split(".")[0] == "ts"]:
        del sys.modules[name]
    yield
    sys.meta_path[:] = meta_path
    sys.modules.pop("marserve_handlers.torchserve.hf_streamer", None)  # made of a fake
    for name in [name for name in sys.modules if name.split(".")[0] == "ts"]:
        del sys.modules[name]
    sys.modules.update({n: m for n, m in modules.items() if n.split(".")[0] == "ts"})


@pytest.mark.parametrize("name", MODULES)
def test_each_carried_module_has_its_members(name, monkeypatch):
    if name == STREAMER:
        fake_transformers(monkeypatch)
    ts_names.install()
    module = importlib.import_module(name)
    for attribute in MODULES[name]:
        assert getattr(module, attribute) is not None
        assert attribute in dir(module)
    namespace = {}
    exec(f"from {name} import *", namespace)
    assert set(MODULES[name]) <= set(namespace)


def test_a_member_that_a_module_does_not_have_is_no_member():
    ts_names.install()
    with pytest.raises(ImportError, match=r"cannot import name 'nothing' from 'ts\.context'"):
        exec("from ts.context import nothing")
    import ts

    assert not hasattr(ts, "nothing")
    assert ts.metrics.dimension.Dimension("a", "b").to_dict() == {"Name": "a", "Value": "b"}


def test_a_framework_that_is_missing_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, "marserve_handlers.torchserve.hf_streamer", raising=False)
    ts_names.install()
    with pytest.raises(ImportError, match=r"needs the package transformers.*requirements file"):
        exec(f"from {STREAMER} import TextIteratorStreamerBatch")


SIGNATURES = json.loads((Path(__file__).parent / "signatures.json").read_text())
"""Of TorchServe 0.12.0, as `inspect` tells them."""


@pytest.mark.parametrize("place", SIGNATURES)
def test_what_torchserve_can_be_called_with_we_can_be_called_with(place, monkeypatch):
    module, _, path = place.partition(":")
    if module == STREAMER:
        fake_transformers(monkeypatch)
    ts_names.install()
    found = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    parameters = [str(one).partition(":")[0].partition("=")[0] for one in parameters_of(found)]
    theirs = SIGNATURES[place].split()
    if theirs[:1] == ["self"] and parameters[:1] != ["self"]:
        theirs = theirs[1:]
    assert parameters[: len(theirs)] == theirs


def parameters_of(function):
    return inspect.signature(inspect.unwrap(function)).parameters.values()


def fake_transformers(monkeypatch):
    """The two classes that the streamer is made of, without a tokenizer."""

    class TextIteratorStreamer:
        def __init__(self, tokenizer, skip_prompt=False, timeout=None, **decode_kwargs):
            self.texts = []
            self.decode = tokenizer

        def put(self, value):
            self.texts.append(self.decode(value))

        def end(self):
            self.texts.append(None)

        def __next__(self):
            text = self.texts.pop(0)
            if text is None:
                self.texts.append(None)
                raise StopIteration
            return text

    transformers = ModuleType("transformers")
    transformers.TextIteratorStreamer = TextIteratorStreamer
    streamers = ModuleType("transformers.generation.streamers")
    streamers.BaseStreamer = type("BaseStreamer", (), {})
    monkeypatch.setitem(sys.modules, "transformers", transformers)
    monkeypatch.setitem(sys.modules, "transformers.generation", ModuleType("generation"))
    monkeypatch.setitem(sys.modules, "transformers.generation.streamers", streamers)
    monkeypatch.delitem(sys.modules, "marserve_handlers.torchserve.hf_streamer", raising=False)


def test_a_batch_of_texts_is_streamed_step_by_step(monkeypatch):
    fake_transformers(monkeypatch)
    ts_names.install()
    from ts.handler_utils.hf_batch_streamer import TextIteratorStreamerBatch

    streamer = TextIteratorStreamerBatch(lambda tokens: "".join(map(chr, tokens)), 2)
    streamer.put(np.array([[65, 66], [67, 68]]))
    streamer.put(np.array([69, 70]))
    with pytest.raises(ValueError, match="made for 2 rows; it was given 3"):
        streamer.put(np.array([1, 2, 3]))
    streamer.end()
    assert list(streamer) == [["AB", "CD"], ["E", "F"]]


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
        "import ts.nothing",
        "from ts.nothing import Thing",
        "import ts.torch_handler.magic_handler",
        "from ts.torch_handler.magic_handler import MagicHandler",
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


def test_the_names_need_no_framework_until_a_member_is_asked_for():
    modules = ", ".join(MODULES)
    code = (
        "import sys, marserve_handlers.torchserve as names; names.install(); "
        f"import {modules}; import ts; ts.utils.util.PredictionException; "
        "print(sorted({'torch', 'numpy', 'yaml', 'psutil'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
