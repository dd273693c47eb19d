"""The command `marserve bench`: options become a plan, points become a table, a document, a plot.

The measuring itself is in `bench/`; what it needs is loaded when the command runs.
"""

from __future__ import annotations

import json
import os
import platform
import resource
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from marserve.client_commands import config_option, configured_url, guessed_type

if TYPE_CHECKING:
    from marserve.bench.endpoint import Endpoint
    from marserve.bench.plan import Input, Plan, Subject
    from marserve.bench.session import Session

MAX_CONNECTIONS = 10_000
MAX_INPUT_BYTES = 1 << 30
_OTHER_FILES = 64
"""Descriptors that the process needs besides its connections."""


def _counts(_ctx: click.Context, _option: click.Parameter, text: str) -> tuple[int, ...]:
    try:
        counts = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f"{text} is not a list of whole numbers such as 1,16,64") from None
    for count in counts:
        if not 1 <= count <= MAX_CONNECTIONS:
            raise click.BadParameter(f"{count} is not in the range 1 to {MAX_CONNECTIONS}")
    return counts


def _headers(_ctx: click.Context, _option: click.Parameter, lines: Sequence[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        is_name = bool(name) and all(c.isascii() and (c.isalnum() or c in "-_.!~") for c in name)
        if not colon or not is_name or not (value.isprintable() and value.isascii()):
            raise click.BadParameter(f"{line!r} is not a header like 'Authorization: Bearer KEY'")
        headers[name] = value.strip()
    return headers


@click.command()
@click.argument("name")
@click.option("--version", metavar="V", help="The version [the default one].")
@click.option(
    "-i",
    "--input",
    "sources",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    required=True,
    metavar="FILE",
    help="What to send. A folder, or -i several times: the files take turns.",
)
@click.option(
    "-c",
    "--connections",
    callback=_counts,
    default="1,16,64",
    show_default=True,
    metavar="N,N,…",
    help="How many connections send at once; one point each.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 3600),
    default=5.0,
    show_default=True,
    metavar="S",
    help="The length of a point.",
)
@click.option(
    "--warm-up",
    "warm_up_s",
    type=click.FloatRange(0, 3600),
    default=1.0,
    show_default=True,
    metavar="S",
    help="What goes before each point and does not count.",
)
@click.option(
    "--rate",
    type=click.FloatRange(0.01, 100_000),
    metavar="R",
    help="Requests per second, however fast the answers come; latency counts from the moment at "
    "which a request was due [each connection sends when it is answered].",
)
@click.option("--json", "json_file", metavar="FILE", help="Write all figures; - prints them alone.")
@click.option("--plot", "plot_file", type=click.Path(path_type=Path), metavar="FILE.svg")
@click.option("--content-type", metavar="T", help="[by the name of each file]")
@click.option(
    "-H", "--header", "headers", callback=_headers, multiple=True, metavar="'NAME: VALUE'",
    help="Goes with each request, as for a token.",
)  # fmt: skip
@click.option("--inference", "inference_url", metavar="URL", help="[from the configuration]")
@click.option("--metrics", "metrics_url", metavar="URL", help="[from the configuration]")
@click.option("--management", "management_url", metavar="URL", help="[from the configuration]")
@config_option
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0.1),
    default=60.0,
    show_default=True,
    metavar="S",
    help="The longest wait for one answer.",
)
def bench(
    name: str,
    version: str | None,
    sources: tuple[Path, ...],
    connections: tuple[int, ...],
    seconds: float,
    warm_up_s: float,
    rate: float | None,
    json_file: str | None,
    plot_file: Path | None,
    content_type: str | None,
    headers: dict[str, str],
    inference_url: str | None,
    metrics_url: str | None,
    management_url: str | None,
    config_file: Path | None,
    timeout_s: float,
) -> int:
    """Measure a model of a running server.

    Throughput, latency, how full the batches were and where the time went, for each number of
    connections.
    """
    from marserve.bench.measuring import Measuring
    from marserve.bench.plan import Plan, Subject
    from marserve.bench.session import Session

    _check_targets(json_file, plot_file)
    _allow_files(max(connections) + _OTHER_FILES)
    inputs = _inputs(sources, content_type)
    urls = {"inference": inference_url, "metrics": metrics_url, "management": management_url}
    subject = Subject(name, version, *_endpoints(urls, config_file), headers=headers)
    plan = Plan(seconds, warm_up_s, timeout_s, rate)
    session = Session(Measuring(subject, inputs, plan), is_quiet=json_file == "-")
    session.introduce(subject, plan, inputs)
    try:
        return session.run(connections)
    finally:
        if session.points:
            _write(session, subject, plan, json_file, plot_file)


