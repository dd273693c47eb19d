import sys
from types import ModuleType

import pytest

from marserve_handlers.model_files import (
    cause,
    find_file,
    import_file,
    list_classes_from_module,
    module_name,
)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("model", "model.py"),
        ("model.py", "model.py"),
        ("pkg/deep.py", "pkg/deep.py"),
        ("somewhere/model.py", "model.py"),
        ("/abs/model.py", "model.py"),
        ("../model.py", "model.py"),
        ("../outside.py", None),
        ("missing", None),
        ("pkg", None),
    ],
)
def test_a_file_is_found_inside_the_model_directory_only(name, found, tmp_path):
    model_dir = tmp_path / "model"
    (model_dir / "pkg").mkdir(parents=True)
    for file in ("model.py", "pkg/deep.py", "../outside.py"):
        (model_dir / file).touch()
    assert find_file(model_dir, name) == (found and model_dir / found)


@pytest.mark.parametrize(
    ("file", "name"),
    [("model.py", "model"), ("ts.py", "model_ts"), ("json.py", "model_json")],
)
def test_a_module_is_named_after_its_file_unless_that_is_taken(file, name, tmp_path):
    assert module_name(tmp_path / file) == name


def test_a_file_is_imported_once(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    file = tmp_path / "imported_once.py"
    file.write_text("state = []")
    module = import_file(file, tmp_path, "model file")
    monkeypatch.delitem(sys.modules, "imported_once")
    monkeypatch.setitem(sys.modules, "imported_once", module)
    assert import_file(file, tmp_path, "model file") is module


def test_the_classes_of_a_module_are_its_own_in_order():
    module = ModuleType("probe")
    exec("class B: ...\nclass A(B): ...\nAlias = A\nfrom pathlib import Path", vars(module))
    assert [found.__name__ for found in list_classes_from_module(module)] == ["B", "A"]
    assert [found.__name__ for found in list_classes_from_module(module, module.A)] == ["A"]


def test_a_cause_outside_the_model_has_no_line(tmp_path):
    assert cause(ValueError("x"), tmp_path) == "ValueError: x"
    assert cause(KeyError(), tmp_path) == "KeyError"
