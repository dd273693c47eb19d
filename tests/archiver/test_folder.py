import os

import pytest

from marserve_archiver import Limits, open_archive
from marserve_archiver.errors import ArchiveError


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    (folder / "data").mkdir(parents=True)
    (folder / "handler.py").write_text("x = 1\n")
    (folder / "data/words.txt").write_text("a b c\n")
    return folder


def names(path):
    with open_archive(path) as archive:
        return [m.name for m in archive.members if not m.is_directory]


def refusal(path, **limits):
    with pytest.raises(ArchiveError) as caught, open_archive(path, Limits(**limits)) as archive:
        archive.sha256()
    return caught.value.reason


def digest(path):
    with open_archive(path) as archive:
        return archive.sha256()


def test_a_folder_is_read_in_place(model):
    with open_archive(model) as archive:
        assert (archive.kind, archive.folder) == ("folder", model)
        assert archive.read("data/words.txt") == b"a b c\n"
    assert names(model) == ["data/words.txt", "handler.py"]


def test_a_folder_with_one_directory_in_it_is_entered(model, tmp_path):
    (tmp_path / "outer").mkdir()
    model.rename(tmp_path / "outer/inner")
    with open_archive(tmp_path / "outer") as archive:
        assert archive.folder == tmp_path / "outer/inner"
    assert names(tmp_path / "outer") == ["data/words.txt", "handler.py"]


def test_a_folder_that_holds_nothing_but_a_manifest_is_not_entered(tmp_path):
    (tmp_path / "MAR-INF").mkdir()
    (tmp_path / "MAR-INF/MANIFEST.json").write_text("{}")
    assert names(tmp_path) == ["MAR-INF/MANIFEST.json"]


def test_caches_and_hidden_directories_do_not_count(model):
    before = digest(model)
    for name in ("__pycache__", ".git", "__MACOSX"):
        (model / name).mkdir()
        (model / name / "x").write_text("x")
        (model / "data" / name).mkdir()
    (model / "data/__pycache__/y").write_text("y")
    assert names(model) == ["data/words.txt", "handler.py"]
    assert digest(model) == before


def test_the_digest_follows_names_and_contents(model):
    seen = {digest(model)}
    (model / "handler.py").write_text("x = 2\n")
    seen.add(digest(model))
    (model / "handler.py").rename(model / "other.py")
    seen.add(digest(model))
    (model / "data/words.txt").rename(model / "words.txt")
    seen.add(digest(model))
    assert len(seen) == 4


def test_links_inside_the_folder_are_followed(model):
    (model / "alias.py").symlink_to("handler.py")
    (model / "more").symlink_to("data")
    assert names(model) == ["alias.py", "data/words.txt", "handler.py", "more/words.txt"]


@pytest.mark.parametrize("target", ["../secret", "/etc/passwd", "/etc"])
def test_a_link_that_leaves_the_folder_is_refused(model, target):
    (model.parent / "secret").write_text("secret")
    (model / "link").symlink_to(target)
    assert refusal(model) == "link"


def test_a_link_to_nothing_is_refused(model):
    (model / "link").symlink_to("gone")
    assert refusal(model) == "unreadable"


@pytest.mark.parametrize("target", [".", ".."])
def test_a_link_back_to_its_own_folder_is_refused(model, target):
    (model / "data/loop").symlink_to(target)
    assert refusal(model) == "link"


def test_a_link_to_itself_is_refused(model):
    (model / "loop").symlink_to("loop")
    assert refusal(model) == "unreadable"


def test_a_named_pipe_is_refused_without_being_opened(model):
    os.mkfifo(model / "pipe")
    assert refusal(model) == "special-file"


def test_too_many_files_are_refused(model):
    assert refusal(model, max_members=1) == "too-many-members"


def test_too_deep_a_folder_is_refused(model):
    (model / "/".join("abcdefg")).mkdir(parents=True)
    assert refusal(model, max_depth=5) == "too-deep"


def test_a_file_that_changes_while_it_is_read_is_noticed(model):
    with open_archive(model) as archive:
        (model / "handler.py").write_text("longer than before\n")
        with pytest.raises(ArchiveError) as caught:
            archive.sha256()
    assert caught.value.reason == "changed"


def test_a_folder_can_be_extracted_like_any_archive(model, tmp_path):
    with open_archive(model) as archive:
        archive.extract(tmp_path / "copy")
    assert (tmp_path / "copy/data/words.txt").read_text() == "a b c\n"
