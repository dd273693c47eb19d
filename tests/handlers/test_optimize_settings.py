import pytest

from marserve_handlers.errors import HandlerLoadFailed
from marserve_handlers.optimize_settings import Change, OptimizeSettings, optimize_settings


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, None),
        ({"optimize": None}, None),
        ({"optimize": False}, None),
        ({"optimize": "auto"}, OptimizeSettings(is_auto=True)),
        ({"optimize": True}, OptimizeSettings(is_auto=True)),
        ({"optimize": {}}, OptimizeSettings()),
        (
            {"optimize": {"dtype": "bfloat16", "memory_format": "channels_last"}},
            OptimizeSettings(change=Change("bfloat16", "channels_last")),
        ),
        ({"optimize": {"freeze": True}}, OptimizeSettings(change=Change(freeze=True))),
        ({"optimize": {"compile": True}}, OptimizeSettings(change=Change(compile={}))),
        ({"optimize": {"compile": False}}, OptimizeSettings()),
        (
            {"optimize": {"compile": {"enable": True, "mode": "max-autotune"}}},
            OptimizeSettings(change=Change(compile={"mode": "max-autotune"})),
        ),
        ({"optimize": {"compile": {"enable": False}}}, OptimizeSettings()),
        (
            {"optimize": {"auto": True, "compile": True, "budget": 60, "gain": 1.5}},
            OptimizeSettings(is_auto=True, change=Change(compile={}), budget_s=60.0, min_gain=1.5),
        ),
        (
            {"optimize": {"tolerance": 0, "agreement": 1, "sample": [1, 3, 8, 8], "dtype": None}},
            OptimizeSettings(tolerance=0.0, agreement=1.0, sample=(1, 3, 8, 8)),
        ),
        (
            {"optimize": {"sample": "cat.jpg", "check": False}},
            OptimizeSettings(sample="cat.jpg", is_checked=False),
        ),
    ],
)
def test_what_each_form_of_the_key_asks_for(document, expected):
    assert optimize_settings(document) == expected


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("fast", "optimize is 'fast'; in model-config.yaml it is auto, or settings by name"),
        (["bfloat16"], "settings by name"),
        ({"dtype": "bf16"}, "optimize.dtype is 'bf16', not float32 or bfloat16 or float16"),
        ({"dtype": ["bfloat16"]}, "optimize.dtype is"),
        ({"memory_format": "nhwc"}, "optimize.memory_format is 'nhwc'"),
        ({"dtyp": "bfloat16"}, "no setting 'dtyp'; did you mean dtype"),
        ({"quantize": True}, "no setting 'quantize'. It takes auto, dtype"),
        ({3: True}, "no setting '3'"),
        ({"freeze": "yes"}, "optimize.freeze is 'yes', not true or false"),
        ({"tolerance": -1}, "optimize.tolerance is -1, not a number from 0 to 10"),
        ({"tolerance": True}, "optimize.tolerance is True"),
        ({"tolerance": float("nan")}, "optimize.tolerance is nan"),
        ({"agreement": 2}, "optimize.agreement"),
        ({"gain": 0.5}, "optimize.gain"),
        ({"budget": 0}, "optimize.budget"),
        ({"sample": [0, 3]}, "optimize.sample is"),
        ({"sample": []}, "the shape of an input"),
        ({"sample": ""}, "optimize.sample"),
        ({"compile": 3}, "optimize.compile is 3"),
        ({"check": 1}, "optimize.check is 1"),
        ({"auto": True, "dtype": "bfloat16"}, "finds dtype, memory_format and freeze itself"),
        ({"auto": True, "check": False}, "auto has to compare"),
        ({"freeze": True, "compile": True}, "name one of them"),
    ],
)
def test_a_wrong_value_is_refused_by_name(value, says):
    with pytest.raises(HandlerLoadFailed) as caught:
        optimize_settings({"optimize": value})
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (Change(), "plain"),
        (Change("bfloat16", "channels_last", freeze=True), "bfloat16 + channels_last + freeze"),
        (Change(compile={}), "compile"),
        (Change(compile={"mode": "max-autotune"}), "compile(mode=max-autotune)"),
    ],
)
def test_a_change_has_a_name(change, name):
    assert str(change) == name
    assert change.is_plain == (name == "plain")
