import logging
import sys
from types import ModuleType

import pytest
import torch

from marserve_handlers.compile import (
    PT2Backend,
    accelerated,
    check_valid_pt2_backend,
    compile_options,
    load_compiler_config,
)

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def errors_stay_as_they_were():
    before = torch._dynamo.config.suppress_errors
    yield
    torch._dynamo.config.suppress_errors = before
    torch._dynamo.reset()


class Double(torch.nn.Module):
    def forward(self, x):
        return x * 2


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({}, None),
        ({"pt2": {"compile": {"enable": True}}}, {}),
        (
            {
                "pt2": {
                    "compile": {"enable": True, "backend": "inductor", "mode": "reduce-overhead"}
                }
            },
            {"backend": "inductor", "mode": "reduce-overhead"},
        ),
        ({"pt2": {"compile": {"enable": False, "backend": "inductor"}}}, None),
        ({"pt2": {"compile": {"backend": "inductor"}}}, None),
        ({"pt2": {"compile": {"enable": True, "backend": "tvm"}}}, None),
        ({"pt2": {"export": {"aot_compile": True}}}, None),
        ({"pt2": "inductor"}, {"backend": "inductor"}),
        (
            {"pt2": {"backend": "aot_eager", "dynamic": True}},
            {"backend": "aot_eager", "dynamic": True},
        ),
        ({"pt2": {}}, {}),
        ({"pt2": "tvm"}, None),
    ],
)
def test_what_each_form_of_the_setting_asks_for(settings, options):
    assert compile_options(settings) == options


def test_the_settings_stay_as_they_are():
    settings = {"pt2": {"compile": {"enable": True, "backend": "eager"}}}
    compile_options(settings)
    assert settings == {"pt2": {"compile": {"enable": True, "backend": "eager"}}}


@pytest.mark.parametrize(
    ("pt2", "says"),
    [(3, "should be str or dict, not int"), ({"compile": "x"}, "should be a map, not str")],
)
def test_a_setting_of_another_kind_is_refused(pt2, says):
    with pytest.raises(ValueError, match=says):
        compile_options({"pt2": pt2})


def test_only_known_backends_are_valid(caplog):
    assert all(check_valid_pt2_backend(backend.value) for backend in PT2Backend)
    assert not check_valid_pt2_backend("tvm")
    assert "tvm is not a supported backend" in caplog.text


def test_a_compiled_model_answers_the_same_and_says_with_what(caplog):
    settings = {"pt2": {"compile": {"enable": True, "backend": "aot_eager", "fullgraph": True}}}
    with caplog.at_level(logging.INFO):
        model = accelerated(Double().eval(), settings, CPU)
    assert isinstance(model, torch._dynamo.OptimizedModule)
    with torch.inference_mode():
        assert model(torch.ones(2)).tolist() == [2.0, 2.0]
    assert "Compiled model with backend aot_eager, fullgraph True" in caplog.messages


def test_a_backend_that_is_not_installed_leaves_the_model_uncompiled(caplog):
    model = Double()
    assert (
        accelerated(model, {"pt2": {"compile": {"enable": True, "backend": "ipex"}}}, CPU) is model
    )
    assert "Compiling model model with backend ipex has failed" in caplog.text
    assert "Proceeding without compilation" in caplog.text
    assert "intel_extension_for_pytorch" in caplog.text


def test_a_backend_that_fails_at_the_first_request_does_not_fail_the_request(monkeypatch):
    def broken(graph, inputs):
        raise RuntimeError("no compiler here")

    torch._dynamo.register_backend(broken, name="ofi")
    model = accelerated(Double(), {"pt2": {"compile": {"enable": True, "backend": "ofi"}}}, CPU)
    with torch.inference_mode():
        assert model(torch.ones(2)).tolist() == [2.0, 2.0]


def test_ipex_optimises_only_what_is_not_compiled(monkeypatch):
    ipex = ModuleType("intel_extension_for_pytorch")
    ipex.optimize = lambda model: ("optimised", model)
    monkeypatch.setitem(sys.modules, ipex.__name__, ipex)
    monkeypatch.setenv("TS_IPEX_ENABLE", "true")
    model = Double()
    assert accelerated(model, {}, CPU) == ("optimised", model)
    compiled = accelerated(model, {"pt2": {"compile": {"enable": True, "backend": "eager"}}}, CPU)
    assert isinstance(compiled, torch._dynamo.OptimizedModule)
    monkeypatch.setenv("TS_IPEX_ENABLE", "false")
    assert accelerated(model, {}, CPU) is model


def test_ipex_that_is_not_installed_is_said(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "intel_extension_for_pytorch", None)
    monkeypatch.setenv("TS_IPEX_ENABLE", "true")
    model = Double()
    assert accelerated(model, {}, CPU) is model
    assert "pip install intel-extension-for-pytorch" in caplog.text


def test_the_old_file_about_compilers_is_read(tmp_path):
    assert load_compiler_config(tmp_path / "compile.json") is None
    (tmp_path / "compile.json").write_text('{"pt2": "inductor"}')
    assert load_compiler_config(str(tmp_path / "compile.json")) == {"pt2": "inductor"}
