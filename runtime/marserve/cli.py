"""The command `marserve`: argv becomes one call, an error becomes one sentence and an exit code.

Decides nothing itself. The server, its parent process and psutil are imported by the commands
that need them, so that the others start at once.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from marserve import config as configuration
from marserve import model_views, terminal, torchserve_cli
from marserve.bench_command import bench
from marserve.client import Client, ServerError, ServerRefused
from marserve.client_commands import config_option, models, predict
from marserve.config import Config
from marserve.doctor_command import doctor
from marserve.errors import MarServeError

if TYPE_CHECKING:
    from marserve.daemon import Ready
    from marserve.run_file import ServerProcess

_F = TypeVar("_F", bound=Callable[..., Any])

FAILED = 1
WRONG_USAGE = 2
NOT_RUNNING = 3
INTERRUPTED = 130

_OWN_OPTIONS = ("--help", "-h", "--version")
"""Any other option in front of everything else is one of TorchServe's."""

_EPILOG = """\b
Exit codes:
  0    done; status: the server runs
  1    it could not be done; one sentence on stderr says why
  2    the command line is wrong
  3    status, restart: the server does not run
  130  interrupted with Ctrl-C
"""


class _Sentences(click.Group):
    """Prints every expected error as one sentence; keeps the order of its commands."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def main(self, args: Sequence[str] | None = None, *others: Any, **kwargs: Any) -> Any:
        arguments = list(sys.argv[1:] if args is None else args)
        if arguments and arguments[0].startswith("-") and arguments[0] not in _OWN_OPTIONS:
            sys.exit(torchserve_cli.main(arguments, "marserve"))
        kwargs["standalone_mode"] = False
        try:
            code = super().main(arguments, *others, **kwargs)
        except click.UsageError as error:
            _end_usage(error)
        except click.ClickException as error:
            _end(error.format_message(), FAILED)
        except ServerRefused as error:
            answer = f"{error.code} {error.type}".strip()
            _end(f"{error.message} ({answer})", FAILED)
        except (MarServeError, ServerError) as error:
            _end(error.message, FAILED)
        except (click.Abort, KeyboardInterrupt):
            _end("interrupted.", INTERRUPTED)
        sys.exit(code if isinstance(code, int) else 0)


def _end(sentence: str, code: int) -> NoReturn:
    click.echo(f"marserve: {sentence}", err=True)
    sys.exit(code)


def _end_usage(error: click.UsageError) -> NoReturn:
    message = error.format_message()
    if message.startswith("Usage:"):  # a group without a command shows its help
        click.echo(message, err=True)
        sys.exit(WRONG_USAGE)
    command = error.ctx.command_path if error.ctx else "marserve"
    _end(f"{message.rstrip('.')}. See `{command} --help`.", WRONG_USAGE)


class _ManyModels(click.Command):
    """Lets --models take several values, as in `--models a.mar b=b.mar --ncs`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        spread: list[str] = []
        is_value = False  # the word before was --models or one of its values
        for word in args:
            if is_value and not word.startswith("-") and spread[-1] != "--models":
                spread.append("--models")
            is_value = word == "--models" or (is_value and not word.startswith("-"))
            spread.append(word)
        return super().parse_args(ctx, spread)


def _server_options(command: _F) -> _F:
    for option in (
        click.option(
            "--ncs",
            "--no-config-snapshots",
            "without_snapshots",
            is_flag=True,
            help="Neither save nor restore what was registered while the server ran.",
        ),
        config_option,
        click.option(
            "--models",
            multiple=True,
            metavar="[NAME=]ARCHIVE ...",
            help="What to load at the start: archives, by blanks or commas, or all.",
        ),
        click.option("--model-store", metavar="DIR", help="The directory of the archives."),
    ):
        command = option(command)
    return command


