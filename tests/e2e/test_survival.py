"""Workers that crash, hang, lie and wear out: who gets an answer, who an error, and how often.

Rows F02 to F10, F29, F34, F35, F40 and F46 of the failure catalogue.
"""

from __future__ import annotations

import time

import psutil
import pytest

SIZES = {"eight": 8, "wide": 32}


@pytest.fixture(scope="module")
def deadly(shared_server):
    """Models of one handler: `eight` and `wide` batch so many, `hasty` answers within a second."""
    config = shared_server.root / "model-config.yaml"
    for name, yaml in {
        "eight": "batchSize: 8",
        "wide": "batchSize: 32",
        "hasty": "minWorkers: 4\nresponseTimeout: 1",
        "once": "idempotent: false",
        "leaky": "minWorkers: 2\nrecycleAboveMb: 90",
        "tired": "recycleAfterRequests: 10",
    }.items():
        config.write_text(yaml)
        shared_server.pack(name, "deadly.py", config_file=str(config))
    shared_server.start(load_models="all")
    assert shared_server.problems == []
    return shared_server


def batch(server, crowd, tmp_path, name, bodies):
    """Send `bodies` so that they make one batch of a model with one worker; their replies."""
    gate = tmp_path / "gate"
    gate.unlink(missing_ok=True)
    server.wait_until(lambda: ready(server, name) == 1)
    first = server.block(name, gate)
    rest = crowd(lambda i: server.predict(name, bodies[i].encode()), len(bodies))
    server.wait_until(lambda: server.pending(name) == len(bodies))
    gate.touch()
    assert first.join()[0].status == 200
    return rest.join()


def ready(server, name):
    return sum(one["status"] == "READY" for one in server.workers(name))


def ends(server, name):
    """How often workers of a model ended unasked, by cause."""
    counted = {}
    for key, value in server.metrics().items():
        if key.startswith("marserve_worker_ends_total{") and f'model_name="{name}"' in key:
            counted[key.split('cause="')[1].split('"')[0]] = int(value)
    return counted


def figure(server, name, **labels):
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    return sum(
        value
        for key, value in server.metrics().items()
        if key.partition("{")[0] == f"marserve_{name}" and all(one in key for one in wanted)
    )


# --- F08, F09: crashes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "poisons"),
    [("eight", ["segv 1"]), ("wide", ["exit 1"]), ("wide", ["abort 2", "bus 2"])],
)
def test_a_poison_request_costs_its_sender_an_error_and_nobody_else_anything(
    deadly, crowd, tmp_path, name, poisons
):
    """F09: n = 8 and 32, one and two poisons; at most 1 + 2k deaths for k of them."""
    before = sum(ends(deadly, name).values())
    bodies = [f"innocent {i}" for i in range(SIZES[name])]
    for number, poison in enumerate(poisons):
        bodies[3 + 7 * number] = poison

    replies = batch(deadly, crowd, tmp_path, name, bodies)

    for body, reply in zip(bodies, replies, strict=True):
        if body in poisons:
            assert reply.status == 500
            message = reply.json()["message"]
            assert message.startswith("Worker died. Attempt 3:")
            incident = message.split(" as ")[1].removesuffix(".")
            log = deadly.root / "logs" / "ts_log.log"
            deadly.wait_until(lambda: f"Incident {incident}" in log.read_text())  # noqa: B023
        else:
            assert (reply.status, reply.body.decode()) == (200, body)
    deadly.wait_until(lambda: ready(deadly, name) == 1)
    assert sum(ends(deadly, name).values()) - before <= 1 + 2 * len(poisons)


def test_the_same_poison_again_kills_no_batch_and_the_third_time_it_is_refused(
    deadly, crowd, tmp_path
):
    """F09: the replay of a payload."""
    poison = "ill 7"
    assert deadly.predict("eight", poison.encode()).status == 500
    before = sum(ends(deadly, "eight").values())

    replies = batch(deadly, crowd, tmp_path, "eight", ["a", poison, "b", "c"])
    again = sum(ends(deadly, "eight").values())
    refused = deadly.predict("eight", poison.encode())

    assert [reply.status for reply in replies] == [200, 500, 200, 200]
    assert figure(deadly, "batch_size_count", model_name="eight") > 0
    assert again - before == 1, "it was alone, and known"
    assert (refused.status, refused.json()["type"]) == (422, "PoisonRequestException")
    assert sum(ends(deadly, "eight").values()) == again
    assert deadly.predict("eight", b"fine").status == 200


