import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from marserve.plugins import BUILT_INS, Plugins, load_plugins
from marserve_archiver.manifest import Manifest
from marserve_handlers import builtin, hookimpl
from marserve_handlers.errors import HandlerLoadFailed
from marserve_handlers.passthrough import Passthrough

ROOT = Path(__file__).parents[2]


class Shout:
    """A plugin with all hooks."""

    def __init__(self, *names, preload=("json",)):
        self.names = list(names)
        self.preload = list(preload)

    @hookimpl
    def marserve_handler(self, name):
        return self if name in self.names else None

    @hookimpl
    def marserve_handler_names(self):
        return self.names

    @hookimpl
    def marserve_preload(self, name):
        return self.preload if name in self.names else None


def with_built_ins(**plugins):
    return Plugins([(BUILT_INS[0], builtin), *plugins.items()])


def test_the_built_in_handlers_are_found_without_installing_anything():
    plugins = load_plugins()
    assert set(builtin.BUILT_INS) <= set(plugins.handler_names())
    assert plugins.find_handler("echo") is Passthrough
    assert plugins.find_handler("nobody") is None


def test_a_stranger_brings_handlers():
    shout = Shout("shout", "whisper")
    plugins = with_built_ins(shout=shout)
    assert plugins.find_handler("whisper") is shout
    names = plugins.handler_names()
    assert names == tuple(sorted({*builtin.BUILT_INS, "shout", "whisper"}))


def test_a_built_in_keeps_its_name_and_the_clash_is_logged(caplog):
    plugins = with_built_ins(intruder=Shout("echo"))
    assert plugins.find_handler("echo") is Passthrough
    assert "intruder offers a handler echo, but the one of marserve_handlers.builtin is used" in (
        caplog.text
    )


def test_even_a_stranger_that_pushes_forward_gets_no_built_in_name():
    class Pushy:
        @hookimpl(tryfirst=True)
        def marserve_handler(self, name):
            return "pushy"

    plugins = with_built_ins(pushy=Pushy())
    assert plugins.find_handler("echo") is Passthrough
    assert plugins.find_handler("other") == "pushy"


def test_of_two_strangers_with_one_name_the_first_wins(caplog):
    first, second = Shout("x"), Shout("x")
    plugins = Plugins([("a", first), ("b", second)])
    assert plugins.find_handler("x") is first
    assert "the plugin b offers a handler x, but the one of a is used" in caplog.text


class Broken:
    """Fails whenever it is asked."""

    @hookimpl
    def marserve_handler(self, name):
        raise OSError("no licence")

    @hookimpl
    def marserve_preload(self, name):
        raise OSError("no licence")


def test_a_plugin_that_fails_is_named_and_stops_nobody(caplog):
    shout = Shout("shout")
    plugins = with_built_ins(a_broken=Broken(), shout=shout)
    assert plugins.find_handler("shout") is shout
    assert "the plugin a_broken failed when it was asked for the handler shout" in caplog.text
    assert plugins.preload_modules("shout", Path("/nowhere"), Manifest()) == ("json",)


def test_a_failure_is_not_hidden_when_nobody_else_has_the_handler():
    plugins = with_built_ins(broken=Broken())
    with pytest.raises(HandlerLoadFailed, match=r"plugin broken failed .* OSError: no licence"):
        plugins.find_handler("theirs")


def test_a_built_in_without_its_framework_says_so(monkeypatch):
    monkeypatch.delitem(sys.modules, "marserve_handlers.sklearn", raising=False)
    monkeypatch.setitem(sys.modules, "joblib", None)
    with pytest.raises(HandlerLoadFailed, match="pip install"):
        with_built_ins().find_handler("sklearn")


class WrongArguments:
    @hookimpl
    def marserve_handler(self, name, version):
        return None


class NamesFail:
    @hookimpl
    def marserve_handler_names(self):
        raise RuntimeError("no list")


class NamesMissing:
    @hookimpl
    def marserve_handler_names(self):
        return 3


@pytest.mark.parametrize("plugin", [WrongArguments(), NamesFail(), NamesMissing()])
def test_a_plugin_that_cannot_be_registered_is_named_and_left_out(plugin, caplog):
    shout = Shout("shout")
    plugins = with_built_ins(bad=plugin, shout=shout)
    assert "the plugin bad failed when it was registered" in caplog.text
    assert plugins.find_handler("shout") is shout
    assert plugins.find_handler("unknown") is None


def test_a_hook_that_does_not_exist_is_named(caplog):
    class Typo:
        @hookimpl
        def marserve_handlr(self, name):
            return None

    with_built_ins(typo=Typo())
    assert "the plugin typo implements a hook marserve_handlr, which does not exist" in caplog.text


def test_a_plugin_that_is_listed_twice_stays_registered_once(caplog):
    shout = Shout("shout")
    plugins = Plugins([("shout", shout), ("shout", Shout("other"))])
    assert plugins.handler_names() == ("shout",)
    assert plugins.find_handler("shout") is shout
    assert "failed when it was registered" in caplog.text


