import errno
import hashlib
import os
import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from scripted_http import reply, scripted_http

from marserve.errors import (
    ArchiveExistsInStore,
    ArchiveNotFound,
    ArchiveRefused,
    DiskFull,
    DownloadFailed,
    InvalidInput,
    StoreMissing,
)
from marserve.protocols.faults import fault
from marserve.registry.sources.allowed import AllowedUrls
from marserve.registry.sources.fetcher import Fetcher
from marserve.registry.sources.landing import Limits
from marserve.registry.sources.s3 import Credentials
from marserve.registry.store import ModelStore, Unpacked
from marserve_archiver import Archive, ArchiveError, Recipe, pack
from marserve_archiver.disk import Disk

REMOTE = "Given URL {} does not match any allowed URL(s)"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@pytest.fixture
def store(root, tmp_path):
    return ModelStore(root, tmp_path / "cache")


def put(root: Path, name: str = "m", content: bytes = b"weights", **options) -> Path:
    source = root.parent / "source"
    source.mkdir(exist_ok=True)
    (source / "net.pt").write_bytes(content)
    recipe = Recipe(name, "1.0", "base_handler", serialized_file=source / "net.pt")
    return pack(recipe, root, force=True, **options)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- finding ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["m.mar", "/anywhere/m.mar", "some/where/m.mar", "./m.mar", "/m.mar"]
)
def test_only_the_last_part_of_a_url_names_the_archive(url, store, root):
    path = put(root)
    assert store.find(url) == path


@pytest.mark.parametrize("url", ["folder", "folder/", "/elsewhere/folder/"])
def test_a_folder_in_the_store_is_found(url, store, root):
    (root / "folder").mkdir()
    assert store.find(url) == root / "folder"


def test_a_link_out_of_the_store_is_the_operators_business(store, root, tmp_path):
    put(tmp_path).rename(tmp_path / "elsewhere.mar")
    (root / "linked.mar").symlink_to(tmp_path / "elsewhere.mar")
    assert store.find("linked.mar") == root / "linked.mar"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "empty url"),
        ("../m.mar", "Relative path is not allowed in url: ../m.mar"),
        ("a/../m.mar", "Relative path is not allowed in url: a/../m.mar"),
        ("..", "Relative path is not allowed in url: .."),
        ("http://host/m.mar", REMOTE.format("http://host/m.mar")),
        ("HTTPS://host/m.mar", REMOTE.format("HTTPS://host/m.mar")),
        ("file:///etc/m.mar", REMOTE.format("file:///etc/m.mar")),
        ("s3://bucket/m.mar", REMOTE.format("s3://bucket/m.mar")),
        ("ftp://host/m.mar", "Model not found at: ftp://host/m.mar"),
        ("gone.mar", "Model not found at: gone.mar"),
        (".hidden.mar", "Model not found at: .hidden.mar"),
        ("x/.hidden.mar", "Model not found at: x/.hidden.mar"),
        ("/", "Model not found at: /"),
        (".", "Model not found at: ."),
        ("pipe.mar", "Model not found at: pipe.mar"),
        ("dangling.mar", "Model not found at: dangling.mar"),
        ("m" * 300, "Model not found at: " + "m" * 300),
    ],
)
def test_what_is_not_in_the_store_is_not_found(url, message, store, root):
    put(root)
    (root / ".hidden.mar").touch()
    os.mkfifo(root / "pipe.mar")
    (root / "dangling.mar").symlink_to("gone")
    with pytest.raises(ArchiveNotFound) as caught:
        store.find(url)
    assert str(caught.value) == message


def test_a_folder_elsewhere_on_the_machine_is_not_served(store, tmp_path):
    (tmp_path / "uploads").mkdir()
    with pytest.raises(ArchiveNotFound):
        store.find(str(tmp_path / "uploads"))


@pytest.mark.parametrize("url", ["a\0b.mar", "a\nb.mar", "a\\b.mar", "m\ud800.mar"])
def test_a_url_with_impossible_characters_is_invalid_input(url, store):
    with pytest.raises(InvalidInput):
        store.find(url)


def test_without_a_store_nothing_is_found(tmp_path):
    store = ModelStore(None, tmp_path / "cache")
    with pytest.raises(StoreMissing, match="Model store has not been configured"):
        store.find("m.mar")
    assert store.all_archives() == ()


# --- listing ---------------------------------------------------------------------------------


