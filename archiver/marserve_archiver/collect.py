"""The user's files, and the name each gets in the archive.

All files land at the archive's root under their own base names, because that is where handlers
look for them; only what lies in sub-directories of an extra directory keeps its place there.
"""

from __future__ import annotations

import glob
import importlib.metadata
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from marserve_archiver.errors import ArchiveError, InputClash, InputInvalid, InputMissing
from marserve_archiver.folder import is_skipped_directory
from marserve_archiver.manifest import (
    MANIFEST_NAME,
    MODEL_NAME,
    NO_DATE,
    RUNTIMES,
    VERSION,
    Manifest,
)
from marserve_archiver.members import KIB, Member, member_problems

# Names that mean TorchServe's own handlers even where a file of that name lies about. All other
# names are found through entry points when the model is served, so none are listed here.
BUILT_IN_HANDLERS: Final = frozenset(
    [
        "base_handler",
        "text_classifier",
        "image_classifier",
        "object_detector",
        "image_segmenter",
        "dali_image_classifier",
        "vllm_handler",
        "trt_llm_handler",
    ]
)
_COMPILED_HANDLERS: Final = frozenset(["BaseHandler", "TorchScriptHandler"])
_HANDLER_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
# fmt: off
_STORED_SUFFIXES: Final = frozenset([
    ".pt", ".pth", ".pt2", ".ckpt", ".safetensors", ".npy", ".npz", ".onnx", ".bin", ".joblib",
    ".pkl", ".pickle", ".h5", ".keras", ".gguf", ".pb", ".tflite", ".engine", ".plan", ".so",
])
# fmt: on
_SMALL_BYTES: Final = 64 * KIB
_DISTRIBUTION: Final = "marserve"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What goes into an archive, in the words of the command line."""

    model_name: str
    version: str
    handler: str
    """A Python file (`.py` may be left out), with `:function` if it is not `handle`; or a name."""
    model_file: Path | None = None
    serialized_file: Path | None = None
    extra_files: tuple[str, ...] = ()
    """Files, directories and wildcards. A directory stands for its content."""
    requirements_file: Path | None = None
    config_file: Path | None = None
    runtime: str = "python"


@dataclass(frozen=True, slots=True)
class Source:
    """One of the user's files and its name in the archive."""

    path: Path
    member: str
    size_bytes: int
    is_weights: bool
    """Stored as it is, to be mapped into memory; everything else is compressed."""


@dataclass(frozen=True, slots=True)
class Collection:
    """All that an archive will hold: its manifest and its files, sorted by name."""

    manifest: Manifest
    sources: tuple[Source, ...]


def collect(recipe: Recipe, on_note: Callable[[str], None] = lambda note: None) -> Collection:
    """Finds every file of a recipe. `on_note` hears what is odd but no error.

    Raises:
        InputMissing: a file does not exist.
        InputInvalid: a name, a version or a file cannot be used.
        InputClash: two different files would get the same name.
    """
    _check_names(recipe)
    handler_path, handler = find_handler(recipe.handler, recipe.runtime)
    manifest = Manifest(
        model_name=recipe.model_name,
        model_version=recipe.version,
        handler=handler,
        model_file=_base_name(recipe.model_file),
        serialized_file=_base_name(recipe.serialized_file),
        requirements_file=_base_name(recipe.requirements_file),
        config_file=_base_name(recipe.config_file),
        runtime=recipe.runtime,
        created_on=created_on(os.environ.get("SOURCE_DATE_EPOCH")),
        archiver_version=archiver_version(),
    )
    named = {
        "handler": handler_path,
        "model file": recipe.model_file,
        "serialized file": recipe.serialized_file,
        "requirements file": recipe.requirements_file,
        "config file": recipe.config_file,
    }
    sources = gather(named, recipe.extra_files, manifest.serialized_file, MANIFEST_NAME, on_note)
    return Collection(manifest, sources)


def gather(
    named: Mapping[str, Path | None],
    extra_files: Iterable[str],
    serialized_file: str | None,
    manifest_name: str,
    on_note: Callable[[str], None],
) -> tuple[Source, ...]:
    """The files of an archive, sorted by name.

    Args:
        named: single files, by what each is in an error.
        extra_files: files, directories and wildcards.
        serialized_file: the name of the file that holds the weights.
        manifest_name: where the archive's manifest will be.
        on_note: hears what is odd but no error.

    Raises:
        InputMissing, InputInvalid, InputClash: as `collect` does.
    """
    found: dict[str, Path] = {}
    for name, path in _named_files(named):
        _enter(found, name, path, manifest_name)
    for entry in extra_files:
        for name, path in _extra_files(entry, on_note):
            _enter(found, name, path, manifest_name)
    sources = tuple(_source(path, name, serialized_file) for name, path in sorted(found.items()))
    _check_members(sources, manifest_name)
    return sources


def find_handler(value: str, runtime: str) -> tuple[Path | None, str]:
    """The file of a handler, if it has one, and what the manifest says about it.

    Raises:
        InputMissing: the value can only be a file, and there is none.
    """
    path_text, colon, function = value.partition(":")
    is_compiled = runtime == "LSP"
    if path_text in (_COMPILED_HANDLERS if is_compiled else BUILT_IN_HANDLERS):
        return None, value
    suffixes = (".so", ".dylib") if is_compiled else (".py",)
    for suffix in suffixes:
        path = Path(path_text if path_text.endswith(suffix) else path_text + suffix)
        if path.is_file():
            # a compiled handler is named without the suffix, which depends on the platform
            base = path.name.removesuffix(suffix) if is_compiled else path.name
            return path, base + colon + function
    if _HANDLER_NAME.fullmatch(path_text) and not path_text.endswith(suffixes):
        return None, value
    raise InputMissing(
        "input-missing",
        f"The handler file {path_text} does not exist; give a {' or '.join(suffixes)} file, or "
        "the name of an installed handler.",
    )


