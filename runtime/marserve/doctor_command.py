"""`marserve doctor`: what the machine gives the server and what it lacks, as a table or as JSON."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from marserve import config as configuration
from marserve import terminal
from marserve.client_commands import config_option

if TYPE_CHECKING:
    from marserve.doctor import Finding

_MARKS = {"active": ("✓", "green"), "missing": ("✗", "red"), "off": ("-", "bright_black")}
_LOOK = ("!", "yellow")


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(config_file: Path | None, as_json: bool) -> int:
    """Look at this machine: the sandbox of workers, limits, clock, disks, ports.

    Exit code 1: the server could not start as it is configured, for one with sandbox=strict.
    """
    from marserve.doctor import examine  # only now: it loads what starts processes
    from marserve.run_file import RunFile

    config = configuration.load(config_file, {}, os.environ, Path.cwd()).config
    server = RunFile(config.log_dir).living()
    findings = examine(config, os.environ, {} if server is None else server.addresses)
    needed = [one for one in findings if one.is_needed and one.state == "missing"]
    if as_json:
        document = {"can_start": not needed, "findings": [asdict(one) for one in findings]}
        click.echo(json.dumps(document, indent=2))
    else:
        click.echo(_shown(findings))
        click.echo()
        click.echo(_verdict(findings, needed))
    return 1 if needed else 0


def _shown(findings: Sequence[Finding]) -> str:
    blocks = []
    for section, group in itertools.groupby(findings, key=lambda one: one.section):
        rows = []
        for one in group:
            mark, colour = _MARKS.get(one.state, _LOOK)
            rows.append((click.style(f"  {mark} {one.state}", fg=colour), one.name, one.found))
            if one.remedy:
                rows.append(("", "", click.style(f"→ {one.remedy}", fg="yellow")))
        blocks.append(terminal.table((section, "", ""), rows))
    return "\n\n".join(blocks)


def _verdict(findings: Sequence[Finding], needed: Sequence[Finding]) -> str:
    if needed:
        names = ", ".join(one.name for one in needed)
        return click.style(f"The server cannot start as it is configured: {names}.", fg="red")
    lacking = [one.name for one in findings if one.state == "missing"]
    if lacking:
        return click.style(f"The server can start; it lacks: {', '.join(lacking)}.", fg="yellow")
    return click.style("All is well.", fg="green")
