"""Bodies too large for any buffer on their way: each client gets its own back, whoever asks."""

import os
import socket

SIZES = (1, 65_535, 65_536, 65_537, 300_000, 1 << 20, 3_000_001, 0, 700)


def start(server, **settings):
    server.pack("mirror", "mirror.py")
    server.start(load_models="mirror.mar", batch_size=4, max_request_size=4 << 20, **settings)


def test_large_and_small_bodies_that_meet_in_batches_come_back_as_they_went(server, crowd):
    start(server, max_batch_delay=20, max_response_size=4 << 20)
    bodies = [os.urandom(size) for size in SIZES * 4]

    answers = crowd(lambda index: server.predict("mirror", bodies[index]), len(bodies)).join()

    assert [answer.status for answer in answers] == [200] * len(bodies)
    assert [answer.body == body for answer, body in zip(answers, bodies, strict=True)] == [
        True
    ] * len(bodies)


def test_an_asynchronous_handler_may_change_what_it_has_returned(server, crowd, tmp_path):
    config = tmp_path / "mirror.yaml"
    config.write_text("asyncCommunication: true\n")
    server.pack("mirror", "mirror_awaited.py", config_file=str(config))
    server.start(load_models="mirror.mar", max_response_size=4 << 20)
    bodies = [os.urandom(size) for size in SIZES]

    answers = crowd(lambda index: server.predict("mirror", bodies[index]), len(bodies)).join()

    assert [answer.body == body for answer, body in zip(answers, bodies, strict=True)] == [
        True
    ] * len(bodies)


def test_clients_that_leave_in_the_middle_of_a_large_body_disturb_nobody(server):
    start(server, max_response_size=4 << 20)
    host, port = server.address("inference")
    head = b"POST /predictions/mirror HTTP/1.1\r\nhost: x\r\ncontent-length: 3000000\r\n\r\n"
    body = os.urandom(1 << 20)

    for sent in (head + body, head + bytes(3_000_000)):  # within its body, before its answer
        with socket.create_connection((host, port), timeout=30) as client:
            client.sendall(sent)
        answer = server.predict("mirror", body)
        assert (answer.status, answer.body == body) == (200, True)


def test_a_worker_that_dies_over_large_bodies_is_replaced(server):
    start(server, max_response_size=4 << 20)

    assert server.predict("mirror", b"die").status >= 500
    server.wait_until(lambda: server.predict("mirror", b"a").status == 200)
    body = os.urandom(1 << 20)
    assert server.predict("mirror", body).body == body


def test_a_large_answer_over_the_limit_is_refused_and_its_neighbours_are_not(server):
    start(server, max_response_size=1 << 20)

    assert server.predict("mirror", bytes(1 << 20)).body == bytes(1 << 20)
    assert server.predict("mirror", bytes((1 << 20) + 1)).status >= 400
    assert server.predict("mirror", bytes((4 << 20) + 1)).status == 413
