"""The command `archiver`: packs, inspects and verifies archives of models and workflows.

Turns argv into calls and errors into one sentence and an exit code; decides nothing else.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from marserve_archiver import signing_commands
from marserve_archiver.archive import Archive, open_archive
from marserve_archiver.collect import Recipe
from marserve_archiver.errors import (
    ArchiveError,
    ArchiveExists,
    InputClash,
    InputInvalid,
    InputMissing,
    NoSpace,
)
from marserve_archiver.manifest import RUNTIMES
from marserve_archiver.members import MIB
from marserve_archiver.packing import ARCHIVE_FORMATS, pack
from marserve_archiver.report import Report, as_json, as_text, count_text, printable, size_text
from marserve_archiver.verification import verify
from marserve_archiver.workflow_packing import WorkflowRecipe, pack_workflow

OK, USAGE, MISSING, EXISTS, REFUSED, INVALID, SYSTEM, INTERRUPTED = 0, 2, 3, 4, 5, 6, 7, 130

_CODES: Final[tuple[tuple[type[ArchiveError], int], ...]] = (
    (InputMissing, MISSING),
    (ArchiveExists, EXISTS),
    (InputInvalid, INVALID),
    (InputClash, INVALID),
    (NoSpace, SYSTEM),
)
_PROGRESS_FROM_BYTES: Final = 64 * MIB

_DESCRIPTION: Final = """\
Packs a trained model, its handler and its files into one archive that MarServe serves.

  archiver [pack] --model-name NAME --version VERSION --handler HANDLER ...
  archiver workflow --workflow-name NAME --spec-file FILE ...
  archiver inspect ARCHIVE [--json]     manifest, files and digest of an archive
  archiver verify ARCHIVE               every problem of an archive
  archiver verify --key KEY ARCHIVE     ... and whether it is signed with this key
  archiver keygen KEY                   a pair of keys to sign with
  archiver sign --key KEY ARCHIVE       writes ARCHIVE.sig
"""
_EPILOG: Final = """\
example:
  archiver --model-name resnet50 --version 1.0 --model-file model.py \\
      --serialized-file resnet50.pth --handler image_classifier \\
      --extra-files index_to_name.json --export-path model_store/

The same files always give the same bytes. Weights are stored uncompressed at page boundaries, so
that they can be mapped into memory. Set SOURCE_DATE_EPOCH to record a date in the manifest.

exit codes:
  0 done   2 wrong usage   3 file missing   4 archive exists   5 archive refused
  6 files or names that cannot be packed   7 disk or permissions   130 interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    commands = {
        "pack": _pack,
        "workflow": _workflow,
        "inspect": _inspect,
        "verify": _verify,
        "keygen": _keygen,
        "sign": _sign,
    }
    # without a command it is a pack, as scripts made for torch-model-archiver expect
    is_named = bool(arguments) and not arguments[0].startswith("-")
    name = arguments.pop(0) if is_named else "pack"
    if name not in commands:
        return _fail(f"{name!r} is no command; there are {', '.join(commands)}.", USAGE)
    try:
        return commands[name](arguments)
    except ArchiveError as error:
        return _fail(str(error), _code(error))
    except BrokenPipeError:
        # whoever read our output has enough; keep the interpreter from flushing into the void
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}.", SYSTEM)
    except KeyboardInterrupt as interrupt:
        _let_go(interrupt)
        if argv is None:  # the process ends now, and what is freed at its end has nothing to say
            sys.unraisablehook = _say_nothing
        return _fail("interrupted; nothing was written.", INTERRUPTED)


def _say_nothing(_: object) -> None:
    """Takes the place of `sys.unraisablehook`."""


def _let_go(interrupt: KeyboardInterrupt) -> None:
    """Free what was in the making without a word: half a ZipFile complains when it is freed."""
    heard, sys.unraisablehook = sys.unraisablehook, _say_nothing
    try:
        traceback.clear_frames(interrupt.__traceback__)
    finally:
        sys.unraisablehook = heard


def _pack(arguments: list[str]) -> int:
    options = _pack_parser().parse_args(arguments)
    recipe = Recipe(
        model_name=options.model_name,
        version=options.version,
        handler=options.handler,
        model_file=options.model_file,
        serialized_file=options.serialized_file,
        extra_files=_entries(options.extra_files),
        requirements_file=options.requirements_file,
        config_file=options.config_file,
        runtime=options.runtime,
    )
    progress = _ProgressLine()
    try:
        path = pack(
            recipe,
            options.export_path,
            options.archive_format,
            force=options.force,
            on_progress=progress.show,
            on_note=_note,
        )
    finally:
        progress.clear()
    with open_archive(path) as archive:
        _say(f"{_line(archive)}, {size_text(_size_bytes(archive))}")
    return OK


def _workflow(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="archiver workflow",
        description="Packs a workflow: models and functions that pass on what they answer.",
    )
    add = parser.add_argument
    add("--workflow-name", required=True, metavar="NAME", help="also the name of the archive")
    add("--spec-file", required=True, type=Path, metavar="FILE", help="models and graph, in YAML")
    add("--handler", type=Path, metavar="FILE", help="Python file with the graph's functions")
    add("--extra-files", default="", metavar="A,B,...", help="more files, as for a model")
    add("--export-path", type=Path, default=Path(), metavar="FOLDER", help="where to write (.)")
    add("-f", "--force", action="store_true", help="replace an archive that exists")
    options = parser.parse_args(arguments)
    recipe = WorkflowRecipe(
        workflow_name=options.workflow_name,
        spec_file=options.spec_file,
        handler=options.handler,
        extra_files=_entries(options.extra_files),
    )
    path = pack_workflow(recipe, options.export_path, force=options.force, on_note=_note)
    with open_archive(path) as archive:
        _say(
            printable(f"{path}: {recipe.workflow_name}, {_files(archive)}, ")
            + size_text(_size_bytes(archive))
        )
    return OK