# --- what goes in ---


def _inputs(sources: tuple[Path, ...], content_type: str | None) -> list[Input]:
    from marserve.bench.plan import Input

    inputs: list[Input] = []
    room = MAX_INPUT_BYTES
    for path in _files(sources):
        try:
            room -= path.stat().st_size
            if room < 0:
                raise click.ClickException(
                    f"The input is larger than {MAX_INPUT_BYTES >> 30} GiB: name fewer files."
                )
            inputs.append(Input(path.read_bytes(), content_type or guessed_type(path.name)))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise click.ClickException(f"{path} cannot be read ({reason}).") from error
    return inputs


def _files(sources: tuple[Path, ...]) -> list[Path]:
    files: list[Path] = []
    for source in sources:
        if not source.is_dir():
            files.append(source)
            continue
        inside = sorted(p for p in source.iterdir() if p.is_file() and p.name[0] != ".")
        if not inside:
            raise click.ClickException(f"There are no files in the folder {source}.")
        files += inside
    return files


def _endpoints(
    urls: Mapping[str, str | None], config_file: Path | None
) -> tuple[Endpoint, Endpoint | None, Endpoint | None]:
    """Inference, metrics, management. Who names one server is not told about another one."""
    found: list[Endpoint | None] = []
    for port, url in urls.items():
        is_ours = urls["inference"] is None or port == "inference"
        where = url or (configured_url(config_file, port) if is_ours else None)
        found.append(_endpoint(where, f"--{port}") if where else None)
    inference, metrics, management = found
    assert inference is not None
    return inference, metrics, management


def _endpoint(url: str, option: str) -> Endpoint:
    from marserve.bench.endpoint import Endpoint

    try:
        return Endpoint.of(url)
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}.") from error


def _allow_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return
    if hard != resource.RLIM_INFINITY and hard < count:
        raise click.ClickException(
            f"This needs {count:,} open files, and the system allows {hard:,}: take fewer "
            "connections, or raise the limit (ulimit -n, as root)."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def _check_targets(json_file: str | None, plot_file: Path | None) -> None:
    """A mistake is told before anything is measured."""
    if plot_file is not None and plot_file.suffix.lower() != ".svg":
        raise click.UsageError(f"--plot: {plot_file} is not an .svg file, and plots are SVG.")
    for path in (plot_file, Path(json_file) if json_file not in (None, "-") else None):
        if path is None:
            continue
        if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
            raise click.ClickException(f"{path} cannot be written.")


# --- what comes out ---


def _write(
    session: Session, subject: Subject, plan: Plan, json_file: str | None, plot_file: Path | None
) -> None:
    from marserve.bench.document import document
    from marserve.bench.plot import plot

    assert session.facts is not None
    if json_file is not None:
        made = document(subject, plan, session.facts, session.points, _machine())
        text = json.dumps(made, indent=2) + "\n"
        if json_file == "-":
            click.echo(text, nl=False)
        else:
            Path(json_file).write_text(text, encoding="utf-8")
    if plot_file is not None:
        pace = f", {plan.rate:,g} requests/s planned" if plan.rate else ""
        subtitle = f"{plan.seconds:g} s per point{pace}, {os.cpu_count()} cores"
        drawing = plot(subject.name, subtitle, session.points)
        plot_file.write_text(drawing, encoding="utf-8")


def _machine() -> dict[str, object]:
    return {
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }
