"""Shuts a worker in before it runs anybody's code. Runs in the child, which has one thread then.

Some layers always hold; Landlock and the filter of system calls hold in the modes `default`
(writing only where handlers commonly write) and `strict` (reading, too, only what a model needs).
docs/sandbox.md has the table. What the kernel lacks is left out, except in `strict`.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import platform
import re
import resource
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from marserve.workers import linux, seccomp
from marserve.workers.confinement import OFF, STRICT
from marserve.workers.messages import Confinement

LEAST_ABI: Final = 2
"""With the first version of Landlock no file could be moved to another folder: `os.replace`
would fail where handlers use it."""
_MOST_OPEN_FILES: Final = 65536
_OOM_SCORE: Final = 500
_UMASK: Final = 0o077

_DEVICES: Final = (
    *("null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm"),
    *("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset", "nvidia-caps"),
    *("nvidia-fs", "nvidia-nvswitchctl", "nvidia-caps-imex-channels", "gdrdrv"),
    *("dri", "kfd", "dxg", "accel", "infiniband", "hugepages", "habanalabs", "neuron0"),
)
_TEMPORARY: Final = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108  what is there, not what we use
_MADE_IN_HOME: Final = (
    *(".nv", ".keras", "nltk_data", ".EasyOCR", ".paddleocr", ".u2net", ".insightface"),
    *(".deepface", ".config/matplotlib"),
)
"""Made if they are missing: what is not there cannot be given, and the home as a whole is not."""
_FOUND_IN_HOME: Final = (".triton", ".torch", ".huggingface", ".matplotlib", ".numba")
"""What older libraries use, or what a variable can name instead."""
_MADE_IN_CACHE: Final = (
    *("huggingface", "torch", "torch_extensions", "triton", "clip", "open_clip", "whisper", "vllm"),
    *("modelscope", "kagglehub", "flashinfer", "matplotlib", "numba", "fontconfig", "gdown"),
)
"""Made where ~/.cache as a whole cannot be given, because the server's own folder is in it."""
_VARIABLES_THAT_NAME_CACHES: Final = (
    *("XDG_CACHE_HOME", "TORCH_HOME", "TORCH_EXTENSIONS_DIR", "TORCHINDUCTOR_CACHE_DIR"),
    *("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_DATASETS_CACHE", "HF_ASSETS_CACHE"),
    *("TRANSFORMERS_CACHE", "SENTENCE_TRANSFORMERS_HOME", "NLTK_DATA", "KERAS_HOME"),
    *("TFHUB_CACHE_DIR", "TRITON_CACHE_DIR", "MPLCONFIGDIR", "NUMBA_CACHE_DIR"),
    *("CUDA_CACHE_PATH", "JOBLIB_TEMP_FOLDER", "TMPDIR", "TEMP", "TMP", "VLLM_CACHE_ROOT"),
    *("MODELSCOPE_CACHE", "KAGGLEHUB_CACHE", "EASYOCR_MODULE_PATH", "U2NET_HOME", "DEEPFACE_HOME"),
)
_VARIABLES_WITH_LISTS: Final = frozenset({"NLTK_DATA"})
_SYSTEM: Final = (
    *("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/opt", "/nix/store", "/sys"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives"),
    *("/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/ca-certificates", "/etc/pki/tls/certs"),
    *("/etc/pki/ca-trust", "/etc/localtime", "/etc/timezone", "/etc/passwd", "/etc/group"),
    *("/etc/nsswitch.conf", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/host.conf"),
    *("/etc/gai.conf", "/etc/services", "/etc/protocols", "/etc/mime.types", "/etc/magic"),
    *("/etc/fonts", "/etc/os-release", "/etc/locale.alias", "/etc/nvidia", "/etc/OpenCL"),
    *("/etc/vulkan", "/etc/machine-id", "/run/nvidia-persistenced", "/proc"),
)


class LayerMissing(Exception):
    """`strict` was asked for, and this machine cannot give it."""


def confine(wish: Confinement) -> None:
    """Give up rights. Must be called before threads start and before foreign code runs.

    Raises:
        LayerMissing: the mode is strict, and a layer cannot be had.
        OSError: the kernel refuses what it has offered.
    """
    _always()
    before = os.environ.get("TMPDIR")
    _use_scratch(wish)
    if wish.mode == OFF:
        return
    os.umask(_UMASK)
    # a worker of root keeps what it needs for files and threads, and loses what rules the machine
    linux.keep_capabilities(linux.OF_FILES | linux.OF_PROGRAMS)
    abi = linux.landlock_abi()
    if wish.mode == STRICT:
        _check_all_there(abi, wish)
    if abi >= LEAST_ABI:
        _shut_in(wish, abi, before)
    if linux.has_seccomp():
        denied = seccomp.DENIED - (seccomp.AMONG_PROCESSES if abi >= LEAST_ABI else frozenset())
        machine = platform.machine()
        linux.filter_system_calls(seccomp.program(machine, denied, wish.has_network))


def missing(abi: int, has_seccomp: bool, needs_network_rule: bool = True) -> list[str]:
    """What `strict` needs and this machine lacks, one sentence each."""
    lacking = []
    if abi < linux.NETWORK_ABI if needs_network_rule else abi < LEAST_ABI:
        least = "6.7" if needs_network_rule else "5.19"
        found = f"version {abi}" if abi else "none"
        lacking.append(f"Landlock of Linux {least} or later (found: {found})")
    if not has_seccomp:
        lacking.append("filters of system calls (seccomp) on x86_64 or aarch64")
    return lacking


def _check_all_there(abi: int, wish: Confinement) -> None:
    lacking = missing(abi, linux.has_seccomp(), not wish.has_network)
    if lacking:
        raise LayerMissing(f"sandbox=strict needs {' and '.join(lacking)}.")


def _always() -> None:
    """What no handler can miss. Each by itself: a container may forbid one of them."""
    linux.no_new_privileges()
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, ValueError):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = _MOST_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_OPEN_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, most) if soft >= 0 else most, most))
    with contextlib.suppress(OSError, ValueError):
        score = Path("/proc/self/oom_score_adj")
        score.write_text(str(min(1000, int(score.read_text()) + _OOM_SCORE)))