def test_all_archives_and_model_folders_are_listed_sorted(store, root):
    for name in ("b.mar", "a.mar", "c.model", "d.tar.gz", "e.tgz", ".f.mar", "notes.txt", "g.zip"):
        (root / name).touch()
    (root / "folder/MAR-INF").mkdir(parents=True)
    (root / "outer/inner/MAR-INF").mkdir(parents=True)
    (root / "not-a-model/data").mkdir(parents=True)
    (root / ".cache/MAR-INF").mkdir(parents=True)
    (root / "directory.mar").mkdir()
    assert store.all_archives() == (
        "a.mar",
        "b.mar",
        "c.model",
        "d.tar.gz",
        "e.tgz",
        "folder",
        "outer",
    )


def test_a_cache_inside_the_store_is_no_model(root):
    store = ModelStore(root, root / "cache")
    (root / "cache/MAR-INF").mkdir()
    assert store.all_archives() == ()


def test_a_store_that_is_not_there_holds_nothing(tmp_path):
    assert ModelStore(tmp_path / "gone", tmp_path / "cache").all_archives() == ()


# --- unpacking -------------------------------------------------------------------------------


def test_an_archive_is_unpacked_under_its_digest(store, root, tmp_path):
    path = put(root)
    unpacked = store.unpack(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert unpacked == Unpacked(tmp_path / "cache" / digest, unpacked.manifest, digest)
    assert unpacked.manifest.model_name == "m"
    assert (unpacked.model_dir / "net.pt").read_bytes() == b"weights"


@pytest.mark.parametrize("archive_format", ["tgz", "zip-store"])
def test_every_packed_format_is_unpacked(archive_format, store, root):
    unpacked = store.unpack(put(root, archive_format=archive_format))
    assert (unpacked.model_dir / "net.pt").read_bytes() == b"weights"


def test_a_second_time_nothing_is_extracted(store, root, monkeypatch):
    path = put(root)
    first = store.unpack(path)
    monkeypatch.setattr(Archive, "extract", None)
    assert store.unpack(path) == first


def test_the_same_bytes_under_another_name_are_unpacked_once(store, root, tmp_path):
    path = put(root)
    (root / "copy.mar").write_bytes(path.read_bytes())
    assert store.unpack(path).model_dir == store.unpack(root / "copy.mar").model_dir
    assert len(names(tmp_path / "cache")) == 1


def test_a_folder_is_served_where_it_lies(store, root, tmp_path):
    path = put(root, archive_format="no-archive")
    unpacked = store.unpack(path)
    assert unpacked.model_dir == path
    assert unpacked.manifest.serialized_file == "net.pt"
    assert names(tmp_path / "cache") == []
    (path / "net.pt").write_bytes(b"changed")
    assert store.unpack(path).digest != unpacked.digest


def test_a_broken_archive_is_refused_with_its_name_and_cause(store, root, tmp_path):
    path = put(root)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ArchiveRefused) as caught:
        store.unpack(path)
    assert str(caught.value) == "m.mar is refused: The archive is cut short inside its end record."
    assert isinstance(caught.value.__cause__, ArchiveError)
    assert names(tmp_path / "cache") == []


def test_a_hostile_archive_leaves_nothing_in_the_cache(store, root, tmp_path):
    with zipfile.ZipFile(root / "evil.mar", "w") as archive:
        archive.writestr("fine.txt", "fine")
        archive.writestr("../../evil", "evil")
    with pytest.raises(ArchiveRefused, match=r"evil\.mar is refused: .*has the part '\.\.'"):
        store.unpack(root / "evil.mar")
    assert names(tmp_path / "cache") == []


def test_an_archive_that_vanished_is_not_found(store, root):
    with pytest.raises(ArchiveNotFound, match=r"Model not found at: gone\.mar"):
        store.unpack(root / "gone.mar")


def test_a_cache_that_cannot_be_written_is_a_sentence(store, root, tmp_path):
    path = put(root)
    (tmp_path / "cache").rmdir()
    with pytest.raises(ArchiveRefused, match=r"m\.mar cannot be unpacked: "):
        store.unpack(path)


def test_threads_that_unpack_the_same_archive_extract_it_once(store, root, tmp_path, monkeypatch):
    path = put(root, content=os.urandom(500_000))
    extracted = []
    extract = Archive.extract
    monkeypatch.setattr(
        Archive, "extract", lambda self, target: (extracted.append(1), extract(self, target))
    )
    gate = threading.Barrier(8)

    def unpack() -> Unpacked:
        gate.wait()
        return store.unpack(path)

    with ThreadPoolExecutor(8) as threads:
        results = {
            future.result().model_dir for future in [threads.submit(unpack) for _ in range(8)]
        }
    assert len(results) == 1
    assert len(extracted) == 1
    assert names(tmp_path / "cache") == [next(iter(results)).name]


