import os
import stat
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from marserve_archiver import Recipe, open_archive, pack
from marserve_archiver.errors import ArchiveError, InputInvalid
from marserve_archiver.packing import ARCHIVE_FORMATS

RANDOM = os.urandom(300_000)
SUFFIX = {"default": ".mar", "zip-store": ".mar", "tgz": ".tar.gz", "no-archive": ""}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    Path("handler.py").write_text("def handle(data, context):\n    return data\n")
    Path("net.pt").write_bytes(RANDOM)
    Path("tree/sub").mkdir(parents=True)
    Path("tree/sub/words.txt").write_text("word\n" * 50_000)
    return tmp_path


def recipe(**changes) -> Recipe:
    values = {"model_name": "m", "version": "1.0", "handler": "handler.py"}
    values |= {"serialized_file": Path("net.pt"), "extra_files": ("tree",)}
    return Recipe(**(values | changes))


def names_below(folder: Path = Path("store")) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("archive_format", ARCHIVE_FORMATS)
def test_every_format_is_read_back_with_the_same_content(archive_format):
    path = pack(recipe(), Path("new/store"), archive_format)
    assert path == Path(f"new/store/m{SUFFIX[archive_format]}")
    with open_archive(path) as archive:
        files = [member.name for member in archive.members if not member.is_directory]
        assert sorted(files) == ["MAR-INF/MANIFEST.json", "handler.py", "net.pt", "sub/words.txt"]
        assert archive.read("net.pt") == RANDOM
        assert archive.manifest.serialized_file == "net.pt"
    assert [p.name for p in Path("new/store").iterdir()] == [path.name]


@pytest.mark.parametrize("archive_format", ["default", "zip-store", "tgz"])
def test_the_same_files_give_the_same_bytes(archive_format):
    one = pack(recipe(), Path("one"), archive_format).read_bytes()
    for path in Path("tree").rglob("*"):
        os.utime(path, (time.time() + 1000, time.time() + 1000))
    Path("net.pt").chmod(0o777)
    Path("copy.py").write_bytes(Path("handler.py").read_bytes())
    Path("copy.py").replace("handler.py")
    assert pack(recipe(), Path("other"), archive_format).read_bytes() == one


def test_weights_are_stored_at_page_boundaries_and_text_is_deflated():
    path = pack(recipe(), Path("store"))
    with open_archive(path) as archive:
        members = {member.name: member for member in archive.members}
    assert (members["net.pt"].method, members["net.pt"].offset_bytes % 4096) == ("stored", 0)
    assert members["sub/words.txt"].method == "deflated"
    assert members["sub/words.txt"].packed_bytes < 5000


def test_zip_store_stores_everything():
    with zipfile.ZipFile(pack(recipe(), Path("store"), "zip-store")) as archive:
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


def test_members_are_sorted_behind_the_manifest_with_fixed_time_and_mode():
    with zipfile.ZipFile(pack(recipe(), Path("store"))) as archive:
        entries = archive.infolist()
        assert archive.testzip() is None
    names = [entry.filename for entry in entries]
    assert names == ["MAR-INF/MANIFEST.json", "handler.py", "net.pt", "sub/words.txt"]
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.external_attr >> 16 for entry in entries} == {stat.S_IFREG | 0o644}
    assert {entry.flag_bits for entry in entries} == {0}


def test_a_member_with_zip64_fields_is_aligned_too(monkeypatch):
    monkeypatch.setattr("marserve_archiver.writers._ZIP64_FROM_BYTES", 1000)
    path = pack(recipe(), Path("store"))
    with open_archive(path) as archive:
        offset = next(m.offset_bytes for m in archive.members if m.name == "net.pt")
        assert archive.read("net.pt") == RANDOM
    assert offset % 4096 == 0
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None


def test_tgz_has_one_top_directory_and_no_trace_of_the_machine():
    path = pack(recipe(), Path("store"), "tgz")
    with tarfile.open(path) as archive:
        entries = archive.getmembers()
    assert [entry.name for entry in entries][:2] == ["m/MAR-INF/MANIFEST.json", "m/handler.py"]
    assert {(e.uid, e.gid, e.uname, e.gname, e.mode, e.mtime) for e in entries} == {
        (0, 0, "", "", 0o644, 315_532_800)
    }
    header = path.read_bytes()[:10]
    assert (header[3], header[4:8]) == (0, bytes(4))  # no file name, no time


