import sys
from types import ModuleType

import pytest
import yaml

from marserve_handlers.errors import HandlerLoadFailed
from marserve_handlers.model_files import (
    cause,
    find_file,
    get_yaml_config,
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


def test_a_yaml_file_is_read_without_making_objects(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("handler: {profile: true}")
    assert get_yaml_config(str(path)) == {"handler": {"profile": True}}
    path.write_text("!!python/object/apply:os.getcwd []")
    with pytest.raises(yaml.YAMLError):
        get_yaml_config(path)


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("import not_there_at_all.deep", "the package not_there_at_all is not installed"),
        ("import cv2", "the package opencv-python-headless is not"),
        ("from json import nothing_of_it", None),
        ("import json.nothing_of_it", None),
    ],
)
def test_a_package_that_is_missing_is_named_with_its_remedy(line, remedy, tmp_path):
    (tmp_path / "needy.py").write_text(line)
    with pytest.raises(HandlerLoadFailed) as caught:
        import_file(tmp_path / "needy.py", tmp_path, "handler file")
    message = str(caught.value)
    assert "the handler file needy.py could not be imported" in message
    assert (remedy or "could not be imported") in message
    assert ("requirements file" in message) == (remedy is not None)