def test_two_stores_that_unpack_at_once_both_succeed(root, tmp_path, monkeypatch):
    path = put(root)
    slow, fast = ModelStore(root, tmp_path / "cache"), ModelStore(root, tmp_path / "cache")
    extract = Archive.extract

    def extract_late(self, target):
        monkeypatch.setattr(Archive, "extract", extract)
        fast.unpack(path)  # another process comes in between
        extract(self, target)

    monkeypatch.setattr(Archive, "extract", extract_late)
    unpacked = slow.unpack(path)
    assert (unpacked.model_dir / "net.pt").read_bytes() == b"weights"
    assert names(tmp_path / "cache") == [unpacked.digest]


CHILD = """
import sys
from pathlib import Path
from marserve.registry.store import ModelStore
store = ModelStore(Path(sys.argv[1]), Path(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
print(store.unpack(store.find("m.mar")).model_dir.joinpath("net.pt").stat().st_size)
"""


def test_processes_that_unpack_the_same_archive_at_once_all_succeed(root, tmp_path):
    put(root, content=os.urandom(3_000_000))
    cache = tmp_path / "cache"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(root), str(cache)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    assert [child.communicate()[0] for child in children] == ["3000000\n"] * 4
    assert len(names(cache)) == 1


def test_what_a_killed_server_left_is_swept_at_the_next_start(root, tmp_path):
    left = tmp_path / "cache" / "0123.4567.partial"
    left.mkdir(parents=True)
    (left / "half").write_text("half")
    kept = tmp_path / "cache" / "89ab"
    kept.mkdir()
    ModelStore(root, tmp_path / "cache")
    assert names(tmp_path / "cache") == ["89ab"]


def test_an_archive_swapped_all_the_time_is_always_one_or_the_other(store, root, tmp_path):
    contents = {}
    for name in ("one", "two"):
        path = put(tmp_path / "packed", name, content=name.encode() * 1000)
        contents[hashlib.sha256(path.read_bytes()).hexdigest()] = name.encode() * 1000
    packed = sorted((tmp_path / "packed").glob("*.mar"))
    stop = threading.Event()

    def swap() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            (root / "new").symlink_to(packed[turn % 2])
            (root / "new").replace(root / "m.mar")

    (root / "m.mar").symlink_to(packed[0])
    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for _ in range(200):
            unpacked = store.unpack(store.find("m.mar"))
            assert (unpacked.model_dir / "net.pt").read_bytes() == contents[unpacked.digest]
    finally:
        stop.set()
        swapper.join()
    assert set(names(tmp_path / "cache")) <= set(contents)


def test_a_disk_without_room_is_told_with_the_bytes_that_are_needed(store, root, monkeypatch):
    """F15."""
    path = put(root, content=b"x" * 1000)
    monkeypatch.setattr(Disk, "free_bytes", lambda self, descriptor: 1000)
    with pytest.raises(
        DiskFull, match=r"^m\.mar cannot be unpacked: The disk has no room"
    ) as caught:
        store.unpack(path)
    with zipfile.ZipFile(path) as archive:
        assert caught.value.needed_bytes == sum(one.file_size for one in archive.infolist())
    assert str(caught.value.needed_bytes) in caught.value.message
    assert fault(caught.value).status == 507
    assert names(root.parent / "cache") == []
    monkeypatch.undo()
    assert (store.unpack(path).model_dir / "net.pt").read_bytes() == b"x" * 1000


def test_a_disk_that_fills_up_meanwhile_is_the_same(store, root, monkeypatch):
    """F15."""

    def full(self, descriptor, piece):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = put(root)
    monkeypatch.setattr(Disk, "write", full)
    with pytest.raises(DiskFull, match=r"The disk is full\. The archive needs \d+ bytes\."):
        store.unpack(path)
    assert names(root.parent / "cache") == []


# --- fetching --------------------------------------------------------------------------------


@pytest.fixture
def web():
    with scripted_http() as server:
        yield server


@pytest.fixture
def packed(tmp_path):
    """An archive as bytes, made outside the store."""
    return put(tmp_path / "packed").read_bytes()


