"""TorchServe's own command line: `--start`, `--stop`, `--version` and their flags.

`marserve` hands over to `main` when its first argument is such a flag. Messages and exit codes are
TorchServe's where scripts could look for them. Three things are better on purpose: `--start` comes
back when the server is ready, `--stop` when it has ended, and failures have an exit code.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from marserve import __version__
from marserve import config as configuration
from marserve.errors import ConfigInvalid, MarServeError
from marserve.foreign_settings import TORCHSERVE_VERSION

if TYPE_CHECKING:
    from marserve.config import Config, Loaded
    from marserve.pid_file import PidFile

FAILED = 1
INTERRUPTED = 130
_READY_TIMEOUT_S = 600.0
_STOP_TIMEOUT_S = 60.0


class Refused(Exception):
    """A message of TorchServe, for which it prints one line on stdout and ends with 1."""


def main(argv: Sequence[str] | None = None, prog: str = "torchserve") -> int:
    """Run the command; its exit code. argparse ends the process with 2 for a wrong command line."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = _parser(prog).parse_args(arguments)
    try:
        if options.version:
            _say(f"TorchServe Version is {TORCHSERVE_VERSION} (MarServe {__version__})")
            return 0
        if options.take_over is not None:
            return _serve(options, arguments, _loaded(options), prog)
        return _stop(prog) if options.stop else _start(options, arguments, prog)
    except Refused as refused:
        _say(str(refused))
        return FAILED
    except ConfigInvalid as error:
        return _fail(prog, f"Invalid configuration: {error.message}")
    except MarServeError as error:
        return _fail(prog, error.message)
    except KeyboardInterrupt:
        _fail(prog, "interrupted.")
        return INTERRUPTED


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description="Serve model archives, with the flags of TorchServe."
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument("-v", "--version", action="store_true", help="print the version")
    action.add_argument("--start", action="store_true", help="start the server (without a flag)")
    action.add_argument("--stop", action="store_true", help="stop the server")
    add = parser.add_argument
    add("--ts-config", metavar="FILE", help="the properties file")
    add("--model-store", metavar="DIR", help="the directory of the archives")
    add("--workflow-store", metavar="DIR", help="the directory of workflows [the model store]")
    add("--models", nargs="+", metavar="[NAME=]ARCHIVE", help="what to load, or all")
    add("--log-config", metavar="FILE", help="accepted; log4j2 files are not read")
    add("--cpp-log-config", metavar="FILE", help="accepted; there is no C++ worker")
    add("--foreground", action="store_true", help="stay in this terminal")
    add(
        *("--no-config-snapshots", "--ncs"),
        action="store_true",
        help="neither save nor restore what was registered while the server ran",
    )
    add("--plugins-path", "--ppath", metavar="JARS", help="accepted; Java is not run")
    add(
        *("--disable-token-auth", "--dt"),
        action="store_true",
        help="ask nobody for a token",
    )
    add(
        "--enable-model-api",
        action="store_true",
        help="models may be registered and removed (the default here)",
    )
    add("--ready-fd", type=int, help=argparse.SUPPRESS)
    add("--take-over", type=float, help=argparse.SUPPRESS)
    return parser


# --- start ---


def _start(options: argparse.Namespace, arguments: list[str], prog: str) -> int:
    from marserve.pid_file import PidFile

    pid_file = PidFile()
    if pid_file.process() is not None:
        raise Refused(
            "TorchServe is already running, please use torchserve --stop to stop TorchServe."
        )
    _remove_orphan(pid_file)
    _check_files(options)
    loaded = _loaded(options)
    _check_stores(options, loaded.config)
    if options.foreground:
        return _serve(options, arguments, loaded, prog)
    return _start_in_background(loaded.config, arguments, prog)


def _check_files(options: argparse.Namespace) -> None:
    temp = os.environ.get("TEMP")
    if temp and not Path(temp).is_dir():
        raise Refused(f"Invalid temp directory: {temp}, please check TEMP environment variable.")
    config_file = os.environ.get("TS_CONFIG_FILE") or options.ts_config
    for flag, file in (
        ("--ts-config", config_file),
        ("--log-config", options.log_config),
        ("--cpp-log-config", options.cpp_log_config),
    ):
        if file and not Path(file).is_file():
            raise Refused(f"{flag} file not found: {file}")


