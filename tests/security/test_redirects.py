"""SEC-06: no redirect and no resolver leads the fetcher to where it may not go.

The cases are those of benchmarks/reliability/fetcher.py, which makes 5,000 of them; in a process of
its own, because an audit hook stays for good.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

FETCHER = Path(__file__).parents[2] / "benchmarks" / "reliability" / "fetcher.py"


def test_no_case_connects_to_where_it_was_not_allowed():
    done = subprocess.run(
        [sys.executable, str(FETCHER), "--n", "400", "--seed", "6"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.match(r"pass  redirected fetches: .*: 0 \(bar 0, N = 400;", done.stdout)