def fetching(root: Path, tmp_path: Path, web, **limits) -> ModelStore:
    allowed = AllowedUrls([f"http://127.0.0.1:{web.port}/.*", f"file://{tmp_path}/incoming/.*"])
    credentials = Credentials("id", "secret", "region")
    return ModelStore(root, tmp_path / "cache", Fetcher(allowed, Limits(**limits), credentials))


def url_of(web, target: str = "/models/m.mar") -> str:
    return f"http://127.0.0.1:{web.port}{target}"


def visible(folder: Path) -> list[str]:
    return [name for name in names(folder) if not name.startswith(".")]


def test_a_fetched_archive_is_in_the_store_and_unpacked(root, tmp_path, web, packed):
    web.answers["/models/m.mar"] = reply(packed)
    store = fetching(root, tmp_path, web)
    path = store.fetch(url_of(web))
    assert path == root / "m.mar"
    assert path.read_bytes() == packed
    assert names(tmp_path / "cache") == [hashlib.sha256(packed).hexdigest()]
    assert (store.unpack(path).model_dir / "net.pt").read_bytes() == b"weights"
    assert store.find("m.mar") == path
    assert store.all_archives() == ("m.mar",)


def test_a_file_url_is_fetched_the_same_way(root, tmp_path, web, packed):
    (tmp_path / "incoming").mkdir()
    (tmp_path / "incoming/m.mar").write_bytes(packed)
    store = fetching(root, tmp_path, web)
    assert store.fetch(f"file://{tmp_path}/incoming/m.mar").read_bytes() == packed


def test_a_query_is_no_part_of_the_name(root, tmp_path, web, packed):
    web.answers["/m.mar?X-Amz-Signature=a/b"] = reply(packed)
    store = fetching(root, tmp_path, web)
    assert store.fetch(url_of(web, "/m.mar?X-Amz-Signature=a/b")) == root / "m.mar"
    store.forget(url_of(web, "/m.mar?X-Amz-Signature=a/b"))
    assert names(root) == []


def test_names_in_the_store_are_found_by_fetch_too(root, tmp_path, web):
    path = put(root)
    assert fetching(root, tmp_path, web).fetch("m.mar") == path


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("/.hidden.mar", "Model not found at: {}"),
        ("/models/", "Model not found at: {}"),
        (f"/{'m' * 300}", "Model not found at: {}"),
        ("/../m.mar", "Relative path is not allowed in url: {}"),
        ("/a%2fm.mar", "Given URL {} does not match any allowed URL(s): it has the escape %2f"),
    ],
)
def test_a_url_that_gives_no_name_is_not_fetched(target, message, root, tmp_path, web):
    store = fetching(root, tmp_path, web)
    with pytest.raises(ArchiveNotFound) as caught:
        store.fetch(url_of(web, target))
    assert str(caught.value).startswith(message.format(url_of(web, target)))
    assert (web.asked, names(root)) == ([], [])


def test_nothing_is_fetched_unless_it_is_allowed(store, root, web):
    with pytest.raises(ArchiveNotFound) as caught:
        store.fetch(url_of(web))
    assert str(caught.value) == REMOTE.format(url_of(web))
    assert (web.asked, names(root)) == ([], [])


def test_without_a_store_nothing_is_fetched(tmp_path, web):
    with pytest.raises(StoreMissing):
        fetching(None, tmp_path, web).fetch(url_of(web))


def test_an_archive_that_is_there_is_not_overwritten(root, tmp_path, web):
    content = put(root).read_bytes()
    web.answers["/models/m.mar"] = reply(b"other")
    store = fetching(root, tmp_path, web)
    with pytest.raises(ArchiveExistsInStore) as caught:
        store.fetch(url_of(web))
    assert str(caught.value) == "Model file already exists m.mar"
    assert (root / "m.mar").read_bytes() == content
    assert web.asked == []


def test_an_archive_that_appears_meanwhile_is_not_overwritten(root, tmp_path, web, packed):
    def send(sock) -> None:
        (root / "m.mar").write_bytes(b"the operator's")
        sock.sendall(reply(packed))

    web.answers["/models/m.mar"] = send
    store = fetching(root, tmp_path, web)
    with pytest.raises(ArchiveExistsInStore):
        store.fetch(url_of(web))
    assert (root / "m.mar").read_bytes() == b"the operator's"
    store.forget(url_of(web))
    assert names(root) == ["m.mar"]


