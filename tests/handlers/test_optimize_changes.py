import warnings
from collections import OrderedDict, namedtuple

import pytest
import torch

import marserve_handlers.optimize_changes as changes
from marserve_handlers.optimize_changes import apply, candidates, copied, is_script, refusal
from marserve_handlers.optimize_settings import Change

CPU = torch.device("cpu")
Pair = namedtuple("Pair", "scores ids")
BEST = Change("bfloat16", "channels_last")


class Images(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 4, 3)

    def forward(self, images):
        return self.layer(images).mean(dim=(2, 3))


class Words(torch.nn.Module):
    """Integers and floats in, everything that a model may return out."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.table = torch.nn.Embedding(8, 4)

    def forward(self, ids, weights=None):
        assert ids.dtype == torch.int64
        found = self.table(ids) * weights["w"][0]
        return {
            "tensor": lambda: found,
            "tuple": lambda: (found, ids),
            "list": lambda: [found, "text"],
            "named": lambda: Pair(found, ids),
            "map": lambda: OrderedDict(scores=found, ids=ids),
        }[self.kind]()


def script(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(model.eval())


def tensors(value):
    if isinstance(value, torch.Tensor):
        return [value]
    values = value.values() if isinstance(value, dict) else value
    return [one for one in values if isinstance(one, torch.Tensor)]


@pytest.mark.parametrize("kind", ["tensor", "tuple", "list", "named", "map"])
def test_outputs_are_float32_in_the_form_they_had(kind):
    model = Words(kind)
    ids, weights = torch.tensor([1, 2]), {"w": [torch.ones(1)]}
    plain = model(ids, weights=weights)
    changed = apply(copied(model), Change("bfloat16"))
    assert changed.table.weight.dtype == torch.bfloat16
    assert model.table.weight.dtype == torch.float32
    found = changed(ids, weights=weights)
    assert type(found) is type(plain)
    assert [one.dtype for one in tensors(found)] == [one.dtype for one in tensors(plain)]
    assert torch.allclose(tensors(found)[0], tensors(plain)[0], atol=0.02)


@pytest.mark.parametrize("made", [Images, lambda: script(Images())], ids=["python", "script"])
@pytest.mark.parametrize(
    "change", [BEST, Change("float16"), Change(memory_format="channels_last")], ids=str
)
def test_a_changed_model_answers_like_the_plain_one(made, change):
    model, images = made().eval(), torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        expected = model(images)
        changed = apply(copied(model), change)
        found = changed(images)
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, atol=0.02)
    assert changed.layer.weight.shape == (4, 3, 3, 3)
    assert is_script(changed) == is_script(model)


def test_frozen_torchscript_answers_alike():
    model, images = script(Images()), torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        found = apply(copied(model), Change("bfloat16", "channels_last", freeze=True))(images)
        assert torch.allclose(found, model(images), atol=0.02)


@pytest.mark.parametrize(
    ("model", "compiled", "expected"),
    [
        (
            Images(),
            None,
            [
                BEST,
                Change("bfloat16"),
                Change(memory_format="channels_last"),
            ],
        ),
        (Words("tensor"), None, [Change("bfloat16")]),
        (
            Words("tensor"),
            {"mode": "default"},
            [
                Change("bfloat16"),
                Change("bfloat16", compile={"mode": "default"}),
                Change(compile={"mode": "default"}),
            ],
        ),
    ],
    ids=["images", "words", "compiled"],
)
def test_what_is_worth_trying(model, compiled, expected, monkeypatch):
    monkeypatch.setattr(changes, "fast_dtypes", lambda device: ["bfloat16"])
    assert candidates(model, CPU, compiled) == expected


def test_torchscript_is_tried_frozen_first(monkeypatch):
    monkeypatch.setattr(changes, "fast_dtypes", lambda device: [])
    found = candidates(script(Images()), CPU, {})
    assert found == [
        Change(memory_format="channels_last", freeze=True),
        Change(freeze=True),
        Change(memory_format="channels_last"),
    ]


@pytest.mark.parametrize(
    ("abilities", "expected"),
    [
        ((), []),
        (("_is_avx512_bf16_supported",), ["bfloat16"]),
        (("_is_amx_tile_supported", "_is_amx_fp16_supported"), ["bfloat16", "float16"]),
    ],
)
def test_only_what_the_processor_computes_with_counts(abilities, expected, monkeypatch):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported", "_is_amx_fp16_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda has=name in abilities: has)
    assert changes.fast_dtypes(CPU) == expected


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), ["float16"]), ((9, 0), ["bfloat16", "float16"])]
)
def test_gpus_compute_with_short_numbers(capability, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert changes.fast_dtypes(torch.device("cuda:0")) == expected
    assert changes.fast_dtypes(torch.device("mps")) == []


def test_what_a_kind_of_model_cannot_have_is_said():
    assert "TorchScript can be frozen" in refusal(script(Images()), Change(compile={}))
    assert "can be compiled" in refusal(Images(), Change(freeze=True))
    assert refusal(Images(), BEST) is None


def test_sizes_are_known():
    assert changes.weights_bytes(Images()) == 4 * (4 * 3 * 3 * 3 + 4)
    assert changes.available_bytes() > 1 << 20
