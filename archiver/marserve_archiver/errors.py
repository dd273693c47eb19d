"""What can be wrong with an archive, or with the wish to make one.

    ArchiveError
    ├── whoever made the archive   Malformed  Unsupported  Unsafe  TooLarge  ManifestInvalid
    │                              NotTrusted
    ├── whoever packs              InputMissing  InputInvalid  InputClash  ArchiveExists
    └── the machine                NoSpace  Unreadable

Every error is one sentence that says what to do or what was found, and carries a short `reason`
for programs: the class says who has to act, the reason says which rule was broken.
"""

from __future__ import annotations

from typing import Literal

Reason = Literal[
    # Malformed: the bytes contradict the format, or each other
    "not-an-archive",
    "truncated",
    "leading-data",
    "trailing-data",
    "unlisted-data",
    "two-directories",
    "bad-structure",
    "header-mismatch",
    "overlap",
    "bad-data",
    "bad-size",
    "bad-checksum",
    "changed",
    # Unsupported: legal in the format, not in a model archive
    "encrypted",
    "multi-disk",
    "unsupported-method",
    # Unsafe: names and types that have no business on the reader's disk
    "unsafe-path",
    "unsafe-name",
    "duplicate-name",
    "file-and-directory",
    "link",
    "special-file",
    "special-mode",
    # TooLarge: more than the limits allow
    "bomb",
    "too-large",
    "too-many-members",
    "name-too-long",
    "too-deep",
    # ManifestInvalid
    "bad-manifest",
    "bad-runtime",
    "manifest-too-large",
    "missing-file",
    "bad-python",
    # NotTrusted
    "no-signature",
    "bad-signature",
    "unknown-key",
    "other-archive",
    "other-digest",
    # whoever packs
    "input-missing",
    "input-invalid",
    "clash",
    "exists",
    # the machine
    "no-space",
    "unreadable",
]


class ArchiveError(Exception):
    """The base of all errors of this package. `str(error)` is one sentence."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason
        self.message = message


class Malformed(ArchiveError):
    """The file is no archive, is damaged, or tells two readers two different things."""


class Unsupported(ArchiveError):
    """The archive uses a feature of its format that model archives do not have."""


class Unsafe(ArchiveError):
    """A member has a name or a type that could reach outside its folder."""


class TooLarge(ArchiveError):
    """The archive, a member or a name is larger than the limits allow."""


class ManifestInvalid(ArchiveError):
    """The manifest cannot be used, or names a file that is absent or broken."""


class NotTrusted(ArchiveError):
    """It is not signed by a trusted key, or not the archive that was expected."""


class InputMissing(ArchiveError):
    """A file that was named does not exist."""


class InputInvalid(ArchiveError):
    """A value or file that was given cannot go into an archive."""


class InputClash(ArchiveError):
    """Two different files would get the same name in the archive."""


class ArchiveExists(ArchiveError):
    """The target is there already."""


class NoSpace(ArchiveError):
    """The disk has no room for what has to be written: `needed_bytes`, where that is known."""

    def __init__(self, reason: Reason, message: str, needed_bytes: int | None = None) -> None:
        super().__init__(reason, message)
        self.needed_bytes = needed_bytes


class Unreadable(ArchiveError):
    """The operating system does not let us read the archive."""
