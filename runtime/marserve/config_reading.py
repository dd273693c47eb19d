"""Collects what file, command line and environment say of each key, and what is wrong. Pure.

Mistakes and warnings are sentences that begin with the place; the caller decides when to raise.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from marserve.errors import ConfigInvalid
from marserve.foreign_settings import (
    ALIASES,
    ALWAYS_FROM_ENVIRONMENT,
    LOCATIONS,
    WITHOUT_MEANING,
    WRITTEN_BY_TORCHSERVE,
    environment_name,
)
from marserve.properties import parse, substitute
from marserve.settings import SETTINGS

_KNOWN = (*SETTINGS, *ALIASES, *WITHOUT_MEANING)
_SLIP = 0.8
"""How much a key must resemble a known one to count as a slip of the pen (difflib's ratio)."""


class Reading:
    """What has been read so far: the last value of each key, mistakes, warnings."""

    def __init__(self, *, is_snapshot: bool = False) -> None:
        self.values: dict[str, Any] = {}
        self.texts: dict[str, str] = {}
        """What file and command line said, by key, strangers included."""
        self.places: dict[str, str] = {}
        """Where the value of each setting stood."""
        self.unusable: set[str] = set()
        self.mistakes: list[str] = []
        self.warnings: list[str] = []
        self._is_snapshot = is_snapshot

    def take_file(self, text: str, file_name: str, environ: Mapping[str, str]) -> None:
        """All entries of a properties file; of two with one key the last counts."""
        try:
            entries = parse(text)
        except ConfigInvalid as error:
            self.mistakes.append(f"{file_name}, {error.message}.")
            return
        last = {entry.key: entry for entry in entries}
        for entry in entries:
            where = f"{file_name}, line {entry.line}"
            if last[entry.key] is not entry:
                self.warnings.append(
                    f"{where}: {entry.key} is given again in line {last[entry.key].line}, "
                    "which counts."
                )
                continue
            try:
                value = substitute(entry.value, environ)
            except ConfigInvalid as error:
                self.unusable.add(entry.key)
                self.mistakes.append(f"{where}: {entry.key}={entry.value}: {error.message}.")
                continue
            self.take(entry.key, value, where)
            self.texts[entry.key] = entry.value

    def take_override(self, key: str, text: str) -> None:
        """A value of the command line."""
        self.take(key, text, "the command line")
        self.texts[key] = text

    def take_environment(self, environ: Mapping[str, str]) -> None:
        """The variables that may set a key, which depends on what has been taken before."""
        for key, name in LOCATIONS.items():
            if environ.get(name):
                self.take(key, environ[name], f"environment variable {name}")
        for key in self._keys_open_to_environment():
            name = environment_name(key)
            if name in environ:
                self.take(key, environ[name], f"environment variable {name}")

    def _keys_open_to_environment(self) -> list[str]:
        keys: list[str] = [*ALWAYS_FROM_ENVIRONMENT]
        if self.values.get("enable_envvars_config"):
            closed = {key for key, setting in SETTINGS.items() if setting.file_only}
            keys = [key for key in _KNOWN if key not in {*closed, "allowed_urls"}]
        if self.values.get("use_env_allowed_urls"):
            keys.append("allowed_urls")
        return keys

    def take(self, key: str, text: str, where: str) -> None:
        """Record one value, or why it cannot be."""
        key = ALIASES.get(key, key)
        if key in SETTINGS:
            self._take_value(key, text.strip(), where)
        elif key in WITHOUT_MEANING:
            if not (self._is_snapshot and key in WRITTEN_BY_TORCHSERVE):
                self.warnings.append(f"{where}: {key} has no meaning here: {WITHOUT_MEANING[key]}.")
        else:
            self._take_stranger(key, where)

    def _take_value(self, key: str, text: str, where: str) -> None:
        notes: list[str] = []
        self.places[key] = where
        try:
            self.values[key] = SETTINGS[key].type.read(text, notes)
        except ValueError as error:
            self.unusable.add(key)
            self.mistakes.append(f"{where}: {_shown(key, text)}: {error}.")
        self.warnings += [f"{where}: {_shown(key, text)}: {note}." for note in notes]

    def complain(self, sentence: str, *keys: str) -> None:
        """Add a mistake that several settings make together, with the place of the last of them."""
        places = [self.places[key] for key in keys if key in self.places]
        self.mistakes.append(f"{places[-1]}: {sentence}" if places else sentence)

    def _take_stranger(self, key: str, where: str) -> None:
        """A slip is a mistake; a key that resembles none is meant for some other program."""
        near = difflib.get_close_matches(key.lower(), _KNOWN, n=1, cutoff=_SLIP)
        if near:
            self.mistakes.append(f"{where}: {key} is not a setting. Did you mean {near[0]}?")
        else:
            self.warnings.append(
                f"{where}: {key} is not a setting and has no effect; "
                "`marserve config example` prints them all."
            )


def _shown(key: str, text: str) -> str:
    if key == "keystore_pass":
        text = "…"
    return f"{key}={text if len(text) <= 80 else f'{text[:77]}...'}"
