import pytest

from marserve.workers.thread_share import thread_share


@pytest.mark.parametrize(
    ("cores", "workers", "threads"),
    [(8, 1, 8), (8, 2, 4), (8, 3, 2), (8, 8, 1), (8, 20, 1), (8, 0, 8), (1, 1, 1)],
)
def test_the_workers_of_a_version_share_the_cores(cores, workers, threads):
    assert thread_share(cores, workers, {}) == threads


@pytest.mark.parametrize(
    ("environ", "threads"),
    [
        ({"OMP_NUM_THREADS": "3"}, None),
        ({"MKL_NUM_THREADS": "3"}, None),
        ({"OMP_NUM_THREADS": " "}, 4),
        ({"OTHER": "3"}, 4),
    ],
)
def test_a_variable_of_the_environment_decides(environ, threads):
    assert thread_share(8, 2, environ) == threads