@pytest.mark.parametrize(
    ("handler", "modules"),
    [
        ("base_handler", ("torch",)),
        ("image_classifier", ("PIL", "torch", "torchvision")),
        ("image_classifier.py", ("PIL", "torch", "torchvision")),
        ("sklearn", ("joblib", "numpy", "sklearn")),
        ("echo", ()),
        ("nobody", ()),
    ],
)
def test_a_named_handler_is_asked_what_to_preload(handler, modules, tmp_path):
    assert with_built_ins().preload_modules(handler, tmp_path, Manifest()) == modules


def test_the_files_of_an_archive_are_read_and_only_installed_modules_returned(tmp_path):
    (tmp_path / "handler.py").write_text("import numpy, catboost, json")
    (tmp_path / "model.py").write_text("import torch.nn as nn")
    manifest = Manifest(model_file="model.py")
    plugins = with_built_ins()
    assert plugins.preload_modules("handler.py:run", tmp_path, manifest) == ("numpy", "torch")
    assert plugins.preload_modules("base_handler", tmp_path, Manifest(model_file="gone.py")) == (
        "torch",
    )


def test_a_file_of_the_archive_hides_an_installed_handler(tmp_path):
    (tmp_path / "sklearn.py").write_text("import numpy")
    assert with_built_ins().preload_modules("sklearn", tmp_path, Manifest()) == ("numpy",)


def test_a_stranger_may_preload_a_submodule(tmp_path):
    plugins = Plugins([("s", Shout("shout", preload=["json.decoder", "missing.sub", "missing"]))])
    assert plugins.preload_modules("shout", tmp_path, Manifest()) == ("json.decoder",)


def test_nothing_is_imported_while_looking_for_what_to_preload(tmp_path):
    (tmp_path / "handler.py").write_text("import torch, sklearn\nraise SystemExit('ran')")
    code = (
        "import sys; from pathlib import Path; from marserve.plugins import load_plugins; "
        "from marserve_archiver.manifest import Manifest; plugins = load_plugins(); "
        f"print(plugins.preload_modules('handler.py', Path({str(tmp_path)!r}), Manifest()), "
        "plugins.preload_modules('image_classifier', Path('/nowhere'), Manifest())); "
        "print(sorted({'torch', 'sklearn', 'numpy', 'PIL', 'handler'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "('sklearn', 'torch') ('PIL', 'torch', 'torchvision')\n[]\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with the third-party example installed, and a plugin that cannot be imported."""
    work = tmp_path_factory.mktemp("third_party")
    shutil.copytree(ROOT / "examples" / "third_party_handler", work / "source")
    target = work / "site"
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--target", target),
            *("--no-build-isolation", "--no-deps", "--no-index", work / "source"),
        ],
        check=True,
        capture_output=True,
    )
    broken = target / "aaa_broken-1.0.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: aaa-broken\nVersion: 1.0\n")
    (broken / "entry_points.txt").write_text("[marserve]\naaa = aaa_broken_module\n")
    (target / "aaa_broken_module.py").write_text("import not_there")
    return target


def in_site(site, code):
    path = os.pathsep.join(
        [str(site), *(str(ROOT / r) for r in ("runtime", "handlers", "archiver"))]
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )


def test_an_installed_third_party_handler_is_found_beside_a_broken_one(site):
    done = in_site(
        site,
        "import logging; logging.basicConfig(format='%(message)s')\n"
        "from pathlib import Path\n"
        "from marserve.plugins import load_plugins\n"
        "from marserve_archiver.manifest import Manifest\n"
        "from marserve_handlers.testing import run_handler\n"
        "plugins = load_plugins()\n"
        "print('shout' in plugins.handler_names())\n"
        "print(plugins.preload_modules('shout', Path('/nowhere'), Manifest()))\n"
        "yaml = {'handler': {'exclamation_marks': 3}}\n"
        "handler = plugins.find_handler('shout')\n"
        "print(run_handler(handler, ['hello', b'you'], model_yaml_config=yaml))\n",
    )
    assert done.stdout.splitlines() == [
        "True",
        "('unicodedata',)",
        "[Result(status=200, headers={}, body=b'HELLO!!!', pieces=()), "
        "Result(status=200, headers={}, body=b'YOU!!!', pieces=())]",
    ]
    assert "the plugin aaa (of aaa-broken) failed when it was imported: ModuleNotFoundError" in (
        done.stderr
    )


def test_the_third_party_handler_is_imported_only_when_asked_for(site):
    done = in_site(
        site,
        "import sys\nfrom marserve.plugins import load_plugins\nplugins = load_plugins()\n"
        "print('marserve_shout.handler' in sys.modules)\nplugins.find_handler('shout')\n"
        "print('marserve_shout.handler' in sys.modules)\n",
    )
    assert done.stdout.split() == ["False", "True"]
