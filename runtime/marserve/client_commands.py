"""The commands that talk to a running server: `marserve models …` and `marserve predict`.

Each makes its calls through `client.py` and prints what came back. Errors pass upwards; `cli.py`
turns them into sentences.
"""

from __future__ import annotations

import json
import mimetypes
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import click

from marserve import config, model_views, terminal
from marserve.client import Client
from marserve.config import Address, Config

_F = TypeVar("_F", bound=Callable[..., Any])

config_option = click.option(
    "--config",
    "--ts-config",
    "config_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The properties file [./config.properties where it exists].",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print the server's JSON.")
_version_option = click.option("--version", metavar="V", help="The version [the default one].")
_async_option = click.option(
    "--async", "in_background", is_flag=True, help="Do not wait until the workers are ready."
)


def _management(command: _F) -> _F:
    option = click.option(
        "--management",
        "management_url",
        metavar="URL",
        help="The management address [from the configuration].",
    )
    return option(config_option(command))


@click.group()
def models() -> None:
    """See and change the models of a running server."""


@models.command("list")
@_management
@_json_option
def list_models(management_url: str | None, config_file: Path | None, as_json: bool) -> None:
    """List all models in all versions."""
    client = management_client(management_url, config_file)
    if as_json:
        _print_json(client.models())
        return
    overview = model_views.overview(client)
    click.echo(overview or "No models are registered. `marserve models register ARCHIVE` adds one.")


@models.command()
@click.argument("name")
@click.option("--version", metavar="V", help="The version [all of them].")
@_management
@_json_option
def describe(
    name: str,
    version: str | None,
    management_url: str | None,
    config_file: Path | None,
    as_json: bool,
) -> None:
    """Show the settings and workers of a model."""
    client = management_client(management_url, config_file)
    described = client.describe(name, version or "all")
    if as_json:
        _print_json(described)
    else:
        click.echo(model_views.description(client, name, described))


@models.command()
@click.argument("archive")
@click.option("--name", metavar="NAME", help="The name of the model [from the archive].")
@click.option("--handler", metavar="H", help="The handler [from the archive].")
@click.option("--batch-size", type=click.IntRange(1), metavar="N", help="Requests per batch.")
@click.option(
    "--max-batch-delay", type=click.IntRange(0), metavar="MS", help="The longest wait for company."
)
@click.option(
    "--workers",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    metavar="N",
    help="Workers to start with.",
)
@click.option("--response-timeout", type=click.IntRange(1), metavar="S", help="For one batch.")
@click.option("--startup-timeout", type=click.IntRange(1), metavar="S", help="For loading.")
@click.option("--sha256", metavar="HEX", help="The digest that the archive must have.")
@_async_option
@_management
def register(
    archive: str,
    name: str | None,
    handler: str | None,
    batch_size: int | None,
    max_batch_delay: int | None,
    workers: int,
    response_timeout: int | None,
    startup_timeout: int | None,
    sha256: str | None,
    in_background: bool,
    management_url: str | None,
    config_file: Path | None,
) -> None:
    """Register ARCHIVE, a file of the model store, and start its workers."""
    client = management_client(
        management_url, config_file, answer_timeout_s=(startup_timeout or 240) + 60
    )
    parameters = {
        "model_name": name,
        "handler": handler,
        "batch_size": batch_size,
        "max_batch_delay": max_batch_delay,
        "initial_workers": workers,
        "response_timeout": response_timeout,
        "startup_timeout": startup_timeout,
        "sha256": sha256,
    }
    with terminal.SignOfLife(f"Registering {archive}"):
        click.echo(client.register(archive, parameters, wait=not in_background))


@models.command()
@click.argument("name")
@_version_option
@click.option(
    "--min", "min_workers", type=click.IntRange(0), required=True, metavar="N", help="At least."
)
@click.option("--max", "max_workers", type=click.IntRange(0), metavar="M", help="At most [N].")
@_async_option
@_management
def scale(
    name: str,
    version: str | None,
    min_workers: int,
    max_workers: int | None,
    in_background: bool,
    management_url: str | None,
    config_file: Path | None,
) -> None:
    """Set how many workers a model has; 0 stops them all."""
    if max_workers is not None and max_workers < min_workers:
        raise click.UsageError(f"--max {max_workers} is less than --min {min_workers}.")
    client = management_client(management_url, config_file)
    status = client.scale(
        name, version, min_workers=min_workers, max_workers=max_workers, wait=not in_background
    )
    click.echo(status)


@models.command("set-default")
@click.argument("name")
@click.argument("version")
@_management
def set_default(
    name: str, version: str, management_url: str | None, config_file: Path | None
) -> None:
    """Make VERSION the one that serves requests without a version."""
    click.echo(management_client(management_url, config_file).set_default(name, version))


@models.command()
@click.argument("name")
@_version_option
@_management
def unregister(
    name: str, version: str | None, management_url: str | None, config_file: Path | None
) -> None:
    """Remove a model, or one version of it."""
    click.echo(management_client(management_url, config_file).unregister(name, version))


@click.command()
@click.argument("name")
@_version_option
@click.option(
    "-i",
    "--input",
    "source",
    type=click.File("rb"),
    required=True,
    metavar="FILE",
    help="What to send; - reads the standard input.",
)
@click.option(
    "--content-type",
    metavar="T",
    help="[by the name of the file, else application/octet-stream]",
)
@click.option("--inference", "inference_url", metavar="URL", help="[from the configuration]")
@config_option
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(1),
    default=300.0,
    metavar="S",
    show_default=True,
    help="The longest wait for the answer.",
)
def predict(
    name: str,
    version: str | None,
    source: BinaryIO,
    content_type: str | None,
    inference_url: str | None,
    config_file: Path | None,
    timeout_s: float,
) -> None:
    """Send one request to a model and print the answer."""
    url = inference_url or configured_url(config_file, "inference")
    client = _client(url, "--inference", timeout_s)
    content_type = content_type or guessed_type(str(getattr(source, "name", "")))
    answer = client.predict(name, version, source.read(), content_type)
    out = sys.stdout.buffer
    out.write(answer.body)
    if out.isatty() and not answer.body.endswith(b"\n"):
        out.write(b"\n")
    out.flush()


