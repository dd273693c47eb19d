"""F-ARC: any bytes are a gzipped tar archive that tarfile reads alike, or one typed refusal.

Bytes that are no gzip file are taken as the tar file in it, so that mutations reach its headers.
"""

import gzip
import io
import sys
import tarfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "harness"))

from forged_tar import directory, member, tar, tgz

from marserve_archiver import ArchiveError, Limits
from marserve_archiver.gunzip import GZIP_MARK
from marserve_archiver.tar_file import TarFile

_LIMITS = Limits(max_total_bytes=1 << 20, ratio_slack_bytes=1 << 16)
_FIXTURES = Path(__file__).parents[2] / "fixtures" / "archives"


SEEDS = [
    *(path.read_bytes() for path in _FIXTURES.glob("*gz")),
    tgz(member("MAR-INF/MANIFEST.json", b"{}"), directory("d"), member("d/a")),
    gzip.compress(b"") + tgz(member("a")),
    tar(directory("./"), member("./top/a"), member("./top/b", b"")),
    tar(member("x" * 200), member("b"), layout=tarfile.GNU_FORMAT),
    tar(member("d" * 90 + "/" + "a" * 90), layout=tarfile.USTAR_FORMAT),
    tar(member("y" * 200, pax_headers={"mtime": "1.5", "size": "5"}), headers={"comment": "c"}),
    tar(member("l", b"", tarfile.SYMTYPE, linkname="/etc")),
]


def _renumbered(archive: bytes, at: int, field: bytes) -> bytes:
    """With another number in the header at `at`, and a checksum that fits."""
    block = bytearray(archive[at : at + 512])
    block[329:337] = field
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return archive[:at] + bytes(block) + archive[at + 512 :]


# other readers take an archive to end where a number that we have no use for is damaged
SEEDS.append(_renumbered(tar(member("a"), member("b", b"")), 1024, b"\0" * 7 + b"u"))
SEEDS.append(tar(directory("./"), member("./top/a"), member("./")))
"""A file without a name is no folder at the top."""


def one_input(data: bytes) -> None:
    """Raises if anything but an ArchiveError comes out, or tarfile sees other content."""
    packed = data if data.startswith(GZIP_MARK) else gzip.compress(data, 1, mtime=0)
    try:
        archive = TarFile(io.BytesIO(packed), _LIMITS)
        ours = [b"".join(pieces) for member, pieces in archive.walk() if not member.is_directory]
    except ArchiveError:
        return
    try:
        with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as reference:
            files = [reference.extractfile(one) for one in reference if one.isfile()]
            theirs = [one.read() for one in files if one is not None]
    except (tarfile.TarError, ValueError, EOFError, OSError):
        return  # it is stricter here, or broken: then nobody sees anything else
    assert sorted(ours) == sorted(theirs)
