"""The packages that a model brings: installed once per archive, seen by its workers alone.

Off unless install_py_dep_per_model is set, because installing runs code of strangers, which is not
shut in; so pip is handed what workers are, without secrets. Sole owner of `<digest>.packages` and
`<digest>.venv` in the cache folder. A folder counts once its mark is written, which is the last
thing that happens to it. Calls block.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import site
import subprocess
import sys
import sysconfig
import threading
import venv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from marserve.errors import DependenciesFailed

_log = logging.getLogger("marserve.workers")
_MARK: Final = ".complete"
_PATIENCE_S: Final = 1800.0
_LAST_LINES: Final = 3


@dataclass(frozen=True, slots=True)
class Environment:
    """What a worker's interpreter is, and where it finds the model's packages."""

    python: str = sys.executable
    path: tuple[str, ...] = ()


class Environments:
    """Prepares environments below `cache`, with pip running in the environment `environ`."""

    def __init__(self, cache: Path, environ: Mapping[str, str]) -> None:
        self._cache = cache
        self._environ = dict(environ)
        self._busy: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._is_closed = False

    def prepare(
        self, model_name: str, model_dir: Path, digest: str, requirements: str, use_venv: bool
    ) -> Environment:
        """The environment of an archive, installed now unless it has been before.

        Args:
            model_name: for messages.
            model_dir: where the archive is unpacked.
            digest: of the archive; the same packages serve whatever has the same digest.
            requirements: the requirements file, a name in `model_dir`.
            use_venv: a virtual environment that sees the server's own packages, instead of a
                folder of packages before them.

        Raises:
            DependenciesFailed: they cannot be installed; nothing half installed is left.
        """
        file = model_dir / requirements
        if not file.is_file():
            raise DependenciesFailed(
                f"Custom pip package installation failed for model {model_name}: "
                f"the archive names {requirements}, but lacks it."
            )
        target = self._cache / f"{digest}.{'venv' if use_venv else 'packages'}"
        with self._alone(digest):
            if not (target / _MARK).is_file():
                shutil.rmtree(target, ignore_errors=True)
                try:
                    self._build(model_name, file, target, use_venv)
                    (target / _MARK).touch()
                except BaseException:
                    shutil.rmtree(target, ignore_errors=True)
                    raise
        if use_venv:
            return Environment(str(_venv_python(target)))
        return Environment(path=(str(target),))

    def close(self) -> None:
        """End installations that still run; none begins any more."""
        with self._guard:
            self._is_closed = True
            for process in self._running:
                _end(process)

    def _build(self, model_name: str, file: Path, target: Path, use_venv: bool) -> None:
        _log.info("installing the packages of %s into %s", model_name, target)
        if not use_venv:
            target.mkdir(mode=0o700)
            self._pip(model_name, file, sys.executable, ["-U", "-t", str(target)])
            return
        try:
            venv.EnvBuilder(symlinks=True).create(target)
            _show_server_packages(target)
        except (OSError, subprocess.SubprocessError) as error:
            raise DependenciesFailed(
                f"Virtual environment creation failed for model {model_name}: {error}."
            ) from error
        options = ["-U", "--upgrade-strategy", "only-if-needed"]
        self._pip(model_name, file, str(_venv_python(target)), options)

    def _pip(self, model_name: str, file: Path, python: str, options: list[str]) -> None:
        command = [python, "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
        with self._guard:
            if self._is_closed:
                raise DependenciesFailed(
                    f"The packages of model {model_name} were not installed: the server stops."
                )
            process = subprocess.Popen(
                [*command, *options, "-r", file.name],
                cwd=file.parent,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._running.add(process)
        try:
            output, _ = process.communicate(timeout=_PATIENCE_S)
        except subprocess.TimeoutExpired:
            _end(process)
            output, _ = process.communicate()
            output += f"\nit took longer than {_PATIENCE_S:g} s".encode()
        finally:
            with self._guard:
                self._running.discard(process)
        lines = output.decode("utf-8", "replace").splitlines()
        for line in lines:
            _log.info("pip for %s: %s", model_name, line)
        if process.returncode != 0:
            told = [line for line in lines if line.strip() and not line.startswith("[notice]")]
            raise DependenciesFailed(
                f"Custom pip package installation failed for model {model_name}: "
                + " ".join(told[-_LAST_LINES:])
            )

    @contextmanager
    def _alone(self, digest: str) -> Iterator[None]:
        with self._guard:
            lock = self._busy.setdefault(digest, threading.Lock())
        with lock:
            yield


def _venv_python(target: Path) -> Path:
    return target / "bin" / "python"


def _show_server_packages(target: Path) -> None:
    """Let the venv see what the server's own environment has, after its own packages."""
    packages = target / sysconfig.get_path("purelib", vars={"base": "."}).lstrip("./")
    shown = [path for path in (*site.getsitepackages(), site.getusersitepackages()) if path]
    (packages / "server_packages.pth").write_text("".join(f"{path}\n" for path in shown))


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
