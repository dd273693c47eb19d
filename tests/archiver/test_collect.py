from pathlib import Path

import pytest

from marserve_archiver.collect import Recipe, collect, find_handler
from marserve_archiver.errors import ArchiveError, InputMissing


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    put("handler.py", "def handle(data, context):\n    return data\n")
    put("model.py", "class Net: pass\n")
    put("net.pt", "weights")
    return tmp_path


def put(name: str, text: str = "") -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def recipe(**changes) -> Recipe:
    return Recipe(**({"model_name": "m", "version": "1.0", "handler": "handler.py"} | changes))


def names(**changes) -> list[str]:
    return [source.member for source in collect(recipe(**changes)).sources]


def refusal(**changes) -> ArchiveError:
    with pytest.raises(ArchiveError) as caught:
        collect(recipe(**changes))
    return caught.value


@pytest.mark.parametrize(
    ("value", "path", "recorded"),
    [
        ("handler.py", "handler.py", "handler.py"),
        ("handler", "handler.py", "handler.py"),
        ("handler.py:run", "handler.py", "handler.py:run"),
        ("handler:run", "handler.py", "handler.py:run"),
        ("sub/other.py", "sub/other.py", "other.py"),
        ("sub/other:run", "sub/other.py", "other.py:run"),
        ("./handler", "handler.py", "handler.py"),
        ("base_handler", None, "base_handler"),
        ("image_classifier", None, "image_classifier"),
        ("some-plugin", None, "some-plugin"),
        ("package.handler", None, "package.handler"),
    ],
)
def test_a_handler_is_a_file_if_there_is_one_and_a_name_otherwise(value, path, recorded):
    put("sub/other.py")
    put("image_classifier.py", "# not this one: the name is TorchServe's")
    assert find_handler(value, "python") == (Path(path) if path else None, recorded)


@pytest.mark.parametrize("value", ["gone.py", "gone.py:run", "sub/gone", "./gone", "/gone", ""])
def test_a_handler_that_can_only_be_a_file_must_exist(value):
    with pytest.raises(InputMissing, match="does not exist"):
        find_handler(value, "python")


@pytest.mark.parametrize(
    ("value", "path", "recorded"),
    [
        ("libmnist:MnistHandler", "libmnist.so", "libmnist:MnistHandler"),
        ("libmac", "libmac.dylib", "libmac"),
        ("TorchScriptHandler", None, "TorchScriptHandler"),
    ],
)
def test_a_compiled_handler_is_a_library(value, path, recorded):
    put("libmnist.so")
    put("libmac.dylib")
    assert find_handler(value, "LSP") == (Path(path) if path else None, recorded)


def test_every_named_file_lands_at_the_root_and_in_the_manifest():
    put("deep/config.yaml")
    put("requirements.txt")
    collection = collect(
        recipe(
            model_file=Path("model.py"),
            serialized_file=Path("net.pt"),
            config_file=Path("deep/config.yaml"),
            requirements_file=Path("requirements.txt"),
            runtime="python3",
        )
    )
    assert [source.member for source in collection.sources] == [
        "config.yaml",
        "handler.py",
        "model.py",
        "net.pt",
        "requirements.txt",
    ]
    manifest = collection.manifest
    assert dict(manifest.files()) == {
        "serializedFile": "net.pt",
        "modelFile": "model.py",
        "handler": "handler.py",
        "requirementsFile": "requirements.txt",
        "configFile": "config.yaml",
    }
    assert (manifest.model_name, manifest.model_version, manifest.runtime) == (
        "m",
        "1.0",
        "python3",
    )


def test_extra_files_may_be_files_wildcards_and_directories():
    put("one.json")
    put("glob/a.txt")
    put("glob/b.txt")
    put("glob/c.md")
    put("tree/top.txt")
    put("tree/sub/below.txt")
    extra = ("one.json", "glob/[ab].txt", "tree")
    assert names(extra_files=extra) == [
        "a.txt",
        "b.txt",
        "handler.py",
        "one.json",
        "sub/below.txt",
        "top.txt",
    ]


def test_a_directory_that_a_wildcard_matches_stands_for_its_content():
    put("tree/sub/below.txt")
    put("tree/.hidden/x.txt")
    put("tree/__pycache__/x.pyc")
    assert names(extra_files=("tree/*",)) == ["below.txt", "handler.py"]


def test_caches_and_hidden_directories_are_left_out():
    for name in ("__pycache__/a.pyc", ".git/config", "__MACOSX/._x", "sub/__pycache__/b.pyc", "x"):
        put(f"tree/{name}")
    assert names(extra_files=("tree",)) == ["handler.py", "x"]