def test_what_is_poison_only_in_company_is_answered(deadly, crowd, tmp_path):
    """F09: the variant that dies only when batched ends with 200."""
    replies = batch(deadly, crowd, tmp_path, "eight", ["a", "batched 1", "b"])

    assert [reply.body for reply in replies] == [b"a", b"batched 1", b"b"]


def test_a_worker_killed_from_outside_makes_nobody_a_suspect(deadly, crowd, tmp_path):
    """F01: the batch goes to the next worker as it is."""
    quarantined = figure(deadly, "requests_quarantined_total", model_name="eight")
    retried = figure(deadly, "requests_retried_total", model_name="eight")

    bodies = ["a", f"once {tmp_path / 'died'}", "b"]
    replies = batch(deadly, crowd, tmp_path, "eight", bodies)

    assert [reply.status for reply in replies] == [200] * 3
    assert figure(deadly, "requests_quarantined_total", model_name="eight") == quarantined
    assert figure(deadly, "requests_retried_total", model_name="eight") == retried + 3
    assert ends(deadly, "eight")["killed"] == 1


def test_poison_is_no_crash_loop(deadly, crowd):
    """F09: a client with nothing but poison cannot switch a model off."""
    poisons = crowd(lambda i: deadly.predict("eight", f"segv poison {i}".encode()), 12)
    assert [reply.status for reply in poisons.join()] == [500] * 12

    assert deadly.predict("eight", b"still here").status == 200
    assert figure(deadly, "version_failing") == 0


@pytest.mark.parametrize(("name", "header"), [("once", None), ("eight", "1")])
def test_what_may_run_once_runs_once(deadly, tmp_path, name, header):
    """I3: a model that is not idempotent, and a client that says so."""
    marks = tmp_path / "marks"
    headers = {"x_no_retry": header} if header else {}

    reply = deadly.predict(name, f"note {marks}".encode(), **headers)

    assert reply.status == 500
    assert "Worker died. Attempt 1:" in reply.json()["message"]
    assert marks.read_text() == "x"


def test_a_batch_that_fails_runs_nothing_again_that_may_run_once(deadly, crowd, tmp_path):
    """F06, I3: the others get their answers, who may run once gets the error of the batch."""
    note, bodies = tmp_path / "note", ["a", "raise 1"]

    def send(index):
        if index < len(bodies):
            return deadly.predict("eight", bodies[index].encode())
        return deadly.predict("eight", f"tell {note}".encode(), x_no_retry="1")

    gate = tmp_path / "gate"
    first = deadly.block("eight", gate)
    rest = crowd(send, 3)
    deadly.wait_until(lambda: deadly.pending("eight") == 3)
    gate.touch()
    assert first.join()[0].status == 200

    assert [reply.status for reply in rest.join()] == [200, 503, 503]
    assert note.read_text() == "x"


# --- F05, F46: workers that wear out --------------------------------------------------------------


def test_a_worker_whose_memory_runs_out_time_and_again_is_replaced(deadly):
    """F05: 507 for the request itself, and after three in a minute another worker."""
    deadly.wait_until(lambda: ready(deadly, "eight") == 1)
    [before] = deadly.pids("eight")

    replies = [deadly.predict("eight", b"memory") for _ in range(3)]

    assert [reply.status for reply in replies] == [507] * 3
    deadly.wait_until(lambda: before not in deadly.pids("eight"))
    assert ends(deadly, "eight")["recycled"] == 1


def test_a_worker_that_loses_its_device_is_replaced_and_nobody_notices(deadly, crowd, tmp_path):
    """F29, with an error as CUDA raises it: the process could do nothing more with the device."""
    deadly.wait_until(lambda: ready(deadly, "eight") == 1)
    before = ends(deadly, "eight").get("exited", 0)
    device = f"device {tmp_path / 'lost'}"

    replies = batch(deadly, crowd, tmp_path, "eight", ["a", device, "b"])

    assert [(reply.status, reply.body.decode()) for reply in replies] == [
        (200, "a"),
        (200, device),
        (200, "b"),
    ]
    assert ends(deadly, "eight")["exited"] == before + 1


