"""What this machine gives the server, and what it lacks: findings, each with what to do about it.

Reads and tries out, changes nothing. `doctor_command.py` shows it.
"""

from __future__ import annotations

import platform
import resource
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from marserve.addresses import Address
from marserve.config import Config
from marserve.workers import layers, linux, probe, sandbox
from marserve.workers.confinement import OFF, STRICT
from marserve.workers.handler_environ import hidden_from_workers

ACTIVE, MISSING, OFF_BY_CHOICE, WARNING = "active", "missing", "off", "look"
_FEW_OPEN_FILES: Final = 4096
_LITTLE_DISK_BYTES: Final = 5 << 30
_OLDEST_YEAR: Final = 2024
_NEWER_KERNEL: Final = "Use Linux {} or later with landlock in the list lsm= of its command line."
_CGROUP: Final = Path("/proc/self/cgroup")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    section: str
    name: str
    state: str
    """active, missing, off (by choice) or look (works, but deserves a look)."""
    found: str
    remedy: str = ""
    is_needed: bool = False
    """Without it the server does not start as it is configured."""


@dataclass(frozen=True, slots=True)
class _Layer:
    """One thing that workers cannot do, and what it takes."""

    name: str
    key: str
    """As `probe.tried` calls it."""
    what: str
    least_abi: int = 0
    kernel: str = ""
    is_strict: bool = False
    holds_always: bool = False


_LAYERS: Final = (
    _Layer("privileges", "privileges", "no program gets more than it has", holds_always=True),
    _Layer(
        "writing files", "files", "only where handlers commonly write", sandbox.LEAST_ABI, "5.19"
    ),
    _Layer("reading files", "reading", "only what a model needs", sandbox.LEAST_ABI, "5.19", True),
    _Layer("network", "network", "none unless the model asks", linux.NETWORK_ABI, "6.7", True),
    _Layer("memory of others", "memory", "neither read nor traced", sandbox.LEAST_ABI, "5.19"),
    _Layer("signals", "signals", "only to what the worker started", linux.SCOPE_ABI, "6.12"),
    _Layer("system calls", "calls", "mount, bpf, keyctl, io_uring and others fail"),
)
_TRIED_IN_VAIN: Final = "A container may forbid it: see its security options (seccomp)."


def examine(
    config: Config, environ: Mapping[str, str], served: Mapping[str, str]
) -> tuple[Finding, ...]:
    """Everything, in the order in which it is shown. Takes about half a second.

    Args:
        config: what the server is, or would be, started with.
        environ: its environment.
        served: the addresses of the server that runs with this configuration, if one does.
    """
    return (
        *_sandbox(config, environ),
        *_orphans(),
        *_machine(),
        *_disk(config),
        *_ports(config, served),
    )


def _sandbox(config: Config, environ: Mapping[str, str]) -> Iterator[Finding]:
    yield _mode(config)
    lacking = layers.missing_for_strict() if config.sandbox == STRICT else []
    holds = {} if lacking else probe.tried(config.sandbox)
    for layer in _LAYERS:
        yield _layer(layer, config.sandbox, holds.get(layer.key, False))
    hidden = sorted(hidden_from_workers(config, environ))
    names = ", ".join(hidden[:3]) + (", …" if len(hidden) > 3 else "")
    found = f"hidden from workers: {names}" if hidden else "nothing in it looks like a secret"
    yield Finding("sandbox", "environment", ACTIVE, found)


def _mode(config: Config) -> Finding:
    mode = f"sandbox={config.sandbox}"
    if config.sandbox == OFF:
        return Finding("sandbox", "mode", OFF_BY_CHOICE, mode, "Set sandbox=default.")
    lacking = layers.missing_for_strict() if config.sandbox == STRICT else []
    if not lacking:
        return Finding("sandbox", "mode", ACTIVE, mode)
    found = f"{mode} needs {' and '.join(lacking)}"
    return Finding("sandbox", "mode", MISSING, found, "Set sandbox=default, or provide it.", True)


