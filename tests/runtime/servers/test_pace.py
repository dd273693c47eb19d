"""How long a client may take over a request (SEC-17): every row of the table of limits."""

import pytest

from marserve.servers.exchange import Timeouts
from marserve.servers.pace import Pace, Verdict
from marserve.servers.request_reader import RequestReader

LIMITS = Timeouts(idle_s=75.0, head_s=10.0, body_s=30.0)
HEAD = b"POST /a HTTP/1.1\r\nHost: x\r\n"
BODY = HEAD + b"Content-Length: 5000000\r\n\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
KIB = b"x" * 1024
ONE = b"1\r\nx\r\n"


class Owner:
    def __init__(self):
        self.told = []

    def on_request(self, head, body):
        self.told.append("served")

    def on_refused(self, status):
        self.told.append(status)

    def on_expect(self):
        self.told.append("expects")


def verdicts(reads, asked_at, limits=LIMITS, max_body_bytes=10_000_000):
    """What is said at each moment, about a client that sent `reads`, each at its time."""
    pace, reader = Pace(), RequestReader(max_body_bytes, Owner())
    told, read_at = [], 0.0
    moments = sorted([(at, data) for at, data in reads] + [(at, None) for at in asked_at],
                     key=lambda one: one[0])  # fmt: skip
    for at, data in moments:
        if data is None:
            told.append((at, pace.verdict(reader, read_at, at, limits)))
        else:
            read_at = at
            reader.feed(data, at)
    return [at for at, verdict in told if verdict is not Verdict.WAIT], told[-1][1]


def each_second(until):
    return [float(second) + 0.5 for second in range(int(until))]


@pytest.mark.parametrize(
    ("reads", "first", "verdict"),
    [
        ([], 75.5, Verdict.CLOSE),
        ([(0.0, b"G")], 10.5, Verdict.CLOSE),
        ([(0.0, HEAD)] + [(float(n), b"X: y\r\n") for n in range(1, 40)], 10.5, Verdict.CLOSE),
        ([(0.0, BODY)], 10.5, Verdict.REFUSE),  # not a byte came when a kilobyte was due
        ([(0.0, BODY), *((float(n), b"x") for n in range(1, 60))], 11.5, Verdict.REFUSE),
        ([(0.0, CHUNKED), *((float(n), ONE) for n in range(1, 60))], 11.5, Verdict.REFUSE),
        # one large chunk, of which a byte comes each second
        (
            [(0.0, CHUNKED + b"4000\r\n"), *((float(n), b"x") for n in range(1, 60))],
            11.5,
            Verdict.REFUSE,
        ),
        ([(0.0, BODY), (1.0, KIB * 1000)], 31.5, Verdict.REFUSE),  # then nothing for 30 s
        ([(0.0, BODY), *((float(n), KIB * 2) for n in range(1, 400))], 301.5, Verdict.REFUSE),
    ],
    ids=[
        "says nothing", "a byte of a head", "a head without end", "no body",
        "a trickling body", "trickling chunks", "one large chunk that trickles",
        "a body that stops", "a body without end",
    ],
)  # fmt: skip
def test_who_takes_too_long_is_let_go(reads, first, verdict):
    late, last = verdicts(reads, each_second(320))

    assert late[0] == pytest.approx(first, abs=1.01)
    assert last is verdict


@pytest.mark.parametrize(
    "reads",
    [
        [(0.0, BODY), *((float(n), KIB * 2) for n in range(1, 290))],
        [(0.0, BODY), *((float(n), KIB * 40) for n in range(0, 290, 29))],
        [(n * 70.0, HEAD + b"\r\n") for n in range(4)],
        [(n * 9.0, HEAD + b"\r\n") for n in range(33)],
    ],
    ids=["2 KiB a second", "in bursts", "a request now and then", "many requests"],
)
def test_who_is_slow_within_reason_is_let_be(reads):
    assert verdicts(reads, each_second(285))[0] == []


def test_the_largest_bodies_may_take_longer():
    reads = [(0.0, HEAD + b"Content-Length: 2000000000\r\n\r\n")]
    reads += [(float(n), KIB * 1100) for n in range(1, 1000)]

    assert verdicts(reads, each_second(900), max_body_bytes=2 << 30)[0] == []


def test_a_client_that_is_not_read_from_is_not_blamed():
    pace, reader = Pace(), RequestReader(10_000_000, Owner())
    reader.feed(BODY, 0.0)
    for second in range(100):
        pace.restart()
        read_at = float(second)
    assert pace.verdict(reader, read_at, 100.0, LIMITS) is Verdict.WAIT
    assert pace.verdict(reader, read_at, 109.0, LIMITS) is Verdict.WAIT
    assert pace.verdict(reader, read_at, 112.0, LIMITS) is Verdict.REFUSE