def test_a_very_long_text_that_would_look_like_a_bomb_is_stored():
    Path("blank.txt").write_text(" " * 3_000_000)
    path = pack(recipe(extra_files=("blank.txt",)), Path("store"))
    with open_archive(path) as archive:
        assert next(m.method for m in archive.members if m.name == "blank.txt") == "stored"


def test_what_the_reader_would_refuse_is_never_written():
    Path("blank.bin").write_bytes(bytes(3_000_000))
    with pytest.raises(InputInvalid, match="no server would take"):
        pack(
            Recipe("m", "1.0", "base_handler", serialized_file=Path("blank.bin")),
            Path("store"),
            "tgz",
        )
    assert names_below() == []


@pytest.mark.parametrize("archive_format", ARCHIVE_FORMATS)
def test_an_archive_is_replaced_only_by_force(archive_format):
    path = pack(recipe(), Path("store"), archive_format)
    before = names_below()
    with pytest.raises(ArchiveError, match=r"exists already; add --force") as caught:
        pack(recipe(version="2.0"), Path("store"), archive_format)
    assert caught.value.reason == "exists"
    pack(recipe(version="2.0"), Path("store"), archive_format, force=True)
    with open_archive(path) as archive:
        assert archive.manifest.model_version == "2.0"
    assert names_below() == before


def test_force_never_replaces_a_folder_that_is_no_archive():
    Path("store/m").mkdir(parents=True)
    Path("store/m/thesis.txt").write_text("three years of work")
    with pytest.raises(ArchiveError) as caught:
        pack(recipe(), Path("store"), "no-archive", force=True)
    assert caught.value.reason == "exists"
    assert names_below() == ["m", "m/thesis.txt"]


def test_the_archive_being_written_cannot_be_packed_into_itself():
    pack(recipe(), Path("tree"))
    with pytest.raises(InputInvalid, match="leave it out of the extra files"):
        pack(recipe(), Path("tree"), force=True)


def test_an_export_path_that_is_a_file_is_refused():
    with pytest.raises(InputInvalid, match=r"handler\.py is not a folder"):
        pack(recipe(), Path("handler.py"))


@pytest.mark.parametrize("archive_format", ARCHIVE_FORMATS)
@pytest.mark.parametrize("change", [b"longer" * 100_000, b"", RANDOM[:-1], RANDOM + b"x"])
def test_a_file_that_changes_while_it_is_packed_leaves_nothing(archive_format, change):
    def meddle(done_bytes, total_bytes):
        Path("tree/sub/words.txt").write_bytes(change)

    with pytest.raises(InputInvalid, match="changed while it was packed"):
        pack(recipe(), Path("store"), archive_format, on_progress=meddle)
    assert names_below() == []


@pytest.mark.parametrize("archive_format", ARCHIVE_FORMATS)
def test_an_interrupt_leaves_nothing(archive_format):
    def interrupt(done_bytes, total_bytes):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(recipe(), Path("store"), archive_format, on_progress=interrupt)
    assert names_below() == []


def test_two_packs_at_once_do_not_replace_each_other():
    def other_pack(done_bytes, total_bytes):
        Path("store/m.mar").write_text("the other was faster")

    with pytest.raises(ArchiveError) as caught:
        pack(recipe(), Path("store"), on_progress=other_pack)
    assert caught.value.reason == "exists"
    assert names_below() == ["m.mar"]
    assert Path("store/m.mar").read_text() == "the other was faster"


def test_progress_ends_with_everything():
    seen = []
    pack(recipe(), Path("store"), on_progress=lambda done, total: seen.append((done, total)))
    total = sum(
        Path(name).stat().st_size for name in ("handler.py", "net.pt", "tree/sub/words.txt")
    )
    assert seen[-1] == (total, total)
    assert seen == sorted(seen)


def test_an_archive_can_be_read_by_others_than_its_owner():
    umask = os.umask(0o022)
    try:
        assert pack(recipe(), Path("store")).stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(umask)


def test_memory_does_not_grow_with_the_weights(tmp_path):
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from marserve_archiver import Recipe, open_archive, pack\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "path = pack(Recipe('m', '1', 'base_handler', serialized_file=Path('big.pt')))\n"
        "with open_archive(path) as archive:\n"
        "    archive.sha256()\n"
        "    archive.extract(Path('target'))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    with Path("big.pt").open("wb") as file:
        file.truncate(200_000_000)

    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=True,
        text=True,
    )
    assert int(done.stdout) < 32_000  # KiB
