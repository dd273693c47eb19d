"""Which GPU a worker gets."""

import pytest

from marserve.model_version import Settings
from marserve.workers.devices import Devices


def settings(**fields):
    return Settings(min_workers=1, max_workers=1, **fields)


@pytest.mark.parametrize(
    ("count", "fields", "expected"),
    [
        (0, {}, [(), ()]),
        (0, {"device_type": "gpu", "device_ids": (0,)}, [(), ()]),
        (1, {}, [(0,), (0,), (0,)]),
        (2, {}, [(1,), (0,), (1,), (0,)]),
        (3, {}, [(1,), (2,), (0,), (1,)]),
        (2, {"device_type": "gpu"}, [(1,), (0,)]),
        (2, {"device_type": "cpu"}, [(), ()]),
        (4, {"device_ids": (3, 1)}, [(3,), (1,), (3,)]),
        # there is no device 5, so the list is ignored
        (2, {"device_ids": (0, 5)}, [(1,), (0,), (1,)]),
    ],
)
def test_workers_go_round_the_devices(count, fields, expected):
    choose = Devices(count).chooser(settings(**fields))

    assert [choose(()) for _ in expected] == expected


def test_models_without_wishes_share_one_round():
    devices = Devices(4)
    one, two = devices.chooser(settings()), devices.chooser(settings())

    assert [one(()), two(()), one(()), two(())] == [(1,), (2,), (3,), (0,)]


def test_a_model_with_a_list_goes_its_own_round():
    devices = Devices(4)
    listed, free = devices.chooser(settings(device_ids=(2,))), devices.chooser(settings())

    assert [listed(()), free(()), listed(()), free(())] == [(2,), (1,), (2,), (2,)]


def tensor_parallel(level, **fields):
    return settings(parallel_type="tp", parallel_level=level, **fields)


@pytest.mark.parametrize(
    ("count", "wanted", "in_use", "expected"),
    [
        (4, tensor_parallel(2), [], (0, 1)),
        (4, tensor_parallel(2), [(0, 1)], (2, 3)),
        (4, tensor_parallel(2), [(2, 3)], (0, 1)),  # the first worker was scaled away
        (5, tensor_parallel(2), [(0, 1)], (2, 3)),  # one device is left over
        (4, tensor_parallel(2, device_ids=(3, 1)), [], (3, 1)),
        (2, tensor_parallel(0), [(0,)], (1,)),
        (4, tensor_parallel(2, device_type="cpu"), [], ()),
        (0, tensor_parallel(2), [], ()),
    ],
)
def test_a_parallel_worker_gets_devices_that_no_sibling_has(count, wanted, in_use, expected):
    assert Devices(count).chooser(wanted)(in_use) == expected


@pytest.mark.parametrize(
    ("count", "wanted", "expected"),
    [
        (4, tensor_parallel(2), 2),
        (5, tensor_parallel(2), 2),
        (1, tensor_parallel(2), 0),
        (4, tensor_parallel(2, device_ids=(0, 1, 2)), 1),
        (0, tensor_parallel(2), None),
        (4, tensor_parallel(2, device_type="cpu"), None),
        (4, settings(), None),
    ],
)
def test_there_are_devices_for_so_many_workers(count, wanted, expected):
    assert Devices(count).most_workers(wanted) == expected
