import subprocess
import sys

import pytest

import marserve_handlers

LIGHT = [
    "marserve_handlers",
    "marserve_handlers.builtin",
    "marserve_handlers.entry_point",
    "marserve_handlers.payload",
    "marserve_handlers.testing",
    "marserve_handlers.torchserve",
]


@pytest.mark.parametrize("module", LIGHT)
def test_a_fresh_interpreter_imports_no_framework_with_it(module):
    heavy = "{'torch', 'numpy', 'flask', 'PIL', 'sklearn', 'yaml', 'msgspec', 'marserve'}"
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_face_is_sorted_and_complete():
    assert list(marserve_handlers.__all__) == sorted(marserve_handlers.__all__)
    for name in marserve_handlers.__all__:
        assert getattr(marserve_handlers, name) is not None
