"""Model archives: pack them, open them safely, read what they say about themselves.

    with open_archive(Path("resnet50.mar")) as archive:
        print(archive.manifest.model_name, archive.sha256())
        archive.extract(Path("resnet50"))

Needs the standard library, and `zipfile-deflate64` for archives that Windows tools wrote.
"""

from marserve_archiver.archive import Archive, open_archive
from marserve_archiver.collect import Recipe
from marserve_archiver.errors import ArchiveError
from marserve_archiver.extraction import remove_stale_partials
from marserve_archiver.manifest import Manifest
from marserve_archiver.members import Limits, Member
from marserve_archiver.packing import pack
from marserve_archiver.verification import verify

__all__ = [
    "Archive",
    "ArchiveError",
    "Limits",
    "Manifest",
    "Member",
    "Recipe",
    "open_archive",
    "pack",
    "remove_stale_partials",
    "verify",
]
