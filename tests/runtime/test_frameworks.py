import sys

import pytest

from marserve.frameworks import FRAMEWORKS, MAX_FILE_BYTES, MAX_FILES, imported_frameworks


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import torch", {"torch"}),
        ("import torch.nn.functional as F, numpy as np", {"torch", "numpy"}),
        ("from torchvision import transforms", {"torchvision"}),
        ("from PIL import Image", {"PIL"}),
        ("def handle(d, c):\n    import sklearn.svm", {"sklearn"}),
        ("from ts.torch_handler.base_handler import BaseHandler", {"torch"}),
        ("import ts.torch_handler.base_handler", {"torch"}),
        ("from ts.torch_handler import base_handler", {"torch"}),
        (
            "from ts.torch_handler.image_classifier import ImageClassifier",
            {"torch", "torchvision"},
        ),
        ("from ts.torch_handler import vision_handler", {"torch", "torchvision"}),
        ("from ts.context import Context", set()),
        ("from marserve_handlers.torch import BaseHandler", {"torch"}),
        ("from marserve_handlers.vision import VisionHandler", {"PIL", "torch", "torchvision"}),
        ("from marserve_handlers import hookimpl", set()),
        ("import json, os", set()),
        ("from . import torch", set()),
        ("import torch\ndef broken(:", set()),
        ("import torch\0", set()),
        ("import torch\nx = " + "(" * 5000, set()),
        ("import torch\nx = " + "-" * 50_000 + "1", set()),
        ("# import torch\n'import torch'", set()),
    ],
)
def test_imports_are_read_from_the_source(source, found, tmp_path):
    (tmp_path / "handler.py").write_text(source)
    assert imported_frameworks(tmp_path, ["handler.py"]) == found


def test_helpers_of_the_archive_are_followed_and_circles_end(tmp_path):
    (tmp_path / "handler.py").write_text("import one")
    (tmp_path / "one.py").write_text("import two, handler")
    (tmp_path / "two.py").write_text("import scipy.stats")
    assert imported_frameworks(tmp_path, ["handler"]) == {"scipy"}


def test_a_copy_that_the_archive_brings_is_not_the_servers(tmp_path):
    (tmp_path / "handler.py").write_text("import transformers, numpy, torch")
    (tmp_path / "transformers").mkdir()
    (tmp_path / "numpy.py").touch()
    assert imported_frameworks(tmp_path, ["handler.py"]) == {"torch"}


def test_the_source_is_never_run(tmp_path):
    (tmp_path / "handler.py").write_text("import torch\nraise SystemExit('ran')")
    assert imported_frameworks(tmp_path, ["handler.py"]) == {"torch"}


def test_files_that_are_too_large_or_missing_import_nothing(tmp_path):
    (tmp_path / "large.py").write_text("import torch\n" + "#" * MAX_FILE_BYTES)
    assert imported_frameworks(tmp_path, ["large.py", "missing.py", ""]) == set()


def test_the_number_of_files_is_bounded(tmp_path):
    for index in range(MAX_FILES + 5):
        (tmp_path / f"f{index}.py").write_text(f"import f{index + 1}")
    (tmp_path / f"f{MAX_FILES + 5}.py").write_text("import torch")
    assert imported_frameworks(tmp_path, ["f0.py"]) == set()
    assert imported_frameworks(tmp_path, ["f10.py"]) == {"torch"}


def test_no_framework_is_part_of_python():
    assert not FRAMEWORKS & sys.stdlib_module_names
