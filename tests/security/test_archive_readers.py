"""What we accept is what others read, too (SEC-04b), and what was hashed, too (SEC-18)."""

import io
import tarfile
from pathlib import Path

import pytest
import zipfile_deflate64
from honest_zips import HONEST
from swapped_archives import WAYS, SwappedStore

from marserve_archiver import open_archive

FIXTURES = Path(__file__).parents[1] / "fixtures" / "archives"
UNPACKS = 5
"""For each way of swapping; `benchmarks/reliability/archive_swaps.py` takes a thousand."""


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder with its content, and every folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def ours(path: Path, target: Path) -> dict[str, bytes | None]:
    with open_archive(path, check=lambda _: None) as archive:
        archive.extract(target)
    return tree(target)


@pytest.mark.parametrize(
    "content",
    [pytest.param(content, id=name) for name, content in HONEST.items()]
    + [pytest.param(path.read_bytes(), id=path.name) for path in FIXTURES.glob("*.mar")],
)
def test_zipfile_extracts_the_same_tree(content, tmp_path):
    """SEC-04b. `unzip` and `bsdtar`: `benchmarks/reliability/archive_readers.py`."""
    (tmp_path / "x.mar").write_bytes(content)
    with zipfile_deflate64.ZipFile(io.BytesIO(content)) as reference:
        for one in reference.infolist():
            if not one.flag_bits & 0x800:
                one.filename = _as_we_read(one.filename)
            reference.extract(one, tmp_path / "theirs")
    (tmp_path / "theirs").mkdir(exist_ok=True)
    assert ours(tmp_path / "x.mar", tmp_path / "ours") == tree(tmp_path / "theirs")


def _as_we_read(name: str) -> str:
    """Names without the flag for UTF-8 are read as UTF-8 where they are that, as macOS writes."""
    try:
        return name.encode("cp437").decode()
    except UnicodeDecodeError:
        return name


@pytest.mark.parametrize("path", [*FIXTURES.glob("*gz")], ids=lambda path: path.name)
def test_tarfile_extracts_the_same_files(path, tmp_path):
    """SEC-04b. One folder around everything is entered, as TorchServe enters it."""
    with tarfile.open(path) as reference:
        theirs = {
            one.name.removeprefix("./"): reference.extractfile(one).read()
            for one in reference
            if one.isfile()
        }
    found = {name: data for name, data in ours(path, tmp_path / "x").items() if data is not None}
    tops = {name.split("/")[0] for name in theirs}
    if len(tops) == 1:
        theirs = {name.partition("/")[2]: data for name, data in theirs.items()}
    assert found == theirs


@pytest.mark.parametrize("way", WAYS)
def test_an_archive_that_is_rewritten_all_the_time_is_accepted_whole_or_not_at_all(way, tmp_path):
    """SEC-18: the digest is that of what was extracted, however the file is changed meanwhile."""
    accepted, refused, swaps = SwappedStore(tmp_path).unpack(UNPACKS, way)
    assert accepted + refused == UNPACKS
    assert swaps > 1
    if way in ("links", "files"):  # each of them is whole: none is refused
        assert refused == 0
