"""F32: scrapers, many, huge or asleep, cost requests nothing."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from prometheus_client import generate_latest

from marserve.events import Bus, HandlerMetric
from marserve.observe.handler_metrics import MAX_LINES
from marserve.observe.metrics import Metrics
from marserve.refs import ModelRef


@pytest.fixture(scope="module")
def echo(shared_server):
    shared_server.pack("echo", "echo.py")
    return shared_server.start(load_models="echo.mar")


def test_fifty_scrapers_and_one_that_never_reads_do_not_disturb_a_request(echo):
    asleep = socket.create_connection(echo.address("metrics"))
    asleep.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * 20)
    over = threading.Event()
    statuses: list[int] = []

    def scrape() -> None:
        while not over.is_set():
            statuses.append(echo.call("GET", "metrics", "/metrics").status)

    scrapers = [threading.Thread(target=scrape) for _ in range(50)]
    for one in scrapers:
        one.start()
    try:
        echo.wait_until(lambda: len(statuses) > 60)
        assert {echo.predict("echo").status for _ in range(50)} == {200}
        assert echo.manage("GET", "/models").status == 200
    finally:
        over.set()
        for one in scrapers:
            one.join()
        asleep.close()
    assert set(statuses) <= {200, 503}
    assert 200 in statuses
    assert echo.call("GET", "metrics", "/metrics").status == 200


def test_ten_thousand_series_are_rendered_in_a_moment():
    bus = Bus()
    metrics = Metrics(bus, "box")
    for model in range(10):
        ref = ModelRef(f"m{model}", "1.0")
        for number in range(1_000):
            dimensions = {"Model": ref.name, "Value": f"v{number}"}
            bus.publish(HandlerMetric(ref, "Strange", 1.0, "count", "gauge", dimensions))
    took_s = []
    for _ in range(5):
        began = time.process_time()  # other processes of the machine do not count
        text = generate_latest(metrics.registry)
        took_s.append(time.process_time() - began)
    assert text.count(b"\nStrange{") == MAX_LINES
    assert min(took_s) <= 0.1