def _inspect(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="archiver inspect", description="Shows an archive's manifest, files and digest."
    )
    parser.add_argument("archive", type=Path, help="a .mar, .tar.gz or folder")
    parser.add_argument("--json", action="store_true", help="for programs; sizes in bytes")
    options = parser.parse_args(arguments)
    try:
        with open_archive(options.archive) as archive:
            report = Report(
                options.archive,
                archive.kind,
                _size_bytes(archive),
                archive.sha256(),
                archive.manifest,
                archive.members,
            )
    except InputMissing:
        raise
    except ArchiveError as error:
        return _fail(f"{options.archive} is refused: {error}", _code(error))
    _say(as_json(report) if options.json else as_text(report))
    return OK


def _verify(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="archiver verify", description="Reads every byte of an archive and lists all problems."
    )
    parser.add_argument("archive", type=Path, help="a .mar, .tar.gz or folder")
    parser.add_argument(
        "--key",
        type=Path,
        action="append",
        metavar="FILE",
        help="a public key, or a folder of them: the archive has to be signed with one",
    )
    parser.add_argument(
        "--signature", type=Path, metavar="FILE", help="the signature (ARCHIVE.sig)"
    )
    options = parser.parse_args(arguments)
    if options.signature and not options.key:
        return _fail("--signature needs --key.", USAGE)
    check = None
    if options.key:
        check = signing_commands.check_of(options.archive, options.signature, options.key)
    problems = verify(options.archive, check=check)
    if problems and isinstance(problems[0], InputMissing):
        raise problems[0]
    for problem in problems:
        _say(printable(str(problem)))
    if problems:
        return _fail(f"{options.archive} has {count_text(len(problems), 'problem')}.", REFUSED)
    with open_archive(options.archive, check=check) as archive:
        _say(f"OK {_line(archive)}")
    if check is not None:
        _say(f"signed with {check.key_id} at {check.made_at}")
    return OK


def _keygen(arguments: list[str]) -> int:
    _say(signing_commands.keygen(arguments))
    return OK


def _sign(arguments: list[str]) -> int:
    _say(signing_commands.sign_archive(arguments))
    return OK


def _pack_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="archiver",
        usage="archiver [pack] --model-name NAME --version VERSION --handler HANDLER [options]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(
            prog, max_help_position=30, width=100
        ),
        add_help=False,
    )
    required = parser.add_argument_group("required")
    required.add_argument(
        "--model-name", required=True, metavar="NAME", help="also the name of the archive"
    )
    required.add_argument(
        "-v", "--version", required=True, metavar="VERSION", help="version of the model, e.g. 1.0"
    )
    required.add_argument(
        "--handler",
        required=True,
        metavar="HANDLER",
        help="file.py, file.py:function, or the name of an installed handler such as "
        "image_classifier",
    )
    add = parser.add_argument_group("optional").add_argument
    add("--serialized-file", type=Path, metavar="FILE", help="the weights: .pt, .pth, .onnx, ...")
    add("--model-file", type=Path, metavar="FILE", help="Python file with the one model class")
    add(
        "--extra-files",
        default="",
        metavar="A,B,...",
        help="more files; wildcards allowed; a directory stands for its content",
    )
    add("-c", "--config-file", type=Path, metavar="FILE", help="model configuration in YAML")
    add("-r", "--requirements-file", type=Path, metavar="FILE", help="packages the handler needs")
    add("--runtime", choices=RUNTIMES, default="python", help="what runs the handler (python)")
    add("--export-path", type=Path, default=Path(), metavar="FOLDER", help="where to write (.)")
    add(
        "--archive-format",
        choices=ARCHIVE_FORMATS,
        default="default",
        help="default: zip; zip-store: zip without compression; tgz: .tar.gz; no-archive: a folder",
    )
    add("-f", "--force", action="store_true", help="replace an archive that exists")
    add("-h", "--help", action="help", help="show this page")
    return parser


class _ProgressLine:
    """One line on a terminal that says how far a long pack is."""

    def __init__(self) -> None:
        self._is_wanted = sys.stderr.isatty()
        self._shown = ""

    def show(self, done_bytes: int, total_bytes: int) -> None:
        if not self._is_wanted or total_bytes < _PROGRESS_FROM_BYTES:
            return
        text = f"packing {done_bytes * 100 // total_bytes:3d} % of {size_text(total_bytes)}"
        if text != self._shown:
            self._shown = text
            _draw(f"\r{text}")

    def clear(self) -> None:
        if self._shown:
            _draw(f"\r{' ' * len(self._shown)}\r")


def _line(archive: Archive) -> str:
    name = archive.manifest.model_name or "(no name)"
    return printable(f"{archive.path}: {name} {archive.manifest.model_version}, {_files(archive)}")


def _files(archive: Archive) -> str:
    return count_text(sum(not member.is_directory for member in archive.members), "file")


def _entries(extra_files: str) -> tuple[str, ...]:
    return tuple(filter(None, map(str.strip, extra_files.split(","))))


def _size_bytes(archive: Archive) -> int:
    if archive.kind == "folder":
        return sum(member.size_bytes for member in archive.members)
    return archive.path.stat().st_size


def _code(error: ArchiveError) -> int:
    return next((code for kind, code in _CODES if isinstance(error, kind)), REFUSED)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _note(text: str) -> None:
    sys.stderr.write(f"archiver: note: {printable(text)}\n")


def _fail(sentence: str, code: int) -> int:
    sys.stderr.write(f"archiver: {printable(sentence)}\n")
    return code


def _draw(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