def check_name(what: str, name: str) -> None:
    """Refuses a name that no model (`what`) can have.

    Raises:
        InputInvalid: with the rule.
    """
    if not MODEL_NAME.fullmatch(name):
        raise InputInvalid(
            "input-invalid",
            f"The {what} name {name!r} cannot be used: it must begin with a letter or "
            "digit and hold only letters, digits, '.', '_' and '-' (128 at most).",
        )


def _check_names(recipe: Recipe) -> None:
    check_name("model", recipe.model_name)
    if not VERSION.fullmatch(recipe.version):
        raise InputInvalid(
            "input-invalid",
            f"The version {recipe.version!r} cannot be used: it must begin with a letter or digit "
            "and hold only letters, digits, '.', '_', '+' and '-' (64 at most).",
        )
    if recipe.runtime not in RUNTIMES:
        raise InputInvalid(
            "input-invalid", f"The runtime {recipe.runtime!r} is not one of {', '.join(RUNTIMES)}."
        )


def _named_files(named: Mapping[str, Path | None]) -> Iterator[tuple[str, Path]]:
    for what, path in named.items():
        if path is None:
            continue
        if not path.exists():
            raise InputMissing("input-missing", f"The {what} {path} does not exist.")
        yield path.name, path


def _extra_files(entry: str, on_note: Callable[[str], None]) -> Iterator[tuple[str, Path]]:
    """The files one `--extra-files` entry stands for, as (member name, path)."""
    path = Path(entry)
    if path.is_dir():
        yield from _below(path, "", ())
    elif path.exists():
        yield path.name, path
    elif glob.has_magic(entry):
        matches = sorted(glob.glob(entry))  # noqa: PTH207 - Path.glob takes no absolute ones
        if not matches:
            on_note(f"no file matches {entry}")
        for match in matches:
            if not Path(match).is_dir():
                yield Path(match).name, Path(match)
            elif not is_skipped_directory(Path(match).name):
                yield from _below(Path(match), "", ())
    else:
        raise InputMissing("input-missing", f"The extra file {entry} does not exist.")


def _below(folder: Path, prefix: str, above: tuple[Path, ...]) -> Iterator[tuple[str, Path]]:
    """All files of a directory, but for caches and hidden directories; links are followed."""
    real = folder.resolve()
    if real in above:
        raise InputInvalid(
            "input-invalid", f"{folder} is a link that leads back to its own folder."
        )
    for path in sorted(folder.iterdir()):
        if not path.is_dir():
            yield prefix + path.name, path
        elif not is_skipped_directory(path.name):
            yield from _below(path, f"{prefix}{path.name}/", (*above, real))


def _enter(found: dict[str, Path], name: str, path: Path, manifest_name: str) -> None:
    """Two files of one name: TorchServe's archiver let the later win without a word; we refuse."""
    if not path.exists():
        raise InputMissing("input-missing", f"{path} is a link to a file that does not exist.")
    if not path.is_file():
        raise InputInvalid("input-invalid", f"{path} is not a regular file.")
    if name == manifest_name:
        raise InputClash(
            "clash",
            f"{path} would replace the manifest that is written now; leave {manifest_name} out of "
            "the extra files.",
        )
    other = found.setdefault(name, path)
    if other != path and not _is_same_content(other, path):
        raise InputClash(
            "clash",
            f"{other} and {path} are different files, but both would be {name} in the archive; "
            "rename one of them.",
        )


def _is_same_content(one: Path, other: Path) -> bool:
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as left, other.open("rb") as right:
        while piece := left.read(_SMALL_BYTES):
            if piece != right.read(_SMALL_BYTES):
                return False
    return True


def _source(path: Path, name: str, serialized_file: str | None) -> Source:
    size_bytes = path.stat().st_size
    is_weights = (
        name == serialized_file
        or path.suffix.lower() in _STORED_SUFFIXES
        or (size_bytes > _SMALL_BYTES and not _is_text(path))
    )
    return Source(path, name, size_bytes, is_weights)


def _is_text(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(8 * KIB)
    # a character may be cut in two at the end of what was read
    return b"\0" not in start and "\ufffd" not in start.decode(errors="replace")[:-1]


def _check_members(sources: tuple[Source, ...], manifest_name: str) -> None:
    members = [Member(manifest_name, False, 0, 0, "plain")]
    members += [Member(s.member, False, s.size_bytes, s.size_bytes, "plain") for s in sources]
    problem: ArchiveError | None = next(member_problems(members), None)
    if problem is not None:
        raise InputInvalid("input-invalid", f"{problem} Rename the file.") from problem


def created_on(source_date_epoch: str | None) -> str:
    """The manifest's time of creation: not now, so that equal inputs give equal archives.

    Equal bytes mean an equal digest, and the server's cache and a deployment's change detection
    go by the digest. Who wants a date in it says which, by the convention of reproducible builds.
    """
    if not source_date_epoch:
        return NO_DATE
    try:
        moment = datetime.fromtimestamp(int(source_date_epoch), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise InputInvalid(
            "input-invalid",
            f"SOURCE_DATE_EPOCH is {source_date_epoch!r}; it must be seconds since 1970.",
        ) from error
    return moment.strftime("%d/%m/%Y %H:%M:%S")


def archiver_version() -> str | None:
    """The release of this package; None in a source tree."""
    try:
        return importlib.metadata.version(_DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:  # run from a source tree
        return None


def _base_name(path: Path | None) -> str | None:
    return None if path is None else path.name
