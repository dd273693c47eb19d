"""Which system calls no worker needs, as a filter for the kernel. Pure.

A list of what is denied, not of what is allowed: frameworks use a wide and moving set of calls.
A denied call fails with EPERM; nobody is killed for trying.
"""

from __future__ import annotations

import errno
import struct
from typing import Final

_ARCHITECTURES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32: Final = 0x40000000
_NONE: Final = -1

_NUMBERS: Final[dict[str, tuple[int, int]]] = {
    # name: x86_64, aarch64
    # into other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    # what the file system looks like
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_by_handle_at": (304, 265),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "quotactl": (179, 60),
    # other worlds
    "setns": (308, 268),
    "unshare": (272, 97),
    # the kernel's keys, programs and modules
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    # past the other filters
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    # the machine
    "reboot": (169, 142),
    "acct": (163, 89),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, _NONE),
    "ioperm": (173, _NONE),
}
_SOCKET: Final = (41, 198)
_CLONE: Final = (56, 220)
_CLONE3: Final = 435
_NEW_WORLDS: Final = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET: what `unshare` is denied for."""

AMONG_PROCESSES: Final = frozenset({"process_vm_readv", "process_vm_writev", "kcmp", "pidfd_getfd"})
"""What the processes of one worker use among themselves, to share memory of a GPU. Where Landlock
holds, it keeps them to those; elsewhere they are denied."""
DENIED: Final = frozenset(_NUMBERS)
_LOCAL_FAMILIES: Final = (1, 16)
"""Sockets within this machine: AF_UNIX, and AF_NETLINK, which tells what interfaces there are."""

# classic BPF, as the kernel's headers name it
_LOAD: Final = 0x20
_EQUAL: Final = 0x15
_AT_LEAST: Final = 0x35
_HAS_ANY: Final = 0x45
_RETURN: Final = 0x06
_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000
_AT_NUMBER, _AT_ARCHITECTURE, _AT_FIRST_ARGUMENT = 0, 4, 16


def program(machine: str, denied: frozenset[str], has_network: bool) -> bytes:
    """The filter.

    Args:
        machine: x86_64 or aarch64.
        denied: names of calls that fail.
        has_network: False: there are no sockets but those within this machine.
    """
    column = list(_ARCHITECTURES).index(machine)
    code = [
        _instruction(_LOAD, 0, 0, _AT_ARCHITECTURE),
        # calls in the manner of another architecture have other numbers: none of them
        _instruction(_EQUAL, 1, 0, _ARCHITECTURES[machine]),
        _failing(errno.EPERM),
        _instruction(_LOAD, 0, 0, _AT_NUMBER),
    ]
    if machine == "x86_64":
        code += [_instruction(_AT_LEAST, 0, 1, _X32), _failing(errno.EPERM)]
    for name in sorted(denied):
        number = _NUMBERS[name][column]
        if number != _NONE:
            code += [_instruction(_EQUAL, 0, 1, number), _failing(errno.EPERM)]
    code += _without_new_worlds(_CLONE[column])
    if not has_network:
        code += _without_network(_SOCKET[column])
    code.append(_instruction(_RETURN, 0, 0, _ALLOW))
    return b"".join(code)


def _without_new_worlds(clone_number: int) -> list[bytes]:
    """Threads and processes can be made, but not in namespaces of their own.

    A filter cannot see what clone3 is asked for; without it the C library uses clone.
    """
    return [
        _instruction(_EQUAL, 0, 1, _CLONE3),
        _failing(errno.ENOSYS),
        _instruction(_EQUAL, 0, 4, clone_number),
        _instruction(_LOAD, 0, 0, _AT_FIRST_ARGUMENT),
        _instruction(_HAS_ANY, 0, 1, _NEW_WORLDS),
        _failing(errno.EPERM),
        _allowing(),
    ]


def _without_network(socket_number: int) -> list[bytes]:
    families = [_instruction(_EQUAL, 0, 1, family) + _allowing() for family in _LOCAL_FAMILIES]
    checks = b"".join(families)
    length = 1 + len(checks) // 8 + 1
    return [
        _instruction(_EQUAL, 0, length, socket_number),
        _instruction(_LOAD, 0, 0, _AT_FIRST_ARGUMENT),
        checks,
        _failing(errno.EACCES),
    ]


def _allowing() -> bytes:
    return _instruction(_RETURN, 0, 0, _ALLOW)


def _failing(number: int) -> bytes:
    return _instruction(_RETURN, 0, 0, _ERRNO | number)


def _instruction(code: int, jump_true: int, jump_false: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, jump_true, jump_false, value)
