import copy

import pytest
import torch
from torch import nn

from marserve_handlers.deferred_init import build


class Looking(nn.Module):
    """Looks at parameters while it is built, in the ways that models do."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 5, padding_idx=0)
        self.first = nn.Linear(5, 5)
        self.second = copy.deepcopy(self.first)
        self.row = self.first.weight[0] * 2
        self.norm = float(self.second.weight.detach().norm())


class Old(nn.Module):
    """Fills as models from before `torch.nn.init` do, and goes on from there."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.layer.weight.data.normal_(0, 0.02)
        self.layer.weight.data.mul_(3)
        self.layer.bias.data.zero_()


class Seeded(nn.Module):
    """Draws numbers that no state dict holds, behind parameters and from a seed of its own."""

    def __init__(self):
        super().__init__()
        self.before = nn.Linear(6, 6)
        self.drawn = torch.randn(3)
        self.middle = nn.Linear(6, 6)
        torch.manual_seed(5)
        self.after = nn.Linear(6, 6)
        self.register_buffer("projection", torch.rand(4), persistent=False)


class Initialised(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)
        nn.init.trunc_normal_(self.layer.weight, std=0.1)
        nn.init.xavier_normal_(self.layer.weight)
        nn.init.orthogonal_(self.layer.weight)
        nn.init.constant_(self.layer.bias, 0.5)
        self.free = nn.Parameter(torch.empty(3).uniform_(-1, 1))


MODELS = {
    "linear": lambda: nn.Linear(3, 2),
    "convolutions": lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.PReLU()),
    "lstm": lambda: nn.LSTM(4, 4, num_layers=2),
    "attention": lambda: nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, batch_first=True), 2
    ),
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)),
    "orthogonal": lambda: nn.utils.parametrizations.orthogonal(nn.Linear(4, 4)),
    "halved": lambda: nn.Linear(4, 4).half(),
    "looking": Looking,
    "old": Old,
    "seeded": Seeded,
    "initialised": Initialised,
}


def tensors(model):
    plain = {name: value for name, value in vars(model).items() if torch.is_tensor(value)}
    return {**dict(model.named_parameters()), **dict(model.named_buffers()), **plain}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())
def test_a_module_whose_fills_caught_up_is_the_one_that_would_have_been(make):
    torch.manual_seed(1)
    expected = tensors(make())
    follows = torch.rand(2)
    torch.manual_seed(1)
    model, fills = build(make)
    fills.catch_up()
    got = tensors(model)
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[name], value) for name, value in expected.items())
    assert torch.equal(torch.rand(2), follows)


def test_parameters_that_nobody_looks_at_are_not_filled():
    state = torch.get_rng_state()
    _, fills = build(lambda: nn.Sequential(nn.Linear(300, 300), nn.LSTM(50, 50)))
    assert torch.equal(torch.get_rng_state(), state)
    fills.catch_up()
    assert not torch.equal(torch.get_rng_state(), state)


def test_what_is_drawn_besides_parameters_is_the_same_when_the_fills_are_dropped():
    torch.manual_seed(1)
    expected = Seeded()
    torch.manual_seed(1)
    model, fills = build(Seeded)
    fills.drop()
    assert torch.equal(model.drawn, expected.drawn)
    assert torch.equal(model.projection, expected.projection)


def test_a_constructor_that_cannot_do_without_numbers_gets_them():
    class Picky(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(4))
            nn.init.uniform_(self.weight, 1, 2)
            if self.weight.numpy(force=True).min() < 1:
                raise ValueError("not filled")

    model, _ = build(Picky)
    assert model.weight.min() >= 1


def test_an_error_of_the_constructor_is_its_own():
    def broken():
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        build(broken)


def test_torch_is_afterwards_as_it_was():
    fill = nn.init.trunc_normal_
    build(lambda: nn.Linear(3, 2))
    assert nn.init.trunc_normal_ is fill
    weight = nn.Parameter(torch.zeros(64))
    nn.init.normal_(weight)
    assert weight.abs().min() > 0
