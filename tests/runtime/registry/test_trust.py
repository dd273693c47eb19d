"""What a store asks of an archive before it understands one byte of it."""

import hashlib
import shutil
from pathlib import Path

import pytest
from scripted_http import reply, scripted_http

from marserve.errors import ArchiveNotFound, ArchiveRefused, DownloadFailed
from marserve.registry.sources.allowed import AllowedUrls
from marserve.registry.sources.fetcher import Fetcher
from marserve.registry.store import ModelStore
from marserve.registry.trust import Rules
from marserve_archiver import Recipe, pack
from marserve_archiver.signing import make_key, sign

MADE_AT = "2026-05-01T10:00:00Z"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "keys").mkdir()
    make_key(tmp_path / "release.pem")
    (tmp_path / "release.pub.pem").rename(tmp_path / "keys" / "release.pub.pem")
    return tmp_path / "store"


def put(root: Path, name: str = "m", content: bytes = b"weights", form: str = "default") -> Path:
    source = root.parent / "source"
    source.mkdir(exist_ok=True)
    (source / "net.pt").write_bytes(content)
    recipe = Recipe(name, "1.0", "base_handler", serialized_file=source / "net.pt")
    return pack(recipe, root, form, force=True)


def signing(root: Path, fetcher: Fetcher | None = None) -> ModelStore:
    rules = Rules(require_signed=True, trusted_keys=(root.parent / "keys",))
    return ModelStore(root, root.parent / "cache", fetcher, rules)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refusal(store: ModelStore, path: Path, sha256: str | None = None) -> tuple[str | None, str]:
    """The reason and the sentence with which an archive is refused; nothing was unpacked."""
    before = names(store._cache)
    with pytest.raises(ArchiveRefused) as caught:
        store.unpack(path, sha256)
    assert names(store._cache) == before
    return caught.value.reason, caught.value.message


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- signatures ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "name"), [("default", "m.mar"), ("tgz", "m.tar.gz")])
def test_a_signed_archive_is_unpacked(form, name, root):
    path = put(root, form=form)
    sign(path, root.parent / "release.pem", MADE_AT)
    unpacked = signing(root).unpack(root / name)
    assert (unpacked.model_dir / "net.pt").read_bytes() == b"weights"
    assert unpacked.sha256 == digest_of(path)


def test_an_archive_without_signature_is_not(root):
    path = put(root)
    assert refusal(signing(root), path) == (
        "no-signature",
        "m.mar is refused: It is not signed: there is no m.mar.sig.",
    )


def test_an_archive_that_was_replaced_is_not(root):
    path = put(root)
    sign(path, root.parent / "release.pem", MADE_AT)
    put(root, content=b"evil")
    assert refusal(signing(root), path)[0] == "other-archive"


def test_what_was_unpacked_before_counts_for_its_own_digest_only(root):
    """The cache holds the old archive; the signature is still that of the old one."""
    path = put(root)
    sign(path, root.parent / "release.pem", MADE_AT)
    store = signing(root)
    store.unpack(path)
    put(root, content=b"evil")
    assert refusal(store, path)[0] == "other-archive"
    assert len(names(root.parent / "cache")) == 1


def test_an_unsigned_archive_is_not_served_from_the_cache_either(root):
    path = put(root)
    ModelStore(root, root.parent / "cache").unpack(path)
    assert refusal(signing(root), path)[0] == "no-signature"


def test_a_key_that_is_deleted_is_revoked_at_once(root):
    path = put(root)
    sign(path, root.parent / "release.pem", MADE_AT)
    store = signing(root)
    store.unpack(path)
    (root.parent / "keys" / "release.pub.pem").unlink()
    assert refusal(store, path)[0] == "unknown-key"


def test_a_key_that_cannot_be_read_refuses_everything_and_is_named(root):
    path = put(root)
    sign(path, root.parent / "release.pem", MADE_AT)
    (root.parent / "keys" / "broken.pem").write_text("no key")
    assert "broken.pem is no public key in PEM" in refusal(signing(root), path)[1]
    shutil.rmtree(root.parent / "keys")
    assert "with trusted keys" in refusal(signing(root), path)[1]


def test_folders_are_refused_where_signatures_are_asked_for(root):
    path = put(root, form="no-archive")
    assert refusal(signing(root), path)[0] == "no-signature"
    assert ModelStore(root, root.parent / "cache").unpack(path).sha256 is None


# --- digests -------------------------------------------------------------------------------------


def test_the_digest_that_was_asked_for_has_to_be_there(root):
    path = put(root)
    store = ModelStore(root, root.parent / "cache")
    good = digest_of(path)
    assert store.unpack(path, good).sha256 == good
    reason, message = refusal(store, path, "0" * 64)
    assert reason == "other-digest"
    assert f"Its sha256 is {good}, but {'0' * 64} was expected" in message
    folder = put(root, "f", form="no-archive")
    assert refusal(store, folder, good)[0] == "other-digest"


