import dataclasses
import re
from pathlib import Path

import pytest

from marserve import settings_documents
from marserve.config import build
from marserve.config_source import Source
from marserve.settings import SETTINGS

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config.properties.example"
REFERENCE = ROOT / "docs" / "configuration.md"
COMMENTED_SETTING = re.compile(r"^#([a-z0-9_]+)=(.*)$", re.MULTILINE)


def built(text):
    return build(Source(text=text), {}, {"HOME": "/home/me"}, Path("/cwd"))


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


@pytest.mark.parametrize("without", ["load_models", "model_snapshot"])
def test_the_example_loads_without_warnings_when_every_setting_is_taken(without):
    """But for one: a snapshot says what is loaded, and load_models would not count."""
    everything = COMMENTED_SETTING.sub(r"\1=\2", EXAMPLE.read_text())
    loaded = built(re.sub(rf"^{without}=", f"# {without}=", everything, flags=re.MULTILINE))
    assert loaded.warnings == ()
    settings = [one for one in SETTINGS.values() if not one.default and one.key != without]
    defaults = built("").config
    shown = {one.field: getattr(loaded.config, one.field) for one in settings}
    texts = dict(loaded.config.properties)
    assert loaded.config == dataclasses.replace(defaults, properties=texts, **shown)
    assert all(value != getattr(defaults, name) for name, value in shown.items())


def test_the_reference_explains_every_setting():
    for key in SETTINGS:
        assert f"\n| `{key}` | " in REFERENCE.read_text()


def test_lines_are_no_longer_than_a_screen():
    assert max(map(len, EXAMPLE.read_text().splitlines())) <= 100
