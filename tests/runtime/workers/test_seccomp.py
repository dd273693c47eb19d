"""The filter of system calls, run by a small interpreter of its instructions."""

import errno
import struct

import pytest

from marserve.workers import seccomp

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOWED = 0x7FFF0000
READ = {"x86_64": 0, "aarch64": 63}
PTRACE = {"x86_64": 101, "aarch64": 117}
CLONE = {"x86_64": 56, "aarch64": 220}
CLONE3 = 435
SOCKET = {"x86_64": 41, "aarch64": 198}
AF_UNIX, AF_INET, AF_NETLINK, AF_PACKET = 1, 2, 16, 17


def verdict(program, number, architecture, first_argument=0):
    data = struct.pack("=IIQQ", number, architecture, 0, first_argument)
    code = list(struct.iter_unpack("=HBBI", program))
    place, value = 0, 0
    while True:
        operation, if_true, if_false, operand = code[place]
        place += 1
        if operation == 0x20:
            [value] = struct.unpack_from("=I", data, operand)
        elif operation == 0x15:
            place += if_true if value == operand else if_false
        elif operation == 0x35:
            place += if_true if value >= operand else if_false
        elif operation == 0x45:
            place += if_true if value & operand else if_false
        else:
            assert operation == 0x06
            return "allowed" if operand == ALLOWED else errno.errorcode[operand & 0xFFFF]


@pytest.mark.parametrize("machine", ARCHITECTURES)
@pytest.mark.parametrize("has_network", [True, False])
def test_what_is_denied_fails_and_all_else_is_allowed(machine, has_network):
    program = seccomp.program(machine, seccomp.DENIED, has_network)
    architecture = ARCHITECTURES[machine]
    column = list(ARCHITECTURES).index(machine)
    numbers = {name: both[column] for name, both in seccomp._NUMBERS.items()}
    for number in range(600):
        if number in (SOCKET[machine], CLONE3):
            continue
        expected = "EPERM" if number in numbers.values() else "allowed"
        assert verdict(program, number, architecture) == expected, number
    assert verdict(program, PTRACE[machine], architecture) == "EPERM"


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_without_a_network_there_are_sockets_within_the_machine_alone(machine):
    architecture = ARCHITECTURES[machine]
    for has_network in (True, False):
        program = seccomp.program(machine, seccomp.DENIED, has_network)
        for family in (AF_UNIX, AF_INET, AF_NETLINK, AF_PACKET, 10):
            is_local = family in (AF_UNIX, AF_NETLINK)
            expected = "allowed" if has_network or is_local else "EACCES"
            assert verdict(program, SOCKET[machine], architecture, family) == expected


@pytest.mark.parametrize("machine", ARCHITECTURES)
@pytest.mark.parametrize("has_network", [True, False])
def test_threads_and_processes_can_be_made_but_not_in_worlds_of_their_own(machine, has_network):
    architecture = ARCHITECTURES[machine]
    program = seccomp.program(machine, seccomp.DENIED, has_network)
    thread, fork, vfork = 0x3D0F00, 0x01200011, 0x4111
    for flags in (thread, fork, vfork, 17, thread | 1 << 33):
        assert verdict(program, CLONE[machine], architecture, flags) == "allowed", hex(flags)
    for bit in (17, *range(25, 31)):  # CLONE_NEWNS, and NEWCGROUP to NEWNET
        for flags in (1 << bit, 1 << bit | 17, 1 << bit | thread):
            assert verdict(program, CLONE[machine], architecture, flags) == "EPERM", hex(flags)
    assert verdict(program, CLONE3, architecture) == "ENOSYS"  # so that clone is used


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_calls_in_the_manner_of_another_architecture_fail(machine):
    program = seccomp.program(machine, frozenset(), True)
    other = next(value for name, value in ARCHITECTURES.items() if name != machine)
    assert verdict(program, READ[machine], other) == "EPERM"
    assert verdict(program, READ[machine], 0x40000003) == "EPERM"  # 32 bits
    assert verdict(program, READ[machine], ARCHITECTURES[machine]) == "allowed"


def test_calls_of_the_x32_kind_fail():
    program = seccomp.program("x86_64", frozenset(), True)
    assert verdict(program, 0x40000000, ARCHITECTURES["x86_64"]) == "EPERM"


def test_what_processes_of_one_worker_need_can_be_left_out():
    program = seccomp.program("x86_64", seccomp.DENIED - seccomp.AMONG_PROCESSES, True)
    assert verdict(program, 438, ARCHITECTURES["x86_64"]) == "allowed"  # pidfd_getfd