@pytest.mark.parametrize("is_dangling", [True, False])
def test_a_link_in_the_store_is_not_written_through(is_dangling, root, tmp_path, web, packed):
    target = tmp_path / "target"
    if not is_dangling:
        target.write_bytes(b"kept")
    (root / "m.mar").symlink_to(target)
    web.answers["/models/m.mar"] = reply(packed)
    with pytest.raises(ArchiveExistsInStore):
        fetching(root, tmp_path, web).fetch(url_of(web))
    assert target.exists() is not is_dangling


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (reply(b"no", "403 Forbidden"), DownloadFailed, "(127.0.0.1 answered 403 Forbidden)"),
        (reply(b"PK", content_length="9"), DownloadFailed, "(127.0.0.1 sent 2 of 9 bytes"),
        (reply(b"x" * 60_000), DownloadFailed, "(it is larger than 50000 bytes"),
        (reply(b"<html>log in</html>"), ArchiveRefused, "is refused: "),
        (reply(b""), ArchiveRefused, "is refused: "),
    ],
)
def test_what_is_no_archive_leaves_nothing(answer, error, message, root, tmp_path, web):
    web.answers["/models/m.mar"] = answer
    store = fetching(root, tmp_path, web, max_bytes=50_000)
    with pytest.raises(error) as caught:
        store.fetch(url_of(web))
    assert message in str(caught.value)
    if error is DownloadFailed:
        assert str(caught.value).startswith(f"Failed to download archive from: {url_of(web)} (")
    assert names(root) == []
    assert names(tmp_path / "cache") == []


def test_an_archive_with_damaged_content_leaves_nothing(root, tmp_path, web, packed):
    web.answers["/models/m.mar"] = reply(packed.replace(b"weights", b"weighty"))
    with pytest.raises(ArchiveRefused):
        fetching(root, tmp_path, web).fetch(url_of(web))
    assert names(root) == []
    assert names(tmp_path / "cache") == []


def test_nothing_is_visible_before_it_is_complete(root, tmp_path, web, packed):
    half, go_on = threading.Event(), threading.Event()

    def send(sock) -> None:
        answer = reply(packed)
        sock.sendall(answer[:-10])
        half.set()
        go_on.wait()
        sock.sendall(answer[-10:])

    web.answers["/models/m.mar"] = send
    store = fetching(root, tmp_path, web)
    with ThreadPoolExecutor(1) as threads:
        fetched = threads.submit(store.fetch, url_of(web))
        half.wait()
        try:
            assert visible(root) == []
            assert store.all_archives() == ()
            with pytest.raises(ArchiveExistsInStore, match="is fetching it just now"):
                fetching(root, tmp_path, web).fetch(url_of(web))
            assert len([name for name in names(root) if "download" in name]) == 1
        finally:
            go_on.set()
        assert fetched.result().read_bytes() == packed


def test_of_many_that_fetch_at_once_one_does(root, tmp_path, web, packed):
    web.answers["/models/m.mar"] = reply(packed)
    stores = [fetching(root, tmp_path, web) for _ in range(8)]
    gate = threading.Barrier(8)

    def fetch(store: ModelStore) -> bool:
        gate.wait()
        try:
            store.fetch(url_of(web))
        except ArchiveExistsInStore:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(fetch, stores)) == 1
    assert (root / "m.mar").read_bytes() == packed
    assert names(root) == [".origin.m.mar", "m.mar"]


FETCHER = """
import sys
from pathlib import Path
from marserve.registry.sources.allowed import AllowedUrls
from marserve.registry.sources.fetcher import Fetcher
from marserve.registry.store import ModelStore
allowed = AllowedUrls([sys.argv[3].rpartition("/")[0] + "/.*"])
ModelStore(Path(sys.argv[1]), Path(sys.argv[2]), Fetcher(allowed)).fetch(sys.argv[3])
"""


