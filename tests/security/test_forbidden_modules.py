"""SEC-07: nothing that makes objects, or runs code, of bytes is imported where strangers' bytes go.

Read from the source of every package of the wheel, so that no test has to reach the line.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "runtime/marserve",
    "archiver/marserve_archiver",
    "handlers/marserve_handlers",
    "compat",
)

FORBIDDEN = (
    *("pickle", "_pickle", "cPickle", "pickletools", "copyreg", "marshal", "shelve", "dbm"),
    *("dill", "cloudpickle", "joblib", "jsonpickle", "multiprocessing", "xmlrpc", "code", "codeop"),
)
EXCEPTIONS = {
    (
        "handlers/marserve_handlers/sklearn.py",
        "joblib",
    ): "loads the model of an archive, whose code runs in that worker anyway; "
    "scikit-learn has no other format",
}
"""File and module: why it may."""
NAMES_AN_ERROR_OF = "handlers/"
"""Below it pickle may be imported for one thing: to catch what torch raises when it refuses."""
SAFE_YAML = "runtime/marserve/registry/yaml_document.py"
"""Its loader is a yaml.SafeLoader that takes less."""
DANGEROUS_CALLS = {"eval", "exec", "compile", "__import__", "execfile"}
LOADS_UNSAFELY = {
    "torch.load": "weights_only",
    "np.load": "allow_pickle",
    "numpy.load": "allow_pickle",
}


def sources() -> list[Path]:
    return sorted(
        path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if path.is_file()
    )


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported, by statement or by a call with a literal name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and called(node).endswith(("import_module", "__import__")):
            yield from (arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant))


def called(node: ast.Call) -> str:
    return ast.unparse(node.func)


def offences(name: str, text: str) -> list[str]:
    """What in a source is forbidden there."""
    tree = ast.parse(text)
    found = [
        f"{name} imports {module}"
        for module in imports(tree)
        if module.partition(".")[0] in FORBIDDEN
        and (name, module.partition(".")[0]) not in EXCEPTIONS
        and not (name.startswith(NAMES_AN_ERROR_OF) and module == "pickle" and only_names(tree))
    ]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = called(node)
        if function in DANGEROUS_CALLS:
            found.append(f"{name} calls {function}")
        if function in ("os.system", "os.popen", "subprocess.getoutput"):
            found.append(f"{name} calls {function}")
        if any(k.arg == "shell" and ast.unparse(k.value) != "False" for k in node.keywords):
            found.append(f"{name} asks for a shell")
        if function in ("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"):
            found += [f"{name} calls {function}"] if name != SAFE_YAML else []
        wanted = LOADS_UNSAFELY.get(function)
        if wanted is not None:
            found += _unsafe_load(name, function, wanted, node)
    return found


def only_names(tree: ast.AST) -> bool:
    """Whether nothing of pickle is used but the class of its error."""
    used = [
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pickle"
    ]
    return set(used) == {"UnpicklingError"}


def _unsafe_load(name: str, function: str, wanted: str, node: ast.Call) -> list[str]:
    given = {k.arg: ast.unparse(k.value) for k in node.keywords}
    safe = {"weights_only": "True", "allow_pickle": "False"}[wanted]
    return [] if given.get(wanted) == safe else [f"{name} calls {function} without {wanted}={safe}"]


def test_there_is_something_to_read():
    assert len(sources()) > 300


def test_no_source_imports_or_calls_what_makes_objects_of_bytes():
    found = [line for path in sources() for line in offences(named(path), path.read_text())]
    assert found == []


def test_every_exception_is_still_needed():
    for name, module in EXCEPTIONS:
        assert module in {
            m.partition(".")[0] for m in imports(ast.parse((ROOT / name).read_text()))
        }


def test_the_one_loader_of_yaml_is_a_safe_one():
    tree = ast.parse((ROOT / SAFE_YAML).read_text())
    [loader] = [node for node in tree.body if getattr(node, "name", "") == "_Loader"]
    assert [ast.unparse(base) for base in loader.bases] == ["yaml.SafeLoader"]
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and called(n) == "yaml.load"]
    assert [ast.unparse(call.args[1]) for call in calls] == ["_Loader"]


def test_even_a_handler_may_only_name_the_error():
    text = "import pickle\ntry: pass\nexcept pickle.UnpicklingError: pickle.loads(b'')"
    assert offences("handlers/marserve_handlers/any.py", text)


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "import multiprocessing.connection",
        "def f():\n    import marshal as m",
        "import importlib\nimportlib.import_module('dill')",
        "__import__('cloudpickle')",
        "eval('1')",
        "import os\nos.system('true')",
        "import subprocess\nsubprocess.run('true', shell=True)",
        "import yaml\nyaml.load(text, Loader)",
        "import torch\ntorch.load(path)",
        "import torch\ntorch.load(path, weights_only=False)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
    ],
)
def test_the_reader_sees_it(text):
    assert offences("runtime/marserve/any.py", text)
