"""Which file holds the configuration of this start, and its text.

The environment variable TS_CONFIG_FILE names it, else the command line does, else it is
./config.properties where that exists. TorchServe looks into its folder of snapshots before that
last step: under its command names we do so too; our own commands only say that there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from marserve.config_snapshot import MODEL_SNAPSHOT, SNAPSHOT_KEY, is_by_marserve, snapshot_time
from marserve.errors import ConfigInvalid
from marserve.foreign_settings import LOG_DIR_VARIABLE
from marserve.properties import parse

DEFAULT_FILE = "config.properties"
SNAPSHOT_FOLDER = "config"
STATE_FOLDER = "state"
"""Below the log directory."""
_DEFAULT_LOG_DIR = "logs"
_LARGEST_BYTES = 16 * 1024 * 1024
_SNAPSHOTS_TRIED = 5


@dataclass(frozen=True, slots=True)
class Source:
    """The text of the chosen file; without a path there is none, and the text is empty."""

    path: Path | None = None
    text: str = ""
    warnings: tuple[str, ...] = ()
    is_snapshot: bool = False
    """Found in the folder of snapshots, not named by anybody."""
    is_by_torchserve: bool = False
    """A snapshot that TorchServe wrote, so TorchServe was the last to run here."""


def choose(
    config_file: Path | None, environ: Mapping[str, str], cwd: Path, *, like_torchserve: bool
) -> Source:
    """The source of this start.

    `like_torchserve`: the newest snapshot wins over ./config.properties.

    Raises:
        ConfigInvalid: the file that was named cannot be read.
    """
    named, warnings = _named(config_file, environ, cwd)
    snapshot = _newest_snapshot(cwd / (environ.get(LOG_DIR_VARIABLE) or _DEFAULT_LOG_DIR))
    if named is not None:
        if like_torchserve and snapshot.is_by_torchserve and snapshot.path not in (None, named):
            because = f" because {named.name} was named"
            warnings += (_left_aside(snapshot.path, because, "--ts-config"),)
        return Source(named, text_of(named), warnings)
    present = cwd / DEFAULT_FILE
    if like_torchserve and snapshot.path is not None:
        instead = f", NOT from {DEFAULT_FILE}" if present.is_file() else ""
        taken = (
            f"the configuration is taken from the snapshot {snapshot.path}{instead}; "
            "--ncs starts without snapshots, --ts-config names another file.",
        )
        return Source(
            snapshot.path, snapshot.text, snapshot.warnings + taken, True, snapshot.is_by_torchserve
        )
    hints: tuple[str, ...] = ()
    if snapshot.is_by_torchserve and snapshot.path is not None:  # and not like_torchserve
        hints = (_left_aside(snapshot.path, "", "--config"),)
    if present.is_file():
        return Source(present, text_of(present), hints)
    return Source(warnings=hints)


def text_of(path: Path) -> str:
    """The text of a properties file.

    Raises:
        ConfigInvalid: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_BYTES + 1)
    except FileNotFoundError:
        raise ConfigInvalid(f"The configuration file {path} does not exist.") from None
    except OSError as error:
        raise ConfigInvalid(
            f"The configuration file {path} cannot be read: {error.strerror}."
        ) from error
    if len(content) > _LARGEST_BYTES:
        raise ConfigInvalid(
            f"The configuration file {path} is larger than {_LARGEST_BYTES} bytes; "
            "is it the right one?"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:  # Java wrote these files in Latin-1 for twenty years
        return content.decode("latin-1")


def _left_aside(snapshot: Path, because: str, option: str) -> str:
    """As in TorchServe, but told: what was registered while it ran would be missed silently."""
    state = snapshot.parent.parent / STATE_FOLDER
    return (
        f"TorchServe left a snapshot of its models, which is not used{because}: to take over what "
        f"was registered and scaled, start with {option} {snapshot} (and without {state}, if that "
        "is there already)."
    )


def _named(
    config_file: Path | None, environ: Mapping[str, str], cwd: Path
) -> tuple[Path | None, tuple[str, ...]]:
    variable = environ.get("TS_CONFIG_FILE")
    given = None if config_file is None else cwd / config_file
    if not variable:
        return given, ()
    if given in (None, cwd / variable):
        return cwd / variable, ()
    return cwd / variable, (
        f"the environment variable TS_CONFIG_FILE={variable} is followed, not {config_file}.",
    )


def _newest_snapshot(log_dir: Path) -> Source:
    """The newest snapshot that is whole; TorchServe does not write them in one piece."""
    folder = log_dir / SNAPSHOT_FOLDER
    try:
        names = [path.name for path in folder.iterdir() if snapshot_time(path.name)]
    except OSError:
        return Source()
    warnings: list[str] = []
    for name in sorted(names, key=snapshot_time, reverse=True)[:_SNAPSHOTS_TRIED]:
        path = folder / name
        try:
            text = text_of(path)
            _check_whole(text)
        except (ConfigInvalid, ValueError) as error:
            reason = error.message if isinstance(error, ConfigInvalid) else str(error)
            warnings.append(f"the snapshot {path} is passed over: {reason.rstrip('.')}.")
        else:
            return Source(path, text, tuple(warnings), True, not is_by_marserve(text))
    return Source(warnings=tuple(warnings))


def _check_whole(text: str) -> None:
    """Raises ValueError or ConfigInvalid for a snapshot that breaks off or names no models."""
    entries = {entry.key: entry.value for entry in parse(text)}
    if SNAPSHOT_KEY not in entries:
        raise ValueError(f"it has no {SNAPSHOT_KEY}")
    MODEL_SNAPSHOT.read(entries[SNAPSHOT_KEY], [])
