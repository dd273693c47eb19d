"""docs/migrating-from-torchserve.md shows the differences that tests/compat/ claims."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "migrating-from-torchserve.md"
BEGIN, END = "<!-- differences: begin -->\n", "<!-- differences: end -->\n"
REMEDY = (
    "put the output of `pytest tests/compat --collect-only --differences FILE` between the marks"
)


def test_the_document_shows_the_differences_that_the_tables_claim(tmp_path):
    file = tmp_path / "differences.md"
    pytest = [sys.executable, "-m", "pytest", "tests/compat", "--collect-only", "-q"]
    options = ["-p", "no:cacheprovider", "--differences", str(file)]
    done = subprocess.run([*pytest, *options], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr

    shown = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]

    assert shown.strip() == file.read_text(encoding="utf-8").strip(), REMEDY
