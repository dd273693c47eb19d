import warnings

import pytest
import torch

from marserve_handlers.errors import HandlerLoadFailed
from marserve_handlers.weights import fill, is_torchscript, read_state_dict, read_torchscript


class CodeInside:
    """Its pickle names a class: loading it would import and call."""


@pytest.fixture
def model():
    return torch.nn.Linear(3, 2)


def save_torchscript(model, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(model), path)


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("new_format", [True, False])
def test_a_state_dict_is_read_in_both_file_formats(new_format, model, tmp_path):
    path = tmp_path / "w.pth"
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=new_format)
    assert same(read_state_dict(path), model.state_dict())


def test_a_file_that_would_run_code_is_refused_with_the_remedy(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"model": CodeInside()}, path)
    with pytest.raises(HandlerLoadFailed) as caught:
        read_state_dict(path)
    message = str(caught.value)
    assert "the weights w.pth hold more than tensors" in message
    assert "CodeInside" in message
    assert "torch.save(model.state_dict(), 'w.pth')" in message


def test_a_torchscript_file_is_no_state_dict(model, tmp_path):
    path = tmp_path / "w.pt"
    save_torchscript(model, path)
    assert is_torchscript(path)
    with pytest.raises(HandlerLoadFailed, match="pack them without a model file"):
        read_state_dict(path)


def test_tensors_without_names_are_no_state_dict(tmp_path):
    torch.save([torch.zeros(1)], tmp_path / "w.pth")
    with pytest.raises(HandlerLoadFailed, match="hold a list, not a state dict"):
        read_state_dict(tmp_path / "w.pth")


def test_a_state_dict_is_no_torchscript(model, tmp_path):
    torch.save(model.state_dict(), tmp_path / "w.pt")
    (tmp_path / "junk.pt").write_bytes(b"junk")
    assert not is_torchscript(tmp_path / "w.pt")
    assert not is_torchscript(tmp_path / "junk.pt")


def test_torchscript_loads_without_a_word_about_its_future(model, tmp_path):
    path = tmp_path / "w.pt"
    save_torchscript(model, path)
    loaded = read_torchscript(path, torch.device("cpu"))
    assert torch.equal(loaded(torch.ones(1, 3)), model(torch.ones(1, 3)))


def test_weights_that_fit_become_the_parameters_without_a_copy(model, tmp_path):
    torch.save(model.state_dict(), tmp_path / "w.pth")
    weights = read_state_dict(tmp_path / "w.pth")
    other = torch.nn.Linear(3, 2)
    fill(other, weights)
    assert other.weight.data_ptr() == weights["weight"].data_ptr()
    assert isinstance(other.weight, torch.nn.Parameter)


def test_weights_of_another_precision_are_converted_to_the_models(model):
    fill(model, {name: value.half() for name, value in torch.nn.Linear(3, 2).state_dict().items()})
    assert model.weight.dtype is torch.float32


def test_a_model_that_loads_itself_is_left_to_it():
    class Own(torch.nn.Linear):
        def load_state_dict(self, state_dict, strict=True):
            self.seen = state_dict

    model = Own(3, 2)
    weights = torch.nn.Linear(3, 2).state_dict()
    fill(model, weights)
    assert model.seen is weights


def test_weights_that_do_not_fit_are_torchs_own_error(model):
    with pytest.raises(RuntimeError, match="Missing key"):
        fill(model, {})


@pytest.mark.parametrize("cut", [0, 1, 10, 200, 0.5, 0.9])
@pytest.mark.parametrize("new_format", [True, False])
def test_a_file_that_was_cut_short_is_said_to_be(cut, new_format, model, tmp_path):
    path = tmp_path / "w.pth"
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=new_format)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * cut) if isinstance(cut, float) else cut])
    with pytest.raises(HandlerLoadFailed, match=r"the weights w\.pth"):
        read_state_dict(path)