def _use_scratch(wish: Confinement) -> None:
    """Temporary files go where they are removed with the worker; what is worth keeping does not."""
    if not wish.scratch:
        return
    if wish.mode != STRICT:
        # where torch would keep what it has compiled, for the next worker as well
        parent = os.environ.get("TMPDIR", _TEMPORARY[0])
        with contextlib.suppress(OSError, KeyError):
            user = re.sub(r'[\\/:*?"<>|]', "_", getpass.getuser())
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", f"{parent}/torchinductor_{user}")
    os.environ["TMPDIR"] = wish.scratch
    tempfile.tempdir = None  # it looks again


def _shut_in(wish: Confinement, abi: int, temporary: str | None) -> None:
    is_strict = wish.mode == STRICT
    files = linux.WRITING | linux.DEVICE_FILES
    if is_strict:
        files |= linux.READING | linux.IOCTL_DEV
    network = 0 if wish.has_network else linux.BIND_TCP | linux.CONNECT_TCP
    scopes = linux.SCOPE_SIGNALS | linux.SCOPE_ABSTRACT_SOCKETS
    for path in wish.made:
        Path(path).mkdir(mode=0o700, parents=True, exist_ok=True)
    rules = linux.Ruleset(abi, files, network, scopes)
    with contextlib.closing(rules):
        everything = linux.READING | linux.WRITING
        for path in (wish.scratch, "/dev/shm", *wish.made, *wish.writable):  # noqa: S108
            rules.grant(path, everything)
        devices = linux.READ_FILE | linux.READ_DIR | linux.WRITE_FILE | linux.IOCTL_DEV
        for path in _devices():
            rules.grant(path, devices)
        rules.grant(f"/proc/{os.getpid()}", linux.WRITE_FILE)  # names of threads
        if is_strict:
            for path in (*_SYSTEM, *_python(), wish.model_dir, *wish.readable):
                rules.grant(path, linux.READING)
        else:
            for path in (*_commonly_written(wish, temporary), wish.model_dir):
                rules.grant(path, everything)
        rules.restrict_self()


def _devices() -> Iterator[str]:
    yield from (f"/dev/{name}" for name in _DEVICES)
    with contextlib.suppress(OSError):
        for path in Path("/dev").glob("nvidia[0-9]*"):
            yield str(path)


