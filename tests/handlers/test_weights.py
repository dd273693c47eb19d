import warnings
from pathlib import Path

import pytest
import torch

from marserve_handlers.deferred_init import build
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


def in_cache(tmp_path):
    """A path for weights where nobody writes to them: below a folder called by a digest."""
    folder = tmp_path / ("0123abcd" * 8)
    folder.mkdir()
    return folder / "w.pth"


def is_mapped(path):
    return str(path) in Path("/proc/self/maps").read_text()


class Listed(torch.nn.Module):
    """Knows its parameters in ways that no state dict does."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 3)
        self.tied = torch.nn.Linear(3, 3)
        self.tied.weight = self.layer.weight
        self.known = [self.layer.weight, self.layer.bias]
        self.register_buffer("scale", torch.ones(3))
        self.register_buffer("fixed", torch.arange(3.0), persistent=False)
        self.scales = (self.scale,)
        self.viewed = torch.nn.Parameter(torch.zeros(4, 3))
        self.views = {"row": self.viewed.detach()[0]}

    def forward(self, x):
        weight, bias = self.known
        y = torch.nn.functional.linear(x, weight, bias) * self.scales[0] + self.fixed
        return self.tied(y) + self.views["row"]


def test_weights_of_an_archive_are_mapped(model, tmp_path):
    path = in_cache(tmp_path)
    torch.save(model.state_dict(), path)
    weights = read_state_dict(path)
    assert is_mapped(path)
    assert same(weights, model.state_dict())


@pytest.mark.parametrize("new_format", [True, False])
def test_weights_that_somebody_may_write_to_are_not_mapped(new_format, model, tmp_path):
    path = tmp_path / "w.pth" if new_format else in_cache(tmp_path)
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=new_format)
    weights = read_state_dict(path)
    assert not is_mapped(path)
    path.write_bytes(b"")
    assert same(weights, model.state_dict())


def test_writing_to_mapped_weights_changes_neither_file_nor_other_readers(model, tmp_path):
    path = in_cache(tmp_path)
    torch.save(model.state_dict(), path)
    before = path.read_bytes()
    fill(model, read_state_dict(path))
    other = read_state_dict(path)
    expected = other["weight"].clone()
    with torch.no_grad():
        model.weight.zero_()
    assert path.read_bytes() == before
    assert torch.equal(other["weight"], expected)
    assert torch.equal(read_state_dict(path)["weight"], expected)


def test_mapped_weights_outlive_their_file(model, tmp_path):
    path = in_cache(tmp_path)
    torch.save(model.state_dict(), path)
    expected = model(torch.ones(1, 3))
    fill(model, read_state_dict(path))
    path.unlink()
    assert torch.equal(model(torch.ones(1, 3)), expected)


def test_references_that_a_model_keeps_to_its_parameters_stay_good(tmp_path):
    trained = Listed()
    with torch.no_grad():
        trained.scale.fill_(3)
        trained.viewed.fill_(7)
    path = in_cache(tmp_path)
    torch.save(trained.state_dict(), path)
    model, fills = build(Listed)
    fill(model, read_state_dict(path), fills)
    assert torch.equal(model(torch.ones(2, 3)), trained(torch.ones(2, 3)))
    assert model.tied.weight is model.layer.weight
    assert [p.requires_grad for p in model.parameters()] == [True] * 4


def test_a_recurrent_network_computes_with_the_mapped_weights(tmp_path):
    trained = torch.nn.LSTM(4, 5, num_layers=2)
    path = in_cache(tmp_path)
    torch.save(trained.state_dict(), path)
    model, fills = build(lambda: torch.nn.LSTM(4, 5, num_layers=2))
    fill(model, read_state_dict(path), fills)
    rows = torch.ones(2, 3, 4)
    assert torch.equal(model(rows)[0], trained(rows)[0])


def test_a_model_that_its_hooks_change_is_as_they_left_it(model, tmp_path):
    class Doubling(torch.nn.Linear):
        def __init__(self):
            super().__init__(3, 2)
            self.register_load_state_dict_post_hook(lambda module, _: module.double_bias())

        def double_bias(self):
            self.bias = torch.nn.Parameter(self.bias.detach() * 2)

    filled = Doubling()
    fill(filled, model.state_dict())
    assert torch.equal(filled.bias, model.bias * 2)


def test_a_model_that_takes_only_some_of_its_weights_has_the_rest_filled(model):
    class Lenient(torch.nn.Linear):
        def load_state_dict(self, state_dict, strict=True):
            return super().load_state_dict(state_dict, strict=False)

    torch.manual_seed(3)
    expected = torch.nn.Linear(3, 2)
    torch.manual_seed(3)
    lenient, fills = build(lambda: Lenient(3, 2))
    fill(lenient, {"bias": model.bias.detach()}, fills)
    assert torch.equal(lenient.weight, expected.weight)
    assert torch.equal(lenient.bias, model.bias)