def _layer(layer: _Layer, mode: str, holds: bool) -> Finding:
    if holds:
        return Finding("sandbox", layer.name, ACTIVE, layer.what)
    is_strict = mode == STRICT
    if (mode == OFF and not layer.holds_always) or (layer.is_strict and not is_strict):
        where = "only in sandbox=strict" if layer.is_strict else "not with sandbox=off"
        return Finding("sandbox", layer.name, OFF_BY_CHOICE, f"{layer.what}: {where}")
    abi = layers.landlock_abi()
    if abi < layer.least_abi:
        found = f"Landlock {layer.least_abi} is needed, this kernel has {abi or 'none'}"
        remedy = _NEWER_KERNEL.format(layer.kernel)
        return Finding("sandbox", layer.name, MISSING, found, remedy, is_strict)
    found = f"{layer.what}: tried, and it did not hold"
    return Finding("sandbox", layer.name, MISSING, found, _TRIED_IN_VAIN, is_strict)


def _orphans() -> Iterator[Finding]:
    yield Finding("processes", "warden", ACTIVE, "ends what a killed server leaves")
    delegated = _delegated_cgroup()
    found = "none is delegated, and none is needed" if delegated is None else str(delegated)
    yield Finding("processes", "control group", ACTIVE if delegated else OFF_BY_CHOICE, found)


def _machine() -> Iterator[Finding]:
    section, abi = "machine", layers.landlock_abi()
    yield Finding(section, "kernel", ACTIVE, f"{platform.system()} {platform.release()}")
    if abi:
        yield Finding(section, "Landlock", ACTIVE, f"version {abi}")
    else:
        yield Finding(section, "Landlock", MISSING, "none", _NEWER_KERNEL.format("6.12"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = 0 <= soft < _FEW_OPEN_FILES
    yield Finding(
        section,
        "open files",
        WARNING if few else ACTIVE,
        f"{_limit(soft)} (at most {_limit(hard)})",
        f"Each connection takes one: raise it with `ulimit -n {_FEW_OPEN_FILES * 4}`."
        if few
        else "",
    )
    is_wrong = time.gmtime().tm_year < _OLDEST_YEAR
    yield Finding(
        section,
        "clock",
        WARNING if is_wrong else ACTIVE,
        time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "It is wrong: tokens and certificates are judged by it." if is_wrong else "",
    )


def _disk(config: Config) -> Iterator[Finding]:
    places = {
        "cache": config.cache_dir,
        "logs": config.log_dir,
        "temporary": Path(tempfile.gettempdir()),
    }
    for name, path in places.items():
        there = next(folder for folder in (path, *path.parents) if folder.exists())
        free = shutil.disk_usage(there).free
        is_little = free < _LITTLE_DISK_BYTES
        remedy = "Archives are unpacked there: make room." if is_little and name == "cache" else ""
        shown = f"{free / 2**30:.1f} GiB free at {path}"
        yield Finding("disk", name, WARNING if is_little else ACTIVE, shown, remedy)


def _ports(config: Config, served: Mapping[str, str]) -> Iterator[Finding]:
    listeners = {"inference": config.inference, "management": config.management}
    if config.enable_metrics_api:
        listeners["metrics"] = config.metrics
    if config.enable_grpc_api:
        hosts = (config.grpc_inference_host, config.grpc_management_host)
        numbers = (config.grpc_inference_port, config.grpc_management_port)
        for port, host, number in zip(("inference", "management"), hosts, numbers, strict=True):
            listeners[f"grpc_{port}"] = Address(host, number, "grpc")
    for name, address in listeners.items():
        if name in served:
            yield Finding("ports", name, ACTIVE, f"{served[name]} is served")
        elif (problem := _cannot_bind(address)) is None:
            yield Finding("ports", name, ACTIVE, f"{address} is free")
        else:
            remedy = f"Set another one, or end who has it: `ss -ltnp sport = :{address.port}`."
            yield Finding("ports", name, MISSING, f"{address}: {problem}", remedy, True)


def _cannot_bind(address: Address) -> str | None:
    if address.is_unix:
        return None
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address.host, address.port))
        except OSError as error:
            return (error.strerror or str(error)).lower()
    return None


def _delegated_cgroup() -> Path | None:
    """The control group of this process, if it may end what is in it."""
    try:
        lines = _CGROUP.read_text().splitlines()
    except OSError:
        return None
    own = next((line[3:] for line in lines if line.startswith("0::")), None)
    if own is None:
        return None
    for root in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        folder = Path(root + own)
        try:
            is_ours = folder.stat().st_uid != 0 and (folder / "cgroup.kill").exists()
        except OSError:
            continue
        if is_ours:
            return folder
    return None


def _limit(value: int) -> str:
    return "unlimited" if value == resource.RLIM_INFINITY else str(value)