def _python() -> Iterator[str]:
    """Where this interpreter, its modules and its packages are."""
    yield from {sys.prefix, sys.base_prefix, *sys.path, *sysconfig.get_paths().values()} - {""}


def _commonly_written(wish: Confinement, temporary: str | None) -> Iterator[str]:
    """Where handlers made for TorchServe keep temporary files and what they download."""
    always = [*_TEMPORARY, *([temporary] if temporary else [])]
    yield from always
    always = [os.path.realpath(path) for path in always]
    protected = [os.path.realpath(path) for path in wish.protected]
    for name in _VARIABLES_THAT_NAME_CACHES:
        for folder in _named_by(name):
            if name == "XDG_CACHE_HOME":
                yield from _caches(folder, protected)
            elif _is_within(folder, always):
                yield from _except(folder, protected)  # its library can make it
            else:
                yield from _made(folder, protected)
    home = os.environ.get("HOME", "")
    if not home or home == "/":
        return
    for name in _MADE_IN_HOME:
        yield from _made(f"{home}/{name}", protected)
    for name in _FOUND_IN_HOME:
        yield from _except(f"{home}/{name}", protected)
    yield from _caches(f"{home}/.cache", protected)
    if not os.path.isdir(f"{home}/.triton"):  # noqa: PTH112
        os.environ.setdefault("TRITON_CACHE_DIR", f"{home}/.cache/triton")


def _named_by(variable: str) -> list[str]:
    """The folders that an environment variable names, as libraries read it."""
    value = os.environ.get(variable, "")
    folders = value.split(os.pathsep) if variable in _VARIABLES_WITH_LISTS else [value]
    folders = [os.path.expanduser(folder) for folder in folders]  # noqa: PTH111
    return [folder for folder in folders if os.path.isabs(folder)]  # noqa: PTH117


def _caches(folder: str, protected: list[str]) -> Iterator[str]:
    """~/.cache, made if it is missing; without what is in it of the server's own."""
    _make(folder, protected)
    if _holds_any(folder, protected):
        for name in _MADE_IN_CACHE:
            _make(f"{folder}/{name}", protected)
    yield from _except(folder, protected)


def _made(folder: str, protected: list[str]) -> Iterator[str]:
    """The folder, which a handler's library would make if it could."""
    _make(folder, protected)
    yield from _except(folder, protected)


def _make(folder: str, protected: list[str]) -> None:
    if not os.path.isdir(folder) and not _is_within(folder, protected):  # noqa: PTH112
        with contextlib.suppress(OSError):  # a home that cannot be written has no caches
            Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)


def _except(folder: str, protected: list[str]) -> Iterator[str]:
    """The folder, or if something protected is in it, all else that is in it now.

    Args:
        folder: any path.
        protected: without links on the way.
    """
    if not _holds_any(folder, protected):
        yield folder
        return
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            if entry.is_symlink() or _is_within(entry.path, protected):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _except(entry.path, protected)
            else:
                yield entry.path


def _holds_any(folder: str, protected: list[str]) -> bool:
    real = os.path.realpath(folder)
    return any(_is_beneath(path, real) or _is_beneath(real, path) for path in protected)


def _is_within(path: str, folders: list[str]) -> bool:
    real = os.path.realpath(path)
    return any(_is_beneath(real, folder) for folder in folders)


def _is_beneath(real: str, outer: str) -> bool:
    return real == outer or real.startswith(outer.rstrip("/") + "/")


def remedy(error: BaseException) -> str:
    """What to do about an error that comes from being shut in; "" for any other.

    `access` does not ask Landlock: what it allows and opening forbids, the sandbox has forbidden.
    """
    if not isinstance(error, PermissionError) or not isinstance(error.filename, str):
        return ""
    path, folder = error.filename, os.path.dirname(error.filename)  # noqa: PTH120
    if os.access(path if os.path.exists(path) else folder or ".", os.W_OK):  # noqa: PTH110
        return f"The sandbox forbids it: list {path} in sandbox_writable (docs/sandbox.md)."
    return ""


def last_words(error: BaseException) -> bytes:
    """What a worker that cannot be shut in tells the log."""
    return f"The worker could not be shut in (sandbox): {error}\n".encode()