# --- where the server is ---


def management_client(
    url: str | None, config_file: Path | None, *, answer_timeout_s: float = 300.0
) -> Client:
    """A client of the management port, which `url` names or else the configuration."""
    found = url or configured_url(config_file, "management")
    return _client(found, "--management", answer_timeout_s)


def _client(url: str, option: str, answer_timeout_s: float) -> Client:
    try:
        full = url if "://" in url else f"http://{url}"
        return Client(full, answer_timeout_s=answer_timeout_s)
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from error


def configured_url(config_file: Path | None, port: str) -> str:
    """Where the server of this configuration listens: `port` is inference, management, metrics."""
    loaded = config.load(config_file, {}, os.environ, Path.cwd()).config
    address: Address = getattr(loaded, port)
    if address.port or address.is_unix:
        return address.reachable_url
    return _actual_url(loaded, port)


def _actual_url(loaded: Config, port: str) -> str:
    """For port 0, which the system chose when the server started."""
    from marserve.run_file import RunFile  # loads psutil, which no other call needs

    server = RunFile(loaded.log_dir).living()
    if server is None or port not in server.addresses:
        raise click.ClickException(
            f"{port}_address has port 0, and no server runs with the log directory "
            f"{loaded.log_dir} that would tell its real one."
        )
    return server.addresses[port]


def guessed_type(file_name: str) -> str:
    """The Content-Type that a file's name suggests."""
    known = mimetypes.MimeTypes()  # without the machine's own tables: the same everywhere
    content_type, encoding = known.guess_type(file_name)
    return content_type if content_type and not encoding else "application/octet-stream"


def _print_json(document: object) -> None:
    click.echo(json.dumps(document, indent=2))
