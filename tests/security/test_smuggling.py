"""SEC-19: no request means two things. Each is served as it stands, or refused once and the
connection ends; what follows a refusal is never read. Every port reads alike, and never differently
from h11 where both accept.
"""

import random
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))

import mutation
from running_server import Server
from smuggling_corpus import CANARY, CASES, Case
from two_readers import Told, by_h11, by_ours

from marserve.servers.request_reader import RequestReader

PORTS = ("inference", "management", "metrics")
MUTANTS = 2000


def told_of(*reads):
    told = Told()
    reader = RequestReader(100_000, told)
    for number, data in enumerate(reads):
        reader.feed(data, float(number))
    return told


def test_there_are_enough_cases():
    assert len(CASES) >= 250
    assert len({case.name for case in CASES if case.body is None}) > 200


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_every_case_is_served_or_refused_whatever_the_reads_are(step):
    for case in CASES:
        data = case.data + CANARY
        told = told_of(*(data[at : at + step] for at in range(0, len(data), step)))
        if case.body is None:
            assert (told.served, len(told.refused)) == ([], 1), case
            assert told.refused[0] in (400, 414, 431), case
        else:
            assert told.refused == [], case
            assert [body for _, _, body in told.served] == [case.body, b""], case
            assert told.served[1][1] == b"/canary", case


# --- real ports -----------------------------------------------------------------------------------


def _answers(server: Server, port: str, case: Case) -> list[int]:
    """The statuses that come back until the connection ends."""
    with server.raw(port) as connection:
        connection.sendall(case.data + CANARY)
        got = b""
        while True:
            try:
                piece = connection.recv(65536)
            except ConnectionResetError:
                break
            if not piece:
                break
            got += piece
    return [int(part[:3]) for part in got.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize("port", PORTS)
def test_every_port_answers_each_case_alike(open_server, port):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda case: _answers(open_server, port, case), CASES))

    for case, statuses in zip(CASES, found, strict=True):
        if case.body is None:
            assert len(statuses) == 1, (case, statuses)
            assert statuses[0] in (400, 414, 431), (case, statuses)
        else:  # "/a" and "/canary" are nowhere: that is an answer of the application's, and an end
            assert statuses[0] in (404, 405), (case, statuses)


# --- another reader -------------------------------------------------------------------------------


def _disagreements(inputs):
    both = 0
    for data in inputs:
        ours, theirs = by_ours(data), by_h11(data)
        if ours is not None and theirs is not None:
            both += 1
            assert ours == theirs, data
    return both


def test_h11_frames_what_both_accept_in_the_same_way():
    assert _disagreements(case.data + CANARY for case in CASES) >= 25


def test_h11_frames_mutants_that_both_accept_in_the_same_way():
    seeds = [case.data + CANARY for case in CASES if case.body is not None]
    number = random.Random(19).randrange(1 << 30)

    assert _disagreements(mutation.inputs(seeds, MUTANTS, number)) > MUTANTS // 10


def test_the_canary_is_a_request_to_h11_too():
    assert by_h11(CANARY) == (b"/canary", b"", b"")