def test_a_file_whose_name_looks_like_a_wildcard_is_taken_as_it_stands():
    put("a[1].txt", "one")
    put("a1.txt", "other")
    assert names(extra_files=("a[1].txt",)) == ["a[1].txt", "handler.py"]


def test_a_wildcard_without_match_is_a_note():
    notes = []
    collect(recipe(extra_files=("*.nothing",)), notes.append)
    assert notes == ["no file matches *.nothing"]


def test_two_different_files_of_one_name_are_refused_by_naming_both():
    put("a/labels.json", "1")
    put("b/labels.json", "2")
    error = refusal(extra_files=("a/labels.json", "b/labels.json"))
    assert error.reason == "clash"
    assert "a/labels.json and b/labels.json" in str(error)


def test_the_same_file_twice_is_no_clash():
    put("a/labels.json", "1")
    put("b/labels.json", "1")
    extra = ("a/labels.json", "b/labels.json", "a", "handler.py")
    assert names(extra_files=extra) == ["handler.py", "labels.json"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_file": Path("gone.py")}, "input-missing"),
        ({"serialized_file": Path("gone.pt")}, "input-missing"),
        ({"extra_files": ("gone.json",)}, "input-missing"),
        ({"extra_files": ("dangling",)}, "input-missing"),
        ({"extra_files": ("links",)}, "input-missing"),
        ({"model_file": Path("tree")}, "input-invalid"),
        ({"model_name": "two words"}, "input-invalid"),
        ({"model_name": "../m"}, "input-invalid"),
        ({"model_name": "m" * 129}, "input-invalid"),
        ({"version": "1/2"}, "input-invalid"),
        ({"version": ""}, "input-invalid"),
        ({"runtime": "java"}, "input-invalid"),
        ({"extra_files": ("loop",)}, "input-invalid"),
        ({"extra_files": ("nul.txt",)}, "input-invalid"),
        ({"extra_files": ("Model.py",), "model_file": Path("model.py")}, "input-invalid"),
        ({"extra_files": ("old",)}, "clash"),
    ],
)
def test_what_cannot_be_packed_is_refused(changes, reason):
    put("tree/x")
    put("nul.txt")
    put("Model.py", "another")
    put("old/MAR-INF/MANIFEST.json", "{}")
    put("links/x")
    Path("links/y").symlink_to("gone")
    Path("dangling").symlink_to("gone")
    put("loop/x")
    Path("loop/again").symlink_to(".")
    error = refusal(**changes)
    assert error.reason == reason
    assert str(error).endswith(".")


def test_links_in_a_directory_are_packed_as_what_they_point_to():
    put("blobs/0123", "content")
    Path("snapshot").mkdir()
    Path("snapshot/model.bin").symlink_to("../blobs/0123")
    assert names(extra_files=("snapshot",)) == ["handler.py", "model.bin"]


@pytest.mark.parametrize(
    ("name", "content", "is_weights"),
    [
        ("any.safetensors", b"x", True),
        ("ANY.PTH", b"x", True),
        ("small", b"\0", False),
        ("large", b"\0" * 70_000, True),
        ("large-latin-1", b"caf\xe9 " * 20_000, True),
        ("vocabulary.txt", b"word\n" * 20_000, False),
        ("unicode.txt", "é".encode() * 40_000, False),
        ("odd-unicode.txt", b"x" + "é".encode() * 40_000, False),
    ],
)
def test_weights_are_known_by_suffix_or_by_being_large_and_no_text(name, content, is_weights):
    Path(name).write_bytes(content)
    found = {s.member: s.is_weights for s in collect(recipe(extra_files=(name,))).sources}
    assert found[name] is is_weights


def test_the_serialized_file_is_weights_whatever_it_is_called():
    put("weights", "x")
    collection = collect(recipe(serialized_file=Path("weights")))
    assert [s.member for s in collection.sources if s.is_weights] == ["weights"]


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [(None, "01/01/1980 00:00:00"), ("1700000000", "14/11/2023 22:13:20")],
)
def test_the_date_is_fixed_unless_the_environment_says_which(epoch, expected, monkeypatch):
    if epoch is not None:
        monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    assert collect(recipe()).manifest.created_on == expected


@pytest.mark.parametrize("epoch", ["yesterday", "9" * 30])
def test_a_date_that_is_none_is_refused(epoch, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    assert refusal().reason == "input-invalid"
