"""Properties file, command line and environment become one frozen Config.

Only `load` reads a file; everything else is pure. Mistakes are collected and reported together,
each with its place, key, value and what was expected.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marserve.config_models import LoadModels, ModelOverrides, ModelToLoad
from marserve.config_values import Address
from marserve.errors import ConfigInvalid
from marserve.foreign_settings import NOT_USED_YET, REFUSED, WITHOUT_MEANING, environment_name
from marserve.properties import parse, substitute
from marserve.settings import SETTINGS

__all__ = ["Address", "Config", "LoadModels", "Loaded", "ModelOverrides", "ModelToLoad", "load"]

_DEFAULT_FILE = "config.properties"
_COMMAND_LINE = "the command line"


@dataclass(frozen=True, slots=True)
class Config:
    """All settings, typed. Paths are absolute; what each setting means stands in `settings.py`."""

    inference: Address
    management: Address
    metrics: Address
    enable_metrics_api: bool
    model_store: Path | None
    load_models: LoadModels
    models: Mapping[str, Mapping[str, ModelOverrides]]
    """By model name, then by version."""
    default_service_handler: str | None
    enable_model_api: bool
    default_workers_per_model: int
    batch_size: int
    max_batch_delay_ms: int
    job_queue_size: int
    blacklist_env_vars: re.Pattern[str] | None
    """Hides a variable from workers when it matches the whole name."""
    max_request_bytes: int
    max_response_bytes: int
    limit_max_image_pixels: bool
    default_response_timeout_s: int
    default_startup_timeout_s: int
    unregister_model_timeout_s: int
    decode_input_request: bool
    log_dir: Path
    cache_dir: Path
    metrics_mode: str
    metrics_format: str
    disable_system_metrics: bool
    disable_token_authorization: bool
    enable_envvars_config: bool
    snapshots: bool = True
    """Changes are saved and restored at the next start."""
    config_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """A Config and what its author should know about it, one sentence each."""

    config: Config
    warnings: tuple[str, ...]


def load(
    config_file: Path | None, overrides: Mapping[str, str], environ: Mapping[str, str], cwd: Path
) -> Loaded:
    """The configuration of this start.

    `overrides` are settings from the command line, by key. The file is the one that
    TS_CONFIG_FILE names, else `config_file`, else ./config.properties where that exists.

    Raises:
        ConfigInvalid: the file cannot be read, or values cannot be used; all are in the message.
    """
    chosen, warnings = _chosen_file(config_file, environ, cwd)
    text = "" if chosen is None else _text_of(chosen)
    return build(text, chosen, overrides, environ, cwd, warnings)


def build(
    text: str,
    config_file: Path | None,
    overrides: Mapping[str, str],
    environ: Mapping[str, str],
    cwd: Path,
    warnings: tuple[str, ...] = (),
) -> Loaded:
    """`load` for the text of a file that is read already. Pure."""
    reading = _Reading(list(warnings))
    reading.take_file(text, _shown(config_file, cwd), environ)
    for key, value in overrides.items():
        reading.take(key, value, _COMMAND_LINE)
    if reading.values.get("enable_envvars_config"):
        reading.take_environment(environ)
    values = {key: setting.type.read(setting.default, []) for key, setting in SETTINGS.items()}
    values |= reading.values
    if values["cache_dir"] is None:
        values["cache_dir"] = _default_cache_dir(environ)
    reading.check_together(values)
    if reading.mistakes:
        raise ConfigInvalid(_in_one_message(reading.mistakes))
    fields = {SETTINGS[key].field: _absolute(value, cwd) for key, value in values.items()}
    config: Config = Config(**fields, config_file=config_file)
    return Loaded(config, tuple(reading.warnings))


class _Reading:
    """What has been read so far: the last value of each key, mistakes, warnings."""

    def __init__(self, warnings: list[str]) -> None:
        self.values: dict[str, Any] = {}
        self.unusable: set[str] = set()
        self.mistakes: list[str] = []
        self.warnings = warnings

    def take_file(self, text: str, file_name: str, environ: Mapping[str, str]) -> None:
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

    def take_environment(self, environ: Mapping[str, str]) -> None:
        known = [key for key, setting in SETTINGS.items() if not setting.file_only]
        for key in (*known, *NOT_USED_YET, *WITHOUT_MEANING, *REFUSED):
            name = environment_name(key)
            if name in environ:
                self.take(key, environ[name], f"environment variable {name}")

    def take(self, key: str, text: str, where: str) -> None:
        """Record one value, or why it cannot be."""
        if key in SETTINGS:
            self._take_value(key, text.strip(), where)
        elif key in REFUSED and text.strip().lower() not in REFUSED[key].harmless:
            self.mistakes.append(f"{where}: {key} cannot be honoured: {REFUSED[key].reason}.")
        elif key in REFUSED:
            self.warnings.append(f"{where}: {key} is not used by this version.")
        elif key in NOT_USED_YET:
            self.warnings.append(
                f"{where}: {key} is not used by this version: {NOT_USED_YET[key]}."
            )
        elif key in WITHOUT_MEANING:
            self.warnings.append(f"{where}: {key} has no meaning here: {WITHOUT_MEANING[key]}.")
        else:
            self.mistakes.append(f"{where}: {key} is not a setting. {_nearest(key)}")

    def _take_value(self, key: str, text: str, where: str) -> None:
        notes: list[str] = []
        try:
            self.values[key] = SETTINGS[key].type.read(text, notes)
        except ValueError as error:
            self.unusable.add(key)
            self.mistakes.append(f"{where}: {key}={_shortened(text)}: {error}.")
        self.warnings += [f"{where}: {key}={_shortened(text)}: {note}." for note in notes]

    def check_together(self, values: Mapping[str, Any]) -> None:
        """The rules that join several settings."""
        keys = ["inference_address", "management_address"]
        keys += ["metrics_address"] if values["enable_metrics_api"] else []
        keys = [key for key in keys if key not in self.unusable]
        for index, key in enumerate(keys):
            for other in keys[index + 1 :]:
                self._check_apart(key, values[key], other, values[other])
        if "management_address" in keys and not values["management_address"].is_loopback:
            self._check_open_management(
                values["management_address"], values["disable_token_authorization"]
            )

    def _check_apart(self, key: str, first: Address, other: str, second: Address) -> None:
        if first.collides_with(second):
            self.mistakes.append(
                f"{key}={first} and {other}={second} are the same port; give each its own "
                "(shared ports are not supported in this version)."
            )

    def _check_open_management(self, address: Address, is_accepted: bool) -> None:
        if is_accepted:
            self.warnings.append(
                f"management_address={address} is open beyond this machine and asks for no token: "
                "ANYONE WHO REACHES THIS PORT CAN LOAD CODE ON THIS MACHINE."
            )
        else:
            self.mistakes.append(
                f"management_address={address} can be reached from other machines, and whoever "
                "reaches it can load code: use http://127.0.0.1:PORT, or set "
                "disable_token_authorization=true if something else protects the port."
            )


def _chosen_file(
    config_file: Path | None, environ: Mapping[str, str], cwd: Path
) -> tuple[Path | None, tuple[str, ...]]:
    named = environ.get("TS_CONFIG_FILE")
    if named:
        chosen = cwd / named
        if config_file is None or cwd / config_file == chosen:
            return chosen, ()
        return chosen, (
            f"the environment variable TS_CONFIG_FILE={named} is followed, not {config_file}.",
        )
    if config_file is not None:
        return cwd / config_file, ()
    present = cwd / _DEFAULT_FILE
    return (present if present.is_file() else None), ()


def _text_of(path: Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ConfigInvalid(f"The configuration file {path} does not exist.") from None
    except OSError as error:
        raise ConfigInvalid(
            f"The configuration file {path} cannot be read: {error.strerror}."
        ) from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:  # Java wrote these files in Latin-1 for twenty years
        return content.decode("latin-1")


def _default_cache_dir(environ: Mapping[str, str]) -> Path:
    base = Path(environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # the rule of XDG: a relative path counts as unset
        base = Path(environ.get("HOME", ""), ".cache")
    return base / "marserve"


def _shown(config_file: Path | None, cwd: Path) -> str:
    if config_file is None:
        return _DEFAULT_FILE
    return config_file.name if config_file.parent == cwd else str(config_file)


def _absolute(value: Any, cwd: Path) -> Any:
    return cwd / value if isinstance(value, Path) else value


def _nearest(key: str) -> str:
    known = {*SETTINGS, *NOT_USED_YET, *WITHOUT_MEANING, *REFUSED}
    near = difflib.get_close_matches(key.lower(), known, n=1)
    return f"Did you mean {near[0]}?" if near else "`marserve config example` prints them all."


def _shortened(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."


def _in_one_message(mistakes: list[str]) -> str:
    if len(mistakes) == 1:
        return mistakes[0]
    lines = "".join(f"\n  {mistake}" for mistake in mistakes)
    return f"The configuration has {len(mistakes)} mistakes:{lines}"