def test_an_archive_that_is_listed_has_to_match(root):
    path = put(root)
    store = ModelStore(root, root.parent / "cache")
    (root / "SHA256SUMS").write_text(f"{digest_of(path)}  m.mar\n{'0' * 64}  other.mar\n")
    store.unpack(path)
    assert "stands in SHA256SUMS" in refusal(store, put(root, "other"))[1]
    store.unpack(put(root, "unlisted"))
    assert store.all_archives() == ("m.mar", "other.mar", "unlisted.mar")


def test_a_folder_in_the_place_of_a_listed_archive_is_refused(root):
    folder = put(root, form="no-archive")
    (root / "SHA256SUMS").write_text(f"{'0' * 64}  {folder.name}\n")
    store = ModelStore(root, root.parent / "cache")
    assert refusal(store, folder)[0] == "other-digest"


def test_what_is_not_listed_is_refused_where_lists_are_asked_for(root):
    path = put(root)
    store = ModelStore(root, root.parent / "cache", rules=Rules(require_pins=True))
    assert "does not list it" in refusal(store, path)[1]
    (root / "SHA256SUMS").write_text(f"{digest_of(path)}  m.mar\n")
    store.unpack(path)
    assert refusal(store, put(root, "f", form="no-archive"))[0] == "other-digest"


def test_a_list_with_one_bad_line_refuses_everything(root):
    path = put(root)
    (root / "SHA256SUMS").write_text(f"{digest_of(path)}  m.mar\noops\n")
    store = ModelStore(root, root.parent / "cache")
    assert "SHA256SUMS of the store cannot be used: line 2" in refusal(store, path)[1]


# --- archives from elsewhere ---------------------------------------------------------------------


@pytest.fixture
def web():
    with scripted_http() as server:
        yield server


@pytest.fixture
def packed(root):
    return put(root.parent / "packed")


def fetcher_of(web, paths: str = ".*") -> Fetcher:
    return Fetcher(AllowedUrls([f"http://127.0.0.1:{web.port}/{paths}"]))


def url_of(web) -> str:
    return f"http://127.0.0.1:{web.port}/m.mar"


def test_the_signature_is_fetched_from_beside_the_archive_and_kept(root, web, packed):
    sig = sign(packed, root.parent / "release.pem", MADE_AT)
    web.answers |= {"/m.mar": reply(packed.read_bytes()), "/m.mar.sig": reply(sig.read_bytes())}
    store = signing(root, fetcher_of(web))
    path = store.fetch(url_of(web))
    assert (store.unpack(path).model_dir / "net.pt").read_bytes() == b"weights"
    assert store.unpack(store.fetch(url_of(web), again=True)).sha256 == digest_of(packed)
    assert names(root) == [".origin.m.mar", "m.mar", "m.mar.sig"]
    assert [head.split(" ")[1] for head in web.asked] == ["/m.mar.sig", "/m.mar"]
    store.forget(url_of(web))
    assert names(root) == []


@pytest.mark.parametrize(
    ("signature", "error", "message"),
    [
        (reply(b"no", "404 Not Found"), DownloadFailed, "answered 404"),
        (reply(b"x" * 5000), DownloadFailed, "too large"),
        (reply(b"{}"), ArchiveRefused, "signature file cannot be used"),
    ],
)
def test_without_a_good_signature_nothing_of_it_stays(signature, error, message, root, web, packed):
    web.answers |= {"/m.mar": reply(packed.read_bytes()), "/m.mar.sig": signature}
    with pytest.raises(error, match=message):
        signing(root, fetcher_of(web)).fetch(url_of(web))
    assert names(root) == []
    assert names(root.parent / "cache") == []
    assert [head.split(" ")[1] for head in web.asked] == ["/m.mar.sig"]


def test_a_signature_that_may_not_be_fetched_says_so(root, web):
    with pytest.raises(ArchiveNotFound, match=r"m\.mar\.sig does not match any allowed URL"):
        signing(root, fetcher_of(web, "m.mar")).fetch(url_of(web))
    assert web.asked == []


def test_a_download_with_another_digest_leaves_nothing(root, web, packed):
    web.answers["/m.mar"] = reply(packed.read_bytes())
    store = ModelStore(root, root.parent / "cache", fetcher_of(web))
    with pytest.raises(ArchiveRefused, match="was expected"):
        store.fetch(url_of(web), sha256="0" * 64)
    assert names(root) == []
    assert store.fetch(url_of(web), sha256=digest_of(packed)) == root / "m.mar"