def _loaded(options: argparse.Namespace) -> Loaded:
    overrides = {
        "model_store": options.model_store,
        "workflow_store": options.workflow_store,
        "load_models": ",".join(options.models or ()),
        "cpp_log_config": options.cpp_log_config,
        "plugins_path": options.plugins_path,
        "disable_token_authorization": "true" if options.disable_token_auth else None,
        "enable_model_api": "true" if options.enable_model_api else None,
    }
    return configuration.load(
        Path(options.ts_config) if options.ts_config else None,
        {key: value for key, value in overrides.items() if value},
        os.environ,
        Path.cwd(),
        like_torchserve=not options.no_config_snapshots,
    )


def _check_stores(options: argparse.Namespace, config: Config) -> None:
    if config.model_store is None:
        raise Refused("Missing mandatory parameter --model-store")
    if not config.model_store.is_dir():
        given = options.model_store or config.model_store
        raise Refused(f"--model-store directory not found: {given}")
    if config.workflow_store is not None and not config.workflow_store.is_dir():
        given = options.workflow_store or config.workflow_store
        raise Refused(f"--workflow-store directory not found: {given}")


def _serve(options: argparse.Namespace, arguments: list[str], loaded: Loaded, prog: str) -> int:
    from marserve import daemon
    from marserve.pid_file import PidFile
    from marserve.server import serve

    notices = [*loaded.warnings]
    if options.log_config:
        notices.append(f"--log-config {options.log_config} is not read: log4j2 files are Java's.")
    for notice in notices:
        _warn(prog, notice)
    config = replace(loaded.config, snapshots=not options.no_config_snapshots)
    return daemon.serve_here(
        config,
        serve,
        ready_fd=options.ready_fd,
        on_ready=lambda _: None,  # the log says it, on stdout too
        console=True,
        pid_file=PidFile(),
        arguments=_repeatable(arguments),
        takes_over_s=options.take_over,
    )


def _repeatable(arguments: list[str]) -> list[str]:
    """What starts this server once more: without what was for this start alone."""
    kept: list[str] = []
    words = iter(arguments)
    for word in words:
        if word in ("--ready-fd", "--take-over"):
            next(words, None)
        else:
            kept.append(word)
    return kept


def _start_in_background(config: Config, arguments: list[str], prog: str) -> int:
    """The server keeps this terminal's output, as TorchServe does: `docker logs` lives by it."""
    from marserve import daemon

    try:
        daemon.start(
            config.log_dir,
            [*arguments, "--foreground"],
            timeout_s=_READY_TIMEOUT_S,
            on_wait=lambda _: None,
            keeps_output=True,
        )
    except daemon.NotReadyYet as error:
        _warn(prog, error.message)
    return 0


# --- stop ---


def _stop(prog: str) -> int:
    from marserve import daemon
    from marserve.pid_file import PidFile

    pid_file = PidFile()
    process = pid_file.process()
    if process is None:
        _remove_orphan(pid_file)
        _say("TorchServe is not currently running.")
        return 0
    try:
        daemon.end(process, timeout_s=_STOP_TIMEOUT_S)
    except daemon.StillRuns:
        _say("Stopping TorchServe took too long.")
        return FAILED
    pid_file.remove(process.pid)
    _say("TorchServe has stopped.")
    return 0


def _remove_orphan(pid_file: PidFile) -> None:
    if pid_file.exists():
        _say("Removing orphan pid file.")
        pid_file.remove()


def _say(line: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def _warn(prog: str, sentence: str) -> None:
    sys.stderr.write(f"{prog}: warning: {sentence}\n")
    sys.stderr.flush()


def _fail(prog: str, sentence: str) -> int:
    sys.stderr.write(f"{prog}: {sentence}\n")
    return FAILED
