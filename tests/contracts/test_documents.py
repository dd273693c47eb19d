"""The documents are the map: what they name is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("README.md")),
]
TOP_FOLDERS = (
    "runtime",
    "handlers",
    "archiver",
    "tests",
    "docs",
    "examples",
    "benchmarks",
    "scripts",
)
PATH = re.compile(rf"`((?:{'|'.join(TOP_FOLDERS)})/[\w./-]+)`")
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_path_that_a_document_names_exists(document: Path):
    text = document.read_text(encoding="utf-8")

    named = [ROOT / match for match in PATH.findall(text)]
    linked = [document.parent / match for match in LINK.findall(text)]

    assert [str(path) for path in named + linked if not path.exists()] == []


def test_the_architecture_names_every_module_folder_and_both_journeys():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    folders = {path.parent for path in (ROOT / "runtime" / "marserve").rglob("*.py")}

    unnamed = [folder.name for folder in folders if f"{folder.name}/" not in text]

    assert unnamed == []
    assert "## A request's journey" in text
    assert "## A version's life" in text
    assert len(PATH.findall(text)) > 40
