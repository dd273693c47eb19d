import hashlib
import os
import zipfile
from pathlib import Path

import pytest

from marserve_archiver import Manifest, Recipe, open_archive, pack
from marserve_archiver.errors import ArchiveError, ArchiveExists, InputMissing, TooLarge

FIXTURES = Path(__file__).parent.parent / "fixtures" / "archives"


@pytest.fixture
def archive_path(tmp_path):
    (tmp_path / "handler.py").write_text("def handle(data, context):\n    return data\n")
    (tmp_path / "weights.pt").write_bytes(os.urandom(100_000))
    recipe = Recipe(
        "m", "1.0", str(tmp_path / "handler.py"), serialized_file=tmp_path / "weights.pt"
    )
    return pack(recipe, tmp_path / "store")


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("deflate64.mar", "zip", 112_000),
        ("infozip.mar", "zip", 5000),
        ("infozip-streamed.mar", "zip", 5000),
        ("gnutar.tar.gz", "tgz", 5000),
        ("gnutar-top.tgz", "tgz", 5000),
    ],
)
def test_archives_by_other_tools_are_read_and_extracted_whole(name, kind, words, tmp_path):
    with open_archive(FIXTURES / name) as archive:
        archive.extract(tmp_path / "target")
        assert archive.kind == kind
        assert archive.manifest.model_name == "echo"
        assert archive.read("handler.py").startswith(b"def handle")
        vocabulary = archive.read("data/vocabulary.txt")
    assert len(vocabulary) == words
    found = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert found == {
        "target/MAR-INF/MANIFEST.json",
        "target/handler.py",
        "target/data/vocabulary.txt",
    }
    assert (tmp_path / "target/data/vocabulary.txt").read_bytes() == vocabulary


def test_an_archive_without_manifest_has_the_empty_one(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.mar", "w") as archive:
        archive.writestr("model.pt", b"x")
    with open_archive(tmp_path / "x.mar") as opened:
        assert opened.manifest == Manifest()


def test_the_digest_is_that_of_the_files_bytes(archive_path):
    with open_archive(archive_path) as archive:
        assert archive.sha256() == hashlib.sha256(archive_path.read_bytes()).hexdigest()


def test_what_is_extracted_is_what_was_hashed_whatever_happens_to_the_name(archive_path, tmp_path):
    digest = hashlib.sha256(archive_path.read_bytes()).hexdigest()
    with open_archive(archive_path) as archive:
        other = tmp_path / "other"
        other.write_bytes(b"something else")
        other.replace(archive_path)
        archive.extract(tmp_path / "target")
        assert archive.sha256() == digest
    weights = (tmp_path / "weights.pt").read_bytes()
    assert (tmp_path / "target" / "weights.pt").read_bytes() == weights


@pytest.mark.parametrize("use", ["sha256", "extract"])
def test_an_archive_written_to_while_open_is_refused(use, archive_path, tmp_path):
    with open_archive(archive_path) as archive:
        with archive_path.open("ab") as file:
            file.write(b"more")
        with pytest.raises(ArchiveError) as caught:
            archive.sha256() if use == "sha256" else archive.extract(tmp_path / "target")
    assert caught.value.reason == "changed"
    assert not (tmp_path / "target").exists()


def test_reading_is_bounded(archive_path):
    with open_archive(archive_path) as archive, pytest.raises(TooLarge):
        archive.read("weights.pt", limit_bytes=99_999)


def test_reading_a_name_that_is_not_there_is_a_key_error(archive_path):
    with open_archive(archive_path) as archive, pytest.raises(KeyError):
        archive.read("nothing.py")


def test_an_archive_that_does_not_exist_says_so(tmp_path):
    with pytest.raises(InputMissing, match=r"gone\.mar does not exist\."):
        open_archive(tmp_path / "gone.mar")


def test_a_named_pipe_is_refused_without_waiting_for_a_writer(tmp_path):
    os.mkfifo(tmp_path / "x.mar")
    with pytest.raises(ArchiveError) as caught:
        open_archive(tmp_path / "x.mar")
    assert caught.value.reason == "not-an-archive"


def test_extraction_never_replaces_what_is_there(archive_path, tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    (target / "mine").write_text("mine")
    with open_archive(archive_path) as archive, pytest.raises(ArchiveExists):
        archive.extract(target)
    assert [p.name for p in target.iterdir()] == ["mine"]
    assert not list(tmp_path.glob("*.partial"))


def test_extracted_files_and_folders_are_private(archive_path, tmp_path):
    with open_archive(archive_path) as archive:
        archive.extract(tmp_path / "target")
    modes = {p.stat().st_mode & 0o7777 for p in (tmp_path / "target").rglob("*") if p.is_file()}
    assert modes == {0o600}
    assert (tmp_path / "target").stat().st_mode & 0o7777 == 0o700


def test_weights_can_be_mapped_straight_from_the_archive(archive_path, tmp_path):
    with open_archive(archive_path) as archive:
        member = next(m for m in archive.members if m.name == "weights.pt")
    assert member.offset_bytes is not None
    assert member.offset_bytes % 4096 == 0
    content = archive_path.read_bytes()[member.offset_bytes :][: member.size_bytes]
    assert content == (tmp_path / "weights.pt").read_bytes()
