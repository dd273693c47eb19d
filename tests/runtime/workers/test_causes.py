"""Why a worker ended: from its wait status, and from what we did to it."""

import os
import signal

import pytest

from marserve.workers.causes import UNKNOWN_STATUS, Cause, Ending, cause_of, signal_of


@pytest.mark.parametrize(
    ("status", "killed_for", "has_oom_evidence", "cause"),
    [
        (signal.SIGSEGV, None, False, Cause.CRASHED),
        (signal.SIGSEGV | 0x80, None, False, Cause.CRASHED),  # with a core dump
        (signal.SIGBUS, None, True, Cause.CRASHED),
        (signal.SIGILL, None, False, Cause.CRASHED),
        (signal.SIGFPE, None, False, Cause.CRASHED),
        (signal.SIGABRT, None, False, Cause.CRASHED),
        (signal.SIGKILL, None, False, Cause.KILLED),
        (signal.SIGTERM, None, False, Cause.KILLED),
        (signal.SIGKILL, None, True, Cause.OUT_OF_MEMORY),
        (signal.SIGKILL, Cause.HUNG, True, Cause.HUNG),
        (signal.SIGABRT, Cause.HUNG, False, Cause.HUNG),
        (signal.SIGKILL, Cause.PROTOCOL, False, Cause.PROTOCOL),
        (3 << 8, None, False, Cause.EXITED),
        (0, None, False, Cause.EXITED),
        (0, Cause.LOAD_FAILED, False, Cause.LOAD_FAILED),
        (UNKNOWN_STATUS, None, False, Cause.ORPHANED),
    ],
)
def test_the_cause_is_what_the_kernel_says_and_we_know(status, killed_for, has_oom_evidence, cause):
    assert cause_of(int(status), killed_for, has_oom_evidence) is cause


@pytest.mark.parametrize("status", [0, 1 << 8, 255 << 8, 9, 11, 11 | 0x80, 64])
def test_the_status_is_read_as_the_library_reads_it(status):
    assert signal_of(status) == (os.WTERMSIG(status) if os.WIFSIGNALED(status) else None)


def test_only_what_a_worker_did_itself_makes_its_requests_suspects():
    innocent = {Cause.REQUESTED, Cause.RECYCLED, Cause.KILLED, Cause.ORPHANED}

    assert {one for one in Cause if not Ending(one, "").is_self_inflicted} == innocent
    assert {one for one in Cause if Ending(one, "").is_expected} == {
        Cause.REQUESTED,
        Cause.RECYCLED,
    }
