"""Opens and extracts archives in a process of its own, and tells what each of them cost.

`python archive_judge.py FOLDER`: for each folder in FOLDER, its archive `x.mar`, `x.tar.gz` or `x`
is extracted to `target` beside it. One line of JSON: by folder, the reason of the refusal (or
"accepted"), seconds of the processor, and by how many MiB memory rose above what it was.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from marserve_archiver import ArchiveError, open_archive


def judged(folder: Path) -> tuple[str, float, float]:
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = memory_mib("VmRSS")
    began = time.process_time()
    reason = refused(folder)
    return reason, time.process_time() - began, memory_mib("VmHWM") - before


def refused(folder: Path) -> str:
    [path] = [one for name in ("x.mar", "x.tar.gz", "x") if (one := folder / name).exists()]
    try:
        with open_archive(path, check=lambda _: None) as archive:
            archive.sha256()
            archive.extract(folder / "target")
    except ArchiveError as error:
        return error.reason
    except Exception as error:  # noqa: BLE001  whatever it is, it is a finding
        return f"{type(error).__name__}: {error}"
    return "accepted"


def memory_mib(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(name)


if __name__ == "__main__":
    print(json.dumps({one.name: judged(one) for one in sorted(Path(sys.argv[1]).iterdir())}))