def test_what_a_killed_server_had_fetched_is_swept_at_the_next_start(root, tmp_path, web, packed):
    half = threading.Event()

    def send(sock) -> None:
        sock.sendall(reply(packed)[:-10])
        half.set()
        web.ending.wait()

    web.answers["/models/m.mar"] = send
    child = subprocess.Popen(
        [sys.executable, "-c", FETCHER, str(root), str(tmp_path / "cache"), url_of(web)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    half.wait()
    assert names(root) == [".download.m.mar"]
    fetching(root, tmp_path, web)  # another server starts while this one fetches
    assert names(root) == [".download.m.mar"]
    child.kill()
    child.wait()
    store = fetching(root, tmp_path, web)
    assert names(root) == []
    web.answers["/models/m.mar"] = reply(packed)
    assert store.fetch(url_of(web)).read_bytes() == packed


def test_a_store_that_cannot_be_written_is_told(tmp_path, web, packed):
    web.answers["/models/m.mar"] = reply(packed)
    store = fetching(tmp_path / "gone", tmp_path, web)
    with pytest.raises(DownloadFailed, match="the model store cannot take it: No such file"):
        store.fetch(url_of(web))


# --- forgetting ------------------------------------------------------------------------------


def test_a_fetched_archive_goes_with_its_registration(root, tmp_path, web, packed):
    web.answers["/models/m.mar"] = reply(packed)
    fetching(root, tmp_path, web).fetch(url_of(web))
    fetching(root, tmp_path, web).forget(url_of(web))  # after a restart
    assert names(root) == []
    store = fetching(root, tmp_path, web)
    assert store.fetch(url_of(web)) == root / "m.mar"


@pytest.mark.parametrize("url", ["m.mar", "http://127.0.0.1:{}/m.mar", "file:///x/m.mar"])
def test_an_archive_of_the_operators_stays(url, root, tmp_path, web):
    put(root)
    fetching(root, tmp_path, web).forget(url.format(web.port))
    assert names(root) == ["m.mar"]


def test_an_archive_that_took_the_place_of_a_fetched_one_stays(root, tmp_path, web, packed):
    web.answers["/models/m.mar"] = reply(packed)
    store = fetching(root, tmp_path, web)
    store.fetch(url_of(web))
    (root / "new").write_bytes(packed)
    (root / "new").replace(root / "m.mar")
    store.forget(url_of(web))
    assert visible(root) == ["m.mar"]


@pytest.mark.parametrize("other", ["m.mar", "/anywhere/m.mar"])
def test_an_archive_that_is_registered_by_name_too_stays_for_good(
    other, root, tmp_path, web, packed
):
    web.answers["/models/m.mar"] = reply(packed)
    store = fetching(root, tmp_path, web)
    store.fetch(url_of(web))
    store.forget(url_of(web), [other])
    assert names(root) == ["m.mar"]
    store.forget(url_of(web))
    assert names(root) == ["m.mar"]


def test_an_archive_that_another_registration_fetched_stays_until_that_ends(
    root, tmp_path, web, packed
):
    web.answers["/models/m.mar"] = reply(packed)
    store = fetching(root, tmp_path, web)
    store.fetch(url_of(web))
    store.forget(url_of(web), [url_of(web)])
    assert visible(root) == ["m.mar"]
    store.forget(url_of(web), ["other.mar"])
    assert names(root) == []


# --- after a restart -------------------------------------------------------------------------


def test_a_restart_finds_what_was_fetched(root, tmp_path, web, packed):
    web.answers["/models/m.mar"] = reply(packed)
    fetching(root, tmp_path, web).fetch(url_of(web))
    store = fetching(root, tmp_path, web)
    assert store.fetch(url_of(web), again=True) == root / "m.mar"
    assert len(web.asked) == 1
    assert ModelStore(root, tmp_path / "cache").fetch(url_of(web), again=True) == root / "m.mar"
    with pytest.raises(ArchiveExistsInStore):
        store.fetch(url_of(web))


def test_a_restart_fetches_what_is_gone_and_signs_it_as_before(root, tmp_path, web, packed):
    web.answers["/models/m.mar"] = reply(packed)
    store = fetching(root, tmp_path, web)
    store.fetch(url_of(web), s3_sse_kms=True).unlink()
    assert store.fetch(url_of(web), again=True) == root / "m.mar"
    assert ["authorization" in web.headers(i) for i in (0, 1)] == [True, True]


def test_a_restart_does_not_take_another_url_of_the_same_name(root, tmp_path, web, packed):
    for version in ("v1", "v2"):
        web.answers[f"/{version}/m.mar"] = reply(packed)
    store = fetching(root, tmp_path, web)
    store.fetch(url_of(web, "/v1/m.mar"))
    with pytest.raises(ArchiveExistsInStore):
        store.fetch(url_of(web, "/v2/m.mar"), again=True)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"url": 1}', b"\xff"])
def test_a_broken_note_of_origin_makes_the_archive_the_operators(
    content, root, tmp_path, web, packed
):
    web.answers["/models/m.mar"] = reply(packed)
    store = fetching(root, tmp_path, web)
    store.fetch(url_of(web))
    (root / ".origin.m.mar").write_bytes(content)
    store.forget(url_of(web))
    assert visible(root) == ["m.mar"]
    with pytest.raises(ArchiveExistsInStore):
        store.fetch(url_of(web), again=True)
