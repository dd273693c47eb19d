import inspect
import re
from pathlib import Path

import pytest

from marserve_handlers import hookspecs

ROOT = Path(__file__).parents[2]
HOOKS = {name: value for name, value in vars(hookspecs).items() if name.startswith("marserve_")}


def test_the_hooks_are_these():
    assert sorted(HOOKS) == ["marserve_handler", "marserve_handler_names", "marserve_preload"]


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_says_what_it_is_in_one_sentence(name):
    assert re.fullmatch(r"[A-Z][^\n]*\.", inspect.getdoc(HOOKS[name]) or "")


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_has_a_heading_with_its_arguments_in_the_docs(name):
    arguments = ", ".join(inspect.signature(HOOKS[name]).parameters)
    text = (ROOT / "docs" / "handlers.md").read_text(encoding="utf-8")
    assert re.search(rf"^#+ `{name}\({re.escape(arguments)}\)`$", text, re.MULTILINE)


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_is_called_by_a_test_of_the_plugins(name):
    text = (ROOT / "tests" / "runtime" / "test_plugins.py").read_text(encoding="utf-8")
    assert f"def {name}(" in text
