import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms

from marserve_handlers.images import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    ImagenetTransforms,
    SideBySide,
    made_up_images,
    rgb,
)

ONE_BY_ONE = transforms.Compose(
    [
        rgb,
        transforms.Resize(256),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
    ]
)
OURS = ImagenetTransforms()


def grain(wide, high, mode="RGB"):
    values = np.random.default_rng(wide * high).integers(0, 256, (high, wide, 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


SIDES = st.integers(1, 700) | st.sampled_from([128, 224, 256, 512])


@settings(max_examples=40, deadline=None)
@given(wide=SIDES, high=SIDES)
def test_the_quick_way_gives_the_numbers_of_the_steps(wide, high):
    if max(wide, high) > 20 * min(wide, high):
        return  # the steps would make an image of many megabytes of it
    image = grain(wide, high)
    [quick] = OURS.normalised([OURS.pixels(image)])
    slow = ONE_BY_ONE(image)
    assert torch.equal(quick, slow)


@pytest.mark.parametrize("size", [(224, 224), (256, 256), (300, 260), (640, 480), (333, 1000)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_usual_sizes_are_exact(size, mode):
    image = grain(*size, mode)
    quick = OURS.normalised([OURS.pixels(image), OURS.pixels(image)])
    assert quick.shape == (2, 3, 224, 224)
    assert quick.is_contiguous()
    assert torch.equal(quick[1], ONE_BY_ONE(image))


def test_as_a_composition_it_is_like_any_other():
    image = grain(300, 200)
    assert torch.equal(OURS(image), ONE_BY_ONE(image))
    changed = ImagenetTransforms()
    assert changed.is_untouched
    changed.transforms.pop()
    assert not changed.is_untouched


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_values_keep_their_order_whatever_the_threads(threads, count):
    side_by_side = SideBySide()
    for number in (count, 1, count + 1):
        threads(number)
        assert side_by_side.map(lambda value: value * 2, list(range(20))) == list(range(0, 40, 2))
    assert side_by_side.map(str, [7]) == ["7"]


def test_the_first_failure_is_raised(threads):
    threads(2)
    with pytest.raises(ZeroDivisionError):
        SideBySide().map(lambda value: 1 // value, [1, 0, "x"])


def test_made_up_images_are_the_same_each_time():
    one, two = made_up_images(2)
    assert made_up_images(2) == [one, two]
    assert one != two
    assert Image.open(io.BytesIO(one)).size == (256, 256)
