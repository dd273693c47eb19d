"""Starts and stops a server from the tests of handlers, as `ts.launcher` does.

A server on this machine, with the addresses of its configuration; registering asks the default
management address. Only for tests: workers have no business starting servers.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from queue import Queue
from typing import Any, Final
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

MANAGEMENT: Final = "http://localhost:8081"

_COMMAND: Final = (sys.executable, "-m", "marserve")
_REGISTER_TIMEOUT_S: Final = 300


@dataclass(frozen=True, slots=True)
class Response:
    """What the management port answered."""

    status_code: int
    text: str

    def json(self) -> Any:
        """The body as decoded JSON."""
        return json.loads(self.text)


def start(
    model_store: str | None = None,
    snapshot_file: str | None = None,
    no_config_snapshots: bool = False,
    plugin_folder: str | None = None,
    disable_token: bool = False,
    models: str | None = None,
    enable_model_api: bool = False,
) -> Queue[str | None]:
    """Stop the server in the background if there is one, start another, wait until it is ready.

    Args:
        model_store: the directory of the archives.
        snapshot_file: a properties file.
        no_config_snapshots: neither save nor restore what is registered.
        plugin_folder: of TorchServe's Java plugins, which are refused.
        disable_token: let everybody on this machine in.
        models: archives to load, separated by commas or blanks.
        enable_model_api: let models be registered and removed.

    Returns:
        The lines that starting printed, then None.

    Raises:
        ValueError: a plugin folder was given.
        RuntimeError: the server did not start; the message has what it printed.
    """
    if plugin_folder:
        raise ValueError(
            "TorchServe's plugins are Java archives, which this server does not run; plugins for "
            "it are Python packages: see docs/handlers.md."
        )
    stop()
    arguments = ["--start"]
    for flag, value in (("--model-store", model_store), ("--ts-config", snapshot_file)):
        arguments += [flag, str(value)] if value else []
    switches = {
        "--no-config-snapshots": no_config_snapshots,
        "--disable-token-auth": disable_token,
        "--enable-model-api": enable_model_api,
    }
    arguments += [flag for flag, is_set in switches.items() if is_set]
    arguments += ["--models", *models.replace(",", " ").split()] if models else []
    done = _run(*arguments)
    if done.returncode != 0:
        raise RuntimeError(f"The server did not start: {done.stdout.strip()}")
    lines: Queue[str | None] = Queue()
    for line in done.stdout.splitlines():
        lines.put(line)
    lines.put(None)
    return lines


def stop(wait: bool = True) -> None:
    """Stop the server in the background; it has ended when this returns, whatever `wait` says."""
    _run("--stop")


def register_model_with_params(
    params: Mapping[str, str] | Iterable[tuple[str, str]],
) -> Response:
    """Register a model with these parameters.

    Raises:
        URLError: no server listens at the default management address.
    """
    query = urlencode(dict(params))
    request = Request(f"{MANAGEMENT}/models?{query}", method="POST")  # noqa: S310  our own url
    try:
        with urlopen(request, timeout=_REGISTER_TIMEOUT_S) as answer:  # noqa: S310  our own url
            return Response(answer.status, answer.read().decode())
    except HTTPError as refused:
        with refused:
            return Response(refused.code, refused.read().decode())


def register_model(model_name: str, url: str) -> Response:
    """Register an archive under a name, with one worker; it is up when this returns."""
    return register_model_with_params(
        {"model_name": model_name, "url": url, "initial_workers": "1", "synchronous": "true"}
    )


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