def test_workers_that_have_served_enough_are_replaced_and_nobody_notices(deadly):
    """F46: by count."""
    first = deadly.pids("tired")
    end = time.monotonic() + 30.0
    while ends(deadly, "tired").get("recycled", 0) < 3 and time.monotonic() < end:
        assert deadly.predict("tired", b"any").body == b"any"

    assert not set(first) & set(deadly.pids("tired"))
    assert set(ends(deadly, "tired")) == {"recycled"}


def test_a_worker_that_leaks_is_replaced_before_it_is_large(deadly):
    """F46: by memory, one at a time, the successor first."""
    before = set(deadly.pids("leaky"))
    fewest = 2
    for _ in range(3):
        assert deadly.predict("leaky", b"leak 60").status == 200

    end = time.monotonic() + 30.0
    while before <= set(deadly.pids("leaky")) and time.monotonic() < end:
        assert deadly.predict("leaky", b"served meanwhile").status == 200
        fewest = min(fewest, ready(deadly, "leaky"))

    assert not before <= set(deadly.pids("leaky"))
    assert fewest == 2
    assert set(ends(deadly, "leaky")) == {"recycled"}


# --- F02, F03, F10: workers that hang -------------------------------------------------------------


def test_workers_that_hang_are_answered_for_in_time_tell_where_and_are_killed(deadly, crowd):
    """F02, F03, F10: 504 at the response timeout, dumps in the model log, whoever queued served."""
    before = set(deadly.pids("hasty"))
    log = deadly.root / "logs" / "model_log.log"
    dumps = log.read_text().count("Fatal Python error: Aborted")
    bodies = [b"stop 1", b"spin 1", b"gil 1"]
    took_s = [0.0] * len(bodies)

    def hang(index):
        started = time.monotonic()
        reply = deadly.predict("hasty", bodies[index])
        took_s[index] = time.monotonic() - started
        return reply

    hanging = crowd(hang, len(bodies))
    others = [deadly.predict("hasty", b"meanwhile") for _ in range(5)]
    replies = hanging.join()

    assert [reply.status for reply in replies] == [504] * 3
    assert all(1.0 <= took < 3.0 for took in took_s)
    assert [reply.body for reply in others] == [b"meanwhile"] * 5
    deadly.wait_until(lambda: sum(not psutil.pid_exists(pid) for pid in before) == 3, 5.0)
    deadly.wait_until(lambda: log.read_text().count("Fatal Python error: Aborted") == dumps + 3)
    assert "in act" in log.read_text()
    assert ends(deadly, "hasty") == {"hung": 3}


# --- F40: workers that lie ------------------------------------------------------------------------


@pytest.mark.parametrize("lie", ["garbage 1", "truncated 1", "stale 1"])
def test_a_worker_that_breaks_its_channel_s_rules_harms_nobody_else(deadly, crowd, tmp_path, lie):
    """F40, I2: garbage, half a frame, and a result of another batch."""
    before = figure(deadly, "worker_ends_total", model_name="eight", cause="protocol")

    replies = batch(deadly, crowd, tmp_path, "eight", ["a", lie, "b"])

    assert [reply.status for reply in replies] == [200, 500, 200]
    assert [replies[0].body, replies[2].body] == [b"a", b"b"]
    after = figure(deadly, "worker_ends_total", model_name="eight", cause="protocol")
    assert (after > before) == (lie != "truncated 1")


# --- afterwards -----------------------------------------------------------------------------------


def test_every_request_of_this_module_has_its_one_end(deadly):
    """I9: received = answered + abandoned + in flight, and nothing is in flight."""
    deadly.wait_until(lambda: figure(deadly, "requests_in_flight") == 0)

    answered = figure(deadly, "requests_total")
    assert figure(deadly, "requests_received_total") == answered
    assert figure(deadly, "requests_abandoned_total") == 0
