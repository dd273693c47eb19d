"""What Linux offers an unprivileged process to give up rights: thin calls, no decisions.

Landlock and seccomp have no wrapper in the C library, so their numbers stand here. All of it
works on the calling thread and on what that thread starts from then on.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from pathlib import Path
from typing import Final

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG: Final = 1
_PR_GET_SECCOMP: Final = 21
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_NO_NEW_PRIVS: Final = 38
_LANDLOCK_CREATE_RULESET: Final = 444  # the same on every architecture
_LANDLOCK_ADD_RULE: Final = 445
_LANDLOCK_RESTRICT_SELF: Final = 446
_CREATE_RULESET_VERSION: Final = 1
_RULE_PATH_BENEATH: Final = 1
_SECCOMP: Final = {"x86_64": 317, "aarch64": 277}
_CAPSET: Final = {"x86_64": 126, "aarch64": 91}
_CAPABILITY_VERSION_3: Final = 0x20080522
_SECCOMP_SET_MODE_FILTER: Final = 1
_SECCOMP_FILTER_FLAG_SPEC_ALLOW: Final = 4  # without it older kernels slow the process down

# --- Landlock: rights of the file system, in the order of their bits ---
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << bit for bit in range(6))
MAKE_CHAR, MAKE_DIR, MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM, REFER, TRUNCATE = (
    1 << bit for bit in range(6, 15)
)
IOCTL_DEV: Final = 1 << 15
BIND_TCP, CONNECT_TCP = 1, 2
SCOPE_ABSTRACT_SOCKETS, SCOPE_SIGNALS = 1, 2

READING: Final = EXECUTE | READ_FILE | READ_DIR
MAKING: Final = MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_FIFO | MAKE_SYM
WRITING: Final = WRITE_FILE | TRUNCATE | REMOVE_DIR | REMOVE_FILE | MAKING | REFER
DEVICE_FILES: Final = MAKE_CHAR | MAKE_BLOCK

# --- capabilities, by their bits ---
OF_FILES: Final = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4
"""CHOWN, DAC_OVERRIDE, FOWNER, FSETID: root's way with files."""
OF_PROGRAMS: Final = 1 << 5 | 1 << 6 | 1 << 7 | 1 << 10 | 1 << 13 | 1 << 14 | 1 << 23
"""KILL, SETGID, SETUID, NET_BIND_SERVICE, NET_RAW, IPC_LOCK, SYS_NICE: what libraries use."""

_ON_A_FILE: Final = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
"""What a rule for a single file may name."""

_FILE_RIGHTS_BY_ABI: Final = (
    (1, (1 << 13) - 1),
    (2, REFER),
    (3, TRUNCATE),
    (5, IOCTL_DEV),
)
NETWORK_ABI: Final = 4
SCOPE_ABI: Final = 6


def landlock_abi() -> int:
    """The version of Landlock that this kernel has; 0: none, or it is switched off."""
    version = _LIBC.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    return max(0, int(version))


def file_rights(abi: int) -> int:
    """All rights of the file system that Landlock of this version can withhold."""
    rights = 0
    for since, bits in _FILE_RIGHTS_BY_ABI:
        if abi >= since:
            rights |= bits
    return rights


class Ruleset:
    """What Landlock is to withhold, and where it is granted after all. Must be closed.

    Args:
        abi: of the kernel; what it does not know yet is left out.
        files: rights of the file system that are withheld everywhere but where a rule grants them.
        network: BIND_TCP and CONNECT_TCP, withheld altogether.
        scopes: SCOPE_*: what is reached only in processes that are shut in together.
    """

    def __init__(self, abi: int, files: int, network: int = 0, scopes: int = 0) -> None:
        self._files = files & file_rights(abi)
        attributes = struct.pack("=Q", self._files)
        if abi >= NETWORK_ABI:
            attributes += struct.pack("=Q", network)
        if abi >= SCOPE_ABI:
            attributes += struct.pack("=Q", scopes)
        self._fd = _checked(
            _LIBC.syscall(
                _LANDLOCK_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0
            ),
            "landlock_create_ruleset",
        )

    def grant(self, path: str | Path, rights: int) -> bool:
        """Grant rights to a file, or to a folder and all beneath it. False: it is not there."""
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            is_folder = (os.fstat(fd).st_mode & 0o170000) == 0o040000
            rights &= self._files if is_folder else self._files & _ON_A_FILE
            if rights:
                rule = struct.pack("=Qi", rights, fd)
                _checked(
                    _LIBC.syscall(_LANDLOCK_ADD_RULE, self._fd, _RULE_PATH_BENEATH, rule, 0),
                    f"landlock_add_rule for {path}",
                )
        finally:
            os.close(fd)
        return True

    def restrict_self(self) -> None:
        """From now on it holds, for good. Needs `no_new_privileges`."""
        _checked(_LIBC.syscall(_LANDLOCK_RESTRICT_SELF, self._fd, 0), "landlock_restrict_self")

    def close(self) -> None:
        """The set is not needed any more; what holds goes on holding."""
        os.close(self._fd)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def has_seccomp() -> bool:
    """Whether system calls can be filtered on this machine."""
    return platform.machine() in _SECCOMP and int(_LIBC.prctl(_PR_GET_SECCOMP, 0, 0, 0, 0)) >= 0


def filter_system_calls(instructions: bytes) -> None:
    """Have a BPF program decide about every system call. Needs `no_new_privileges`."""
    number = _SECCOMP[platform.machine()]
    program = _Program(len(instructions) // 8, instructions)
    _checked(
        _LIBC.syscall(
            number,
            _SECCOMP_SET_MODE_FILTER,
            _SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            ctypes.byref(program),
        ),
        "seccomp",
    )


def no_new_privileges() -> None:
    """No program that this process starts gets more rights than it has, whatever its file says."""
    _checked(_LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")


def keep_capabilities(kept: int) -> None:
    """Give up all others, for good where `no_new_privileges` holds. Only root has any to lose."""
    number = _CAPSET.get(platform.machine())
    if number is None:
        return
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    sets = ctypes.create_string_buffer(24)
    _checked(_LIBC.syscall(number - 1, header, sets), "capget")
    low, high = (struct.unpack_from("=III", sets, offset) for offset in (0, 12))
    masks = (kept & 0xFFFFFFFF, kept >> 32)
    left = [bits & mask for word, mask in zip((low, high), masks, strict=True) for bits in word]
    _checked(_LIBC.syscall(number, header, struct.pack("=6I", *left)), "capset")


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send a signal when the thread that started this process is gone; 0: none."""
    _checked(_LIBC.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0), "PR_SET_PDEATHSIG")


def adopt_orphans() -> None:
    """Processes below this one that lose their parent become its children."""
    _checked(_LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "PR_SET_CHILD_SUBREAPER")


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno() or errno.EINVAL
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return int(result)
