"""What `archiver inspect` shows: an archive as text for people and as JSON for programs. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from marserve_archiver.archive import Kind
from marserve_archiver.manifest import NO_DATE, Manifest, dump
from marserve_archiver.members import KIB, Member

_FORMATS: Final[dict[Kind, str]] = {"zip": "zip", "tgz": "gzipped tar", "folder": "folder"}
_LABEL_WIDTH: Final = 14


@dataclass(frozen=True, slots=True)
class Report:
    """What is told about one archive."""

    path: Path
    kind: Kind
    size_bytes: int
    sha256: str
    manifest: Manifest
    members: tuple[Member, ...]

    @property
    def files(self) -> tuple[Member, ...]:
        """The members that are files."""
        return tuple(member for member in self.members if not member.is_directory)


def as_json(report: Report) -> str:
    """The report as one JSON object; sizes in bytes."""
    document = {
        "path": str(report.path),
        "format": report.kind,
        "size_bytes": report.size_bytes,
        "sha256": report.sha256,
        "manifest": json.loads(dump(report.manifest)),
        "files": [
            {
                "name": member.name,
                "size_bytes": member.size_bytes,
                "packed_bytes": None if report.kind == "tgz" else member.packed_bytes,
                "method": member.method,
                "offset_bytes": member.offset_bytes,
            }
            for member in report.files
        ],
        "total_bytes": sum(member.size_bytes for member in report.files),
    }
    return json.dumps(document, indent=2)


def as_text(report: Report) -> str:
    """The report as a page of text."""
    lines = [printable(str(report.path)), ""]
    lines += [f"  {label:<{_LABEL_WIDTH}}{printable(value)}" for label, value in _facts(report)]
    lines += ["", *_table(report)]
    return "\n".join(lines)


def printable(text: str) -> str:
    """Text that cannot steer a terminal: what an archive says is not ours."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def size_text(size_bytes: int) -> str:
    """A size for people, in binary units."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < KIB or unit == "GiB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= KIB
    raise AssertionError("the last unit always returns")


def count_text(count: int, noun: str) -> str:
    """A number of things: `1 file`, `2 files`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _facts(report: Report) -> Iterable[tuple[str, str]]:
    manifest = report.manifest
    facts = {
        "model": f"{manifest.model_name or '(no name)'} {manifest.model_version}",
        "handler": manifest.handler,
        "model file": manifest.model_file,
        "weights": manifest.serialized_file,
        "requirements": manifest.requirements_file,
        "config": manifest.config_file,
        "runtime": manifest.runtime,
        "created": None if manifest.created_on == NO_DATE else manifest.created_on,
        "format": f"{_FORMATS[report.kind]}, {size_text(report.size_bytes)}",
        "sha256": report.sha256,
    }
    facts |= {key: json.dumps(value) for key, value in manifest.other.items()}
    facts |= {f"model.{key}": json.dumps(value) for key, value in manifest.model_other.items()}
    return ((label, value) for label, value in facts.items() if value is not None)


def _table(report: Report) -> list[str]:
    files = report.files
    total_bytes = sum(member.size_bytes for member in files)
    total_packed = sum(member.packed_bytes for member in files)
    rows: list[tuple[int, int, str, str]] = [
        (m.size_bytes, m.packed_bytes, m.method, printable(m.name)) for m in files
    ]
    rows.append((total_bytes, total_packed, "", count_text(len(files), "file")))
    has_packed = report.kind == "zip"  # the other formats pack the whole or nothing
    lines = [_row("size", "packed", "method", "file", has_packed=has_packed)]
    for size, packed, method, name in rows:
        lines.append(_row(size_text(size), size_text(packed), method, name, has_packed=has_packed))
    lines.insert(-1, "  " + "-" * (max(len(line) for line in lines) - 2))
    return lines


def _row(size: str, packed: str, method: str, name: str, *, has_packed: bool) -> str:
    if has_packed:
        return f"  {size:>10}  {packed:>10}  {method:<9}  {name}"
    return f"  {size:>10}  {name}"
