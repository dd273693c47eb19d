import math

import pytest
import torch

from marserve_handlers.optimize_compare import Difference, NotComparable, difference


def tensor(*values):
    return torch.tensor(values, dtype=torch.float32)


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("plain", "other", "expected"),
    [
        (tensor(1, 2), tensor(1, 2), Difference(0.0, 0.0, None)),
        (tensor(1, -4), tensor(1, -2), Difference(0.5, 2.0, None)),
        (tensor(0, 0), tensor(0, 1), Difference(INF, 1.0, None)),
        (tensor(NAN, 2), tensor(NAN, 2), Difference(0.0, 0.0, None)),
        (tensor(1, 2), tensor(1, NAN), Difference(INF, INF, None)),
        (tensor(INF, 2), tensor(INF, 1), Difference(0.5, 1.0, None)),
        (tensor(1, 2), tensor(1, INF), Difference(INF, INF, None)),
        (tensor(), tensor(), Difference(0.0, 0.0, None)),
        (
            tensor([1, 2], [2, 1]),
            tensor([2, 2], [2, 1]),
            Difference(0.5, 1.0, 0.5),
        ),
        (torch.tensor([[1, 2]]), torch.tensor([[2, 1]]), Difference(0.5, 1.0, None)),
        (
            {"a": tensor(1), "b": [tensor([4, 1])]},
            {"a": tensor(1), "b": [tensor([4, 2])]},
            Difference(0.25, 1.0, 1.0),
        ),
        (tensor(1).bfloat16(), tensor(1), Difference(0.0, 0.0, None)),
    ],
)
def test_how_much_outputs_differ(plain, other, expected):
    assert difference(plain, other) == expected


@pytest.mark.parametrize(
    ("plain", "other", "says"),
    [
        ("text", "text", "no tensor"),
        (tensor(1, 2), tensor(1), r"shapes \(1,\) instead of \(2,\)"),
        ([tensor(1)], [tensor(1), tensor(2)], "instead of"),
    ],
)
def test_other_outputs_cannot_be_compared(plain, other, says):
    with pytest.raises(NotComparable, match=says):
        difference(plain, other)


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (Difference(0.05, 1, 0.75), None),
        (Difference(0.051, 1, 1.0), "differ by 0.051, more than tolerance 0.05"),
        (Difference(0.0, 0, 0.5), "only 50% of the rows"),
        (Difference(INF, INF, None), "differ by inf"),
    ],
)
def test_too_large_a_difference_is_said(found, says):
    complaint = found.complaint(0.05, 0.75)
    assert complaint is None if says is None else says in complaint
