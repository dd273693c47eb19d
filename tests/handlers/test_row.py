import pytest

from marserve_handlers.errors import PredictionException
from marserve_handlers.row import row_value


@pytest.mark.parametrize(
    ("row", "value"),
    [
        ({"data": 1, "body": 2}, 1),
        ({"body": 2, "other": 3}, 2),
        ({"data": 0, "body": 2}, 0),
        ({"body": []}, []),
    ],
)
def test_data_comes_before_the_body(row, value):
    assert row_value(row) == value


@pytest.mark.parametrize(("row", "says"), [({}, "nothing"), ({"b": 1, "a": 2}, "a, b")])
def test_a_row_without_either_is_the_clients_mistake(row, says):
    with pytest.raises(PredictionException, match=says) as caught:
        row_value(row)
    assert caught.value.error_code == 400
