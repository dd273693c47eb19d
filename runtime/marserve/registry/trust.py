"""What an archive has to show before one byte of it is understood: its digest, or a signature.

Everything is judged by the digest of the very bytes that are unpacked afterwards. Keys and lists
are read anew each time, so that taking one away counts at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from marserve.registry import pins
from marserve.registry.pins import MAX_PINS_BYTES, PINS_NAME, PinsInvalid
from marserve_archiver.archive import Check
from marserve_archiver.errors import ArchiveError, NotTrusted
from marserve_archiver.signature import Signature, parse
from marserve_archiver.signing import (
    check_signature,
    read_signature,
    signature_path,
    trusted_keys,
)


@dataclass(frozen=True, slots=True)
class Rules:
    """What the operator asks for."""

    require_signed: bool = False
    trusted_keys: tuple[Path, ...] = ()
    """Public keys: files, and folders of them."""
    require_pins: bool = False


@dataclass(frozen=True, slots=True)
class Expected:
    """What is known beforehand of one archive."""

    name: str
    """In the store."""
    sha256: str | None = None
    """From whoever asked for it; None: nothing was said."""
    signature: bytes | None = None
    """Fetched with it; None: the file beside it counts."""


class Trust:
    """The rules of one store."""

    def __init__(self, root: Path | None, rules: Rules) -> None:
        """`root`: the folder of the store, where the list of digests lies."""
        self._root = root
        self.rules = rules

    def check(self, expected: Expected) -> Check:
        """For `open_archive`: raises NotTrusted unless the archive has shown what it has to."""

        def check(digest: str) -> None:
            if expected.sha256 is not None:
                _compare(digest, expected.sha256, "was expected")
            self._check_pin(expected.name, digest)
            if self.rules.require_signed:
                self._check_signature(self._signature(expected), digest)

        return check

    def check_beforehand(self, signature: bytes) -> None:
        """Whether a signature is a trusted one of some archive, while that one is not here yet.

        Raises:
            NotTrusted: it is none, so there is no use in getting the archive.
        """
        self._check_signature(parse(signature), None)

    def check_folder(self, expected: Expected) -> None:
        """The same for a folder that is served in place: it has no bytes that could be settled.

        Raises:
            NotTrusted: something is asked for that a folder cannot show.
        """
        if self.rules.require_signed:
            raise NotTrusted("no-signature", "It is a folder, and only archives can be signed.")
        is_pinned = expected.sha256 is not None or expected.name in self._pins()
        if is_pinned or self.rules.require_pins:
            raise NotTrusted("other-digest", "It is a folder, which has no sha256 of its own.")

    def _check_signature(self, signature: Signature, digest: str | None) -> None:
        try:
            keys = trusted_keys(self.rules.trusted_keys)
        except (ArchiveError, OSError) as error:
            raise NotTrusted("unknown-key", f"The trusted keys cannot be used: {error}") from error
        check_signature(signature, digest or signature.digest, keys)

    def _check_pin(self, name: str, digest: str) -> None:
        pin = self._pins().get(name)
        if pin is not None:
            _compare(digest, pin, f"stands in {PINS_NAME}")
        elif self.rules.require_pins:
            raise NotTrusted("other-digest", f"{PINS_NAME} of the store does not list it.")

    def _pins(self) -> dict[str, str]:
        if self._root is None:
            return {}
        try:
            with (self._root / PINS_NAME).open("rb") as file:
                return dict(pins.parse(file.read(MAX_PINS_BYTES + 1)))
        except FileNotFoundError:
            return {}
        except (OSError, PinsInvalid) as error:
            raise NotTrusted(
                "other-digest", f"{PINS_NAME} of the store cannot be used: {error}."
            ) from error

    def _signature(self, expected: Expected) -> Signature:
        if expected.signature is not None:
            return parse(expected.signature)
        assert self._root is not None, "there is no archive without a store"
        return parse(read_signature(signature_path(self._root / expected.name)))


def _compare(digest: str, wanted: str, source: str) -> None:
    if digest != wanted:
        raise NotTrusted("other-digest", f"Its sha256 is {digest}, but {wanted} {source}.")
