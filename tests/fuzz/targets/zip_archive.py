"""F-ARC: any bytes are a zip archive that everybody reads alike, or one typed refusal."""

import io
import os
import sys
from pathlib import Path

import zipfile_deflate64

sys.path.insert(0, str(Path(__file__).parents[2] / "harness"))

from honest_zips import HONEST

from marserve_archiver import ArchiveError, Limits, open_archive

_LIMITS = Limits(max_total_bytes=1 << 20, ratio_slack_bytes=1 << 16)
_FILE = os.memfd_create("fuzzed.mar")

SEEDS = [content for content in HONEST.values() if len(content) < 4096]


def one_input(data: bytes) -> None:
    """Raises if anything but an ArchiveError comes out, or another reader sees other content."""
    os.truncate(_FILE, 0)
    os.pwrite(_FILE, data, 0)
    try:
        with open_archive(Path(f"/proc/self/fd/{_FILE}"), _LIMITS, check=lambda _: None) as archive:
            ours = {m.name: archive.read(m) for m in archive.members if not m.is_directory}
    except ArchiveError:
        return
    with zipfile_deflate64.ZipFile(io.BytesIO(data)) as reference:
        theirs = [reference.read(one) for one in reference.infolist() if not one.is_dir()]
    assert sorted(ours.values()) == sorted(theirs)
