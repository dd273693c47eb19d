import io
import pickle
import zipfile

import pytest
import torch

from marserve_handlers import exported
from marserve_handlers.errors import HandlerLoadFailed
from marserve_handlers.exported import (
    is_compiled_package,
    read_compiled_package,
    read_exported_program,
    read_library,
)
from marserve_handlers.testing import run_handler

CPU = torch.device("cpu")


class Scale(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(3.0))

    def forward(self, x):
        return x * self.weight


class CodeInside:
    """Its pickle names a class: loading it would import and call."""


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "m.pt2"
    rows = torch.export.Dim("rows", min=1, max=64)
    exported_program = torch.export.export(
        Scale(), (torch.zeros(2, 2),), dynamic_shapes={"x": {0: rows}}
    )
    torch.export.save(exported_program, path)
    return path


def with_member(program, path, name, content):
    with zipfile.ZipFile(program) as old, zipfile.ZipFile(path, "w") as new:
        for member in old.infolist():
            if not member.filename.endswith(name):
                new.writestr(member.filename, old.read(member))
        new.writestr(f"m/{name}", content)
    return path


def test_an_exported_program_serves_batches_of_every_size(program):
    manifest = {"model": {"serializedFile": program.name}}
    for rows in (1, 3):
        results = run_handler(
            "base_handler", [[1.0, 2.0]] * rows, model_dir=program.parent, manifest=manifest
        )
        assert [result.json() for result in results] == [[3.0, 6.0]] * rows


def test_pickled_sample_inputs_are_refused(program, tmp_path):
    buffer = io.BytesIO()
    torch.save(((CodeInside(),), {}), buffer)
    path = with_member(
        program, tmp_path / "m.pt2", "data/sample_inputs/model.pt", buffer.getvalue()
    )
    with pytest.raises(HandlerLoadFailed, match=r"pickled objects \(model.pt\)"):
        read_exported_program(path, CPU)


def test_pickled_constants_are_refused(program, tmp_path):
    content = pickle.dumps(CodeInside())
    path = with_member(program, tmp_path / "m.pt2", "data/constants/opaque_obj_0", content)
    with pytest.raises(HandlerLoadFailed, match="opaque_obj_0"):
        read_exported_program(path, CPU)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04junk", b"junk"])
def test_a_file_that_is_no_package_is_refused(content, tmp_path):
    (tmp_path / "m.pt2").write_bytes(content)
    with pytest.raises(HandlerLoadFailed, match=r"m.pt2 is no package of torch"):
        is_compiled_package(tmp_path / "m.pt2")


def test_a_package_of_something_else_is_refused(tmp_path, caplog):
    with zipfile.ZipFile(tmp_path / "m.pt2", "w") as file:
        file.writestr("m/archive_format", "pt2")
    with pytest.raises(HandlerLoadFailed, match="not an exported program that torch"):
        read_exported_program(tmp_path / "m.pt2", CPU)


def test_a_compiled_package_is_told_from_an_exported_program(program, tmp_path):
    with zipfile.ZipFile(tmp_path / "c.pt2", "w") as file:
        file.writestr("c/data/aotinductor/model/x.wrapper.so", b"native")
    assert is_compiled_package(tmp_path / "c.pt2")
    assert not is_compiled_package(program)


@pytest.mark.parametrize(("device", "index"), [("cpu", -1), ("cuda:1", 1)])
def test_a_compiled_package_is_loaded_for_its_device(device, index, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(
        "torch._inductor.aoti_load_package",
        lambda path, device_index: asked.append((path, device_index)),
    )
    read_compiled_package(tmp_path / "c.pt2", torch.device(device))
    assert asked == [(str(tmp_path / "c.pt2"), index)]


def test_a_library_is_loaded_on_the_device_that_is_current(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(torch.cuda, "set_device", asked.append)
    monkeypatch.setattr("torch._export.aot_load", lambda path, kind: asked.append((path, kind)))
    read_library(tmp_path / "m.so", torch.device("cuda:1"))
    read_library(tmp_path / "m.so", CPU)
    path = str(tmp_path / "m.so")
    assert asked == [torch.device("cuda:1"), (path, "cuda"), (path, "cpu")]


def test_a_pickled_member_too_large_to_look_into_is_refused(program, monkeypatch):
    monkeypatch.setattr(exported, "_MAX_PICKLED_BYTES", 10)
    with pytest.raises(HandlerLoadFailed, match="pickled objects"):
        read_exported_program(program, CPU)
