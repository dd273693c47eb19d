import dataclasses
import re
from pathlib import Path

import pytest

from marserve import settings_documents
from marserve.config import build
from marserve.settings import SETTINGS

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config.properties.example"
REFERENCE = ROOT / "docs" / "configuration.md"
COMMENTED_SETTING = re.compile(r"^#([a-z_]+)=(.*)$", re.MULTILINE)


def built(text):
    return build(text, None, {}, {"HOME": "/home/me"}, Path("/cwd"))


@pytest.mark.parametrize(
    ("path", "generated", "command"),
    [
        (EXAMPLE, settings_documents.example, "example > config.properties.example"),
        (REFERENCE, settings_documents.reference, "reference > docs/configuration.md"),
    ],
)
def test_the_document_is_what_the_table_says(path, generated, command):
    assert path.read_text() == generated(), f"run: marserve config {command}"


def test_the_example_shows_every_setting_once():
    shown = [key for key, _ in COMMENTED_SETTING.findall(EXAMPLE.read_text())]
    assert shown == list(SETTINGS)


def test_the_example_loads_as_it_is_and_means_the_defaults():
    loaded = built(EXAMPLE.read_text())
    assert loaded == built("")
    assert loaded.warnings == ()


def test_the_example_loads_without_warnings_when_every_setting_is_taken():
    loaded = built(COMMENTED_SETTING.sub(r"\1=\2", EXAMPLE.read_text()))
    assert loaded.warnings == ()
    without_default = {setting.field for setting in SETTINGS.values() if not setting.default}
    defaults = built("").config
    shown = {name: getattr(loaded.config, name) for name in without_default}
    assert loaded.config == dataclasses.replace(defaults, **shown)
    assert all(value != getattr(defaults, name) for name, value in shown.items())


def test_the_reference_explains_every_setting():
    for key in SETTINGS:
        assert f"\n| `{key}` | " in REFERENCE.read_text()


def test_lines_are_no_longer_than_a_screen():
    assert max(map(len, EXAMPLE.read_text().splitlines())) <= 100
