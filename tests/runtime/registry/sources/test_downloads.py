"""How a download gets its name in the store, whatever the disk does meanwhile (CRASHFS)."""

import pytest
from fake_disk import FAULTS, FaultyDisk, SuddenEnd

from marserve.registry.sources.downloads import Downloads
from marserve_archiver.disk import DISK

URL = "https://host/m.mar"


def download(root, disk):
    downloads = Downloads(root, disk)
    with downloads.writing("m.mar") as partial:
        partial.file.write(b"an archive")
        return downloads.publish(partial, "m.mar", URL, False)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("fault", FAULTS)
def test_wherever_the_disk_fails_the_archive_is_there_with_its_origin_or_nothing_is(
    fault, tmp_path
):
    calls = 0
    for at in range(100):
        root = tmp_path / str(at)
        root.mkdir()
        disk = FaultyDisk(DISK, at, fault)
        try:
            download(root, disk)
        except OSError:
            assert names(root) == [], at
        except SuddenEnd:
            downloads = Downloads(root)  # the next start
            downloads.remove_stale()
            if (root / "m.mar").exists():
                assert downloads.origin("m.mar").url == URL, at
                downloads.forget("m.mar", keep=False)
            assert download(root, DISK).read_bytes() == b"an archive"
            assert names(root) == [".origin.m.mar", "m.mar"], at
        if not disk.was_hit:
            break
        calls += 1
    assert calls >= 8


def test_where_an_archive_came_from_is_on_the_disk_before_the_archive_has_its_name(tmp_path):
    """A power cut between them may keep any of the two that was not synced."""
    disk = FaultyDisk(DISK)
    download(tmp_path, disk)
    calls = [name for name, _ in disk.log if name in ("sync", "rename", "link")]
    assert calls == ["sync", "sync", "rename", "sync", "link", "sync"]