@click.group(cls=_Sentences, epilog=_EPILOG, context_settings={"max_content_width": 100})
@click.version_option(package_name="marserve", message="MarServe %(version)s")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Serve model archives over HTTP.

    `marserve serve` runs the server in this terminal, `marserve start` in the background. The flags
    of TorchServe are taken too: `marserve --start --model-store DIR`, `marserve --stop`.
    """
    if os.environ.get("NO_COLOR"):
        ctx.color = False


# --- the server ---


@main.command(cls=_ManyModels)
@_server_options
@click.option("--ready-fd", type=int, hidden=True)
@click.option("--take-over", "takes_over_s", type=float, hidden=True)
def serve(
    model_store: str | None,
    models: tuple[str, ...],
    config_file: Path | None,
    without_snapshots: bool,
    ready_fd: int | None,
    takes_over_s: float | None,
) -> int:
    """Run the server in this terminal until Ctrl-C."""
    config = _server_config(model_store, models, config_file, without_snapshots)
    from marserve import daemon  # only now: a mistake is told at once
    from marserve.server import serve as run_server

    return daemon.serve_here(
        config,
        run_server,
        ready_fd=ready_fd,
        on_ready=_print_ready,
        console=ready_fd is None,
        arguments=_arguments(model_store, models, config_file, without_snapshots),
        takes_over_s=takes_over_s,
    )


@main.command(cls=_ManyModels)
@_server_options
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=1),
    default=300.0,
    show_default=True,
    metavar="S",
    help="How long to wait until the server is ready.",
)
def start(
    model_store: str | None,
    models: tuple[str, ...],
    config_file: Path | None,
    without_snapshots: bool,
    timeout_s: float,
) -> None:
    """Run the server in the background."""
    from marserve import daemon
    from marserve.observe.logs import SERVER_LOG

    config = _server_config(model_store, models, config_file, without_snapshots)
    arguments = _arguments(model_store, models, config_file, without_snapshots)
    try:
        with terminal.SignOfLife("Starting the server") as sign:
            started = daemon.start(
                config.log_dir, arguments, timeout_s=timeout_s, on_wait=sign.waited
            )
    except KeyboardInterrupt:
        _end(
            "interrupted; the server goes on starting in the background: "
            "see `marserve status`, end it with `marserve stop`.",
            INTERRUPTED,
        )
    click.echo(f"The server runs (pid {started.pid}).")
    _print_addresses(started.addresses)
    click.echo(f"  {'log':<15} {config.log_dir / SERVER_LOG}")
    for note in started.notes:
        click.echo(note)
    _print_problems(started.problems)


@main.command()
@config_option
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="S",
    help="How long to wait for its end.",
)
def stop(config_file: Path | None, timeout_s: float) -> None:
    """Stop the server in the background."""
    from marserve import daemon

    log_dir = _loaded(config_file).log_dir
    with terminal.SignOfLife("Stopping the server") as sign:
        stopped = daemon.stop(log_dir, timeout_s=timeout_s, on_wait=sign.waited)
    if stopped is None:
        click.echo(f"No server runs with the log directory {log_dir}.")
    else:
        click.echo(f"The server (pid {stopped.pid}) has stopped.")


@main.command()
@config_option
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=1),
    default=300.0,
    show_default=True,
    metavar="S",
    help="How long to wait until the new process is ready.",
)
def restart(config_file: Path | None, timeout_s: float) -> None:
    """Have a new process take over from the running server; nobody is refused.

    It is started as the running one was. While it loads its models the running one serves, and if
    it cannot, the running one goes on.
    """
    from marserve import restart as restarting

    log_dir = _loaded(config_file).log_dir
    try:
        with terminal.SignOfLife("Restarting the server") as sign:
            done = restarting.restart(log_dir, timeout_s=timeout_s, on_wait=sign.waited)
    except KeyboardInterrupt:
        _end("interrupted; the new process takes over as soon as it is ready.", INTERRUPTED)
    if done is None:
        _end(
            f"No server runs with the log directory {log_dir}: start one with `marserve start`.",
            NOT_RUNNING,
        )
    click.echo(
        f"The server runs (pid {done.started.pid}); it took over from pid {done.former_pid}."
    )
    _print_addresses(done.started.addresses)
    for note in done.started.notes:
        click.echo(note)
    _print_problems(done.started.problems)


@main.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(config_file: Path | None, as_json: bool) -> int:
    """Tell whether the server runs, and how its models are."""
    from marserve.run_file import RunFile

    log_dir = _loaded(config_file).log_dir
    server = RunFile(log_dir).living()
    if as_json:
        click.echo(json.dumps(_status_document(server), indent=2))
    elif server is None:
        click.echo(f"No server runs with the log directory {log_dir}.")
    else:
        _print_status(server)
    return NOT_RUNNING if server is None else 0


def _status_document(server: ServerProcess | None) -> dict[str, object]:
    if server is None:
        return {"running": False}
    return {
        "running": True,
        "pid": server.pid,
        "uptime_s": int(time.time() - server.started_at),
        "addresses": dict(server.addresses),
    }


def _print_status(server: ServerProcess) -> None:
    uptime = terminal.duration(time.time() - server.started_at)
    click.echo(f"The server runs (pid {server.pid}, for {uptime}).")
    if not server.addresses:
        click.echo("It is still starting.")
        return
    _print_addresses(server.addresses)
    click.echo()
    try:
        overview = model_views.overview(Client(server.addresses["management"], answer_timeout_s=10))
        click.echo(overview or "No models are registered.")
    except ServerError as error:
        click.echo(f"Its models cannot be seen: {error.message}")


def _print_ready(ready: Ready) -> None:
    click.echo(f"The server is ready (pid {os.getpid()}).")
    _print_addresses(ready.addresses)
    _print_problems(ready.problems)
    for note in ready.notes:
        click.echo(note)
    sys.stdout.flush()


def _print_addresses(addresses: Any) -> None:
    for port, url in addresses.items():
        click.echo(f"  {port:<15} {url}")


def _print_problems(problems: Sequence[str]) -> None:
    for problem in problems:
        click.echo(f"marserve: warning: {problem}", err=True)


# --- the configuration ---


@main.group()
def config() -> None:
    """Check the configuration, or print what can be configured."""


@config.command()
@config_option
def check(config_file: Path | None) -> None:
    """Say what is wrong with the configuration, without starting anything."""
    loaded = _loaded(config_file, with_warnings=True)
    click.echo(f"{loaded.config_file or 'The default configuration'} can be used.")


@config.command()
def example() -> None:
    """Print a config.properties with every setting, its default and its reason."""
    from marserve import settings_documents

    click.echo(settings_documents.example(), nl=False)


@config.command()
def reference() -> None:
    """Print the reference of all settings in Markdown."""
    from marserve import settings_documents

    click.echo(settings_documents.reference(), nl=False)


main.add_command(models)
main.add_command(predict)
main.add_command(bench)
main.add_command(doctor)


def _loaded(
    config_file: Path | None,
    overrides: dict[str, str] | None = None,
    *,
    with_warnings: bool = False,
) -> Config:
    loaded = configuration.load(config_file, overrides or {}, os.environ, Path.cwd())
    for warning in loaded.warnings if with_warnings else ():
        click.echo(f"marserve: warning: {warning}", err=True)
    return loaded.config


def _server_config(
    model_store: str | None,
    models: tuple[str, ...],
    config_file: Path | None,
    without_snapshots: bool,
) -> Config:
    overrides = {"model_store": model_store, "load_models": ",".join(models)}
    given = {key: value for key, value in overrides.items() if value}
    loaded = _loaded(config_file, given, with_warnings=True)
    if loaded.model_store is None:
        raise click.ClickException(
            "There is no model store: give --model-store DIR, the directory of your archives, or "
            "set model_store in config.properties."
        )
    if not loaded.model_store.is_dir():
        raise click.ClickException(f"The model store {loaded.model_store} is not a directory.")
    return dataclasses.replace(loaded, snapshots=not without_snapshots)


def _arguments(
    model_store: str | None,
    models: tuple[str, ...],
    config_file: Path | None,
    without_snapshots: bool,
) -> list[str]:
    """`marserve serve` with the same options."""
    arguments = ["serve"]
    arguments += [f"--models={entry}" for entry in models]
    if model_store is not None:
        arguments.append(f"--model-store={model_store}")
    if config_file is not None:
        arguments.append(f"--config={config_file}")
    if without_snapshots:
        arguments.append("--ncs")
    return arguments
