"""Which names, sizes and numbers of files may live in an archive.

Pure: judges strings and figures, touches no disk. A name is accepted as it stands or refused;
nothing is repaired, because two programs that repair differently see two different archives.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from marserve_archiver.errors import ArchiveError, TooLarge, Unsafe

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

Method = Literal["stored", "deflated", "deflate64", "gzip", "plain"]

# On Windows these are devices under any extension; an archive has to mean the same everywhere.
_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$"]
    + [f"{port}{n}" for port in ("com", "lpt") for n in (*range(1, 10), *"\u00b9\u00b2\u00b3")]
)
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much an archive may ask of its reader."""

    max_members: int = 50_000
    max_name_bytes: int = 512
    max_segment_bytes: int = 255
    max_depth: int = 32
    max_total_bytes: int = 50 * GIB
    max_growth: int = 10
    """All members together: `max_growth` times the archive's size, and `growth_slack_bytes`."""
    growth_slack_bytes: int = GIB
    max_ratio: int = 200
    """One member: `max_ratio` times its packed size, and `ratio_slack_bytes`."""
    ratio_slack_bytes: int = MIB
    max_manifest_bytes: int = 256 * KIB

    def total_bytes(self, archive_bytes: int) -> int:
        """How large the members of an archive of this size may be together."""
        return min(self.max_total_bytes, self.max_growth * archive_bytes + self.growth_slack_bytes)

    def inflated_bytes(self, packed_bytes: int) -> int:
        """How large a member with this many packed bytes may be."""
        return self.max_ratio * packed_bytes + self.ratio_slack_bytes


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Member:
    """One file or directory of an archive, as its directory describes it."""

    name: str
    """Relative path with forward slashes; a directory has no slash at its end."""
    is_directory: bool
    size_bytes: int
    packed_bytes: int
    method: Method
    crc32: int | None = None
    """None where the format has no checksum (folders)."""
    offset_bytes: int | None = None
    """Where the packed bytes begin in the archive; None where they are no range of it."""


def name_problem(name: str, limits: Limits = DEFAULT_LIMITS) -> ArchiveError | None:
    """Why this name may not live in an archive, or None when it may."""
    try:
        encoded_bytes = len(name.encode())
    except UnicodeEncodeError:
        return Unsafe("unsafe-name", f"The member name {name!r} is not valid Unicode.")
    if encoded_bytes > limits.max_name_bytes:
        return TooLarge(
            "name-too-long",
            f"The member name {name[:60]!r}… has {encoded_bytes} bytes, more than "
            f"{limits.max_name_bytes}.",
        )
    if any(unicodedata.category(char) == "Cc" for char in name):
        return Unsafe("unsafe-name", f"The member name {name!r} holds a control character.")
    if "\\" in name:
        return Unsafe("unsafe-path", f"The member name {name!r} holds a backslash; use '/'.")
    if name.startswith("/") or _DRIVE.match(name):
        return Unsafe("unsafe-path", f"The member name {name!r} is an absolute path.")
    segments = name.split("/")
    if len(segments) > limits.max_depth:
        return TooLarge(
            "too-deep",
            f"The member {name[:60]!r}… lies {len(segments)} levels deep, more than "
            f"{limits.max_depth}.",
        )
    return next(filter(None, (_segment_problem(name, part, limits) for part in segments)), None)


def member_problems(
    members: Iterable[Member], limits: Limits = DEFAULT_LIMITS
) -> Iterator[ArchiveError]:
    """Everything that is wrong with these members' names, one error for each name."""
    spellings = _Spellings()
    for count, member in enumerate(members, start=1):
        if count > limits.max_members:
            yield TooLarge(
                "too-many-members", f"The archive has more than {limits.max_members} members."
            )
            return
        problem = name_problem(member.name, limits) or spellings.clash(member)
        if problem is not None:
            yield problem


def size_problems(
    members: Iterable[Member], archive_bytes: int, limits: Limits = DEFAULT_LIMITS
) -> Iterator[ArchiveError]:
    """Members that claim to inflate beyond reason, alone or all together."""
    total_bytes = 0
    for member in members:
        total_bytes += member.size_bytes
        if member.method in ("deflated", "deflate64") and (
            member.size_bytes > limits.inflated_bytes(member.packed_bytes)
        ):
            yield TooLarge(
                "bomb",
                f"The member {member.name!r} would grow from {member.packed_bytes} to "
                f"{member.size_bytes} bytes, more than {limits.max_ratio} times its packed size.",
            )
    allowed_bytes = limits.total_bytes(archive_bytes)
    if total_bytes > allowed_bytes:
        yield TooLarge(
            "too-large",
            f"The members have {total_bytes} bytes together, more than the {allowed_bytes} that "
            f"an archive of {archive_bytes} bytes may hold.",
        )


class _Spellings:
    """The names seen so far, found again in any case and any Unicode composition."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[str, bool]] = {}  # folded name → spelling, is a directory
        self._listed: set[str] = set()  # exact names that have an entry of their own
        self._parents: set[str] = set()  # exact spellings of implied directories

    def clash(self, member: Member) -> ArchiveError | None:
        """Enters a member; an error when it cannot live beside those entered before."""
        for parent in _parents_of(member.name):
            if parent in self._parents:
                break
            problem = self._enter(parent, is_directory=True)
            if problem is not None:
                return problem
            self._parents.add(parent)
        problem = self._enter(member.name, is_directory=member.is_directory)
        if problem is None and member.is_directory and member.name in self._listed:
            problem = _duplicate(member.name, member.name)
        self._listed.add(member.name)
        return problem

    def _enter(self, name: str, *, is_directory: bool) -> ArchiveError | None:
        spelling, was_directory = self._seen.setdefault(_folded(name), (name, is_directory))
        if was_directory != is_directory:
            return Unsafe(
                "file-and-directory",
                f"The member {name!r} is a file and a directory at once (also {spelling!r}).",
            )
        if spelling != name or (not is_directory and name in self._listed):
            return _duplicate(name, spelling)
        return None


def _duplicate(name: str, spelling: str) -> ArchiveError:
    if name == spelling:
        return Unsafe("duplicate-name", f"The member {name!r} is listed twice.")
    return Unsafe(
        "duplicate-name",
        f"The names {spelling!r} and {name!r} are the same where case or composition of letters "
        "does not count.",
    )


def _parents_of(name: str) -> Iterator[str]:
    """The directories above a name, nearest first."""
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _segment_problem(name: str, segment: str, limits: Limits) -> ArchiveError | None:
    if segment in ("", ".", ".."):
        return Unsafe("unsafe-path", f"The member name {name!r} has the part {segment!r}.")
    if len(segment.encode()) > limits.max_segment_bytes:
        return TooLarge(
            "name-too-long",
            f"The member name {name[:60]!r}… has a part of more than "
            f"{limits.max_segment_bytes} bytes.",
        )
    if segment[-1] in ". ":
        return Unsafe(
            "unsafe-name", f"The member name {name!r} has a part that ends in a dot or a space."
        )
    if segment.split(".", 1)[0].rstrip(" ").casefold() in _DEVICES:
        return Unsafe("unsafe-name", f"The member name {name!r} names a Windows device.")
    return None
