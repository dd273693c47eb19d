"""One port for several APIs: each path belongs to exactly one of them."""

import pytest

from marserve.servers.shared import SharedFront


class Front:
    def __init__(self):
        self.asked = []
        self.refused = []

    def on_request(self, exchange):
        self.asked.append(exchange.target)

    def on_refused(self, exchange, status):
        self.refused.append(status)


class Exchange:
    def __init__(self, target):
        self.target = target


@pytest.mark.parametrize(
    ("target", "owner"),
    [
        (b"/models", "management"),
        (b"/models/", "management"),
        (b"/models?limit=1", "management"),
        (b"/models/m", "management"),
        (b"/models/m?url=/x/invoke", "management"),
        (b"/models/m/1.0", "management"),
        (b"/models/m/1.0/set-default", "management"),
        (b"/models/invoke", "management"),
        (b"/models/m/1.0/invoke", "management"),
        (b"/models/m/invoke", "inference"),
        (b"/models/m/invoke/", "inference"),
        (b"/models/m/invoke?x=1", "inference"),
        (b"/v1/models/m", "management"),
        (b"/v1/models/m:predict", "inference"),
        (b"/v1/models", "inference"),
        (b"/v2/models/m/infer", "inference"),
        (b"/workflows", "management"),
        (b"/workflows/w", "management"),
        (b"/token?type=inference", "management"),
        (b"/metrics", "metrics"),
        (b"/metrics/?name[]=x", "metrics"),
        (b"/", "inference"),
        (b"/api-description", "inference"),
        (b"/ping", "inference"),
        (b"/predictions/models", "inference"),
        (b"/nowhere", "inference"),
        (b"*", "inference"),
    ],
)
def test_a_path_belongs_to_one_api(target, owner):
    fronts = {"inference": Front(), "management": Front(), "metrics": Front()}
    shared = SharedFront(fronts["inference"], fronts["management"], fronts["metrics"])

    shared.on_request(Exchange(target))

    assert [name for name, front in fronts.items() if front.asked] == [owner]


def test_what_is_not_on_the_port_is_for_the_first_to_refuse():
    first, metrics = Front(), Front()
    shared = SharedFront(first, metrics=metrics)

    for target in (b"/models", b"/metrics", b"/x"):
        shared.on_request(Exchange(target))
    shared.on_refused(Exchange(b""), 400)

    assert first.asked == [b"/models", b"/x"]
    assert metrics.asked == [b"/metrics"]
    assert (first.refused, metrics.refused) == ([400], [])
