import sys
from types import ModuleType

import pytest

from marserve_handlers.errors import HandlerLoadFailed
from marserve_handlers.packages import first_found, required


@pytest.fixture
def shop(monkeypatch):
    """A package `shop` that has moved `tea` from `shop.old` to `shop.new`."""
    for name in ("shop", "shop.new"):
        module = ModuleType(name)
        module.__path__ = []
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules["shop.new"].tea = "green"
    return sys.modules["shop.new"]


def test_what_is_installed_is_imported(shop):
    assert required("shop.new", "the handler x", "shop") is shop


@pytest.mark.parametrize("module", ["nothing_here", "nothing_here.deep"])
def test_what_is_missing_is_named_with_its_remedy(module):
    with pytest.raises(
        HandlerLoadFailed,
        match=r"the handler x needs the package nothing_here.*pip install n-h, or put it into",
    ):
        required(module, "the handler x", "n-h")


@pytest.mark.parametrize("places", [("shop.new", "shop.old"), ("shop.old", "shop.new")])
def test_a_name_is_found_where_the_release_has_it(places, shop):
    assert first_found("tea", places, "x", "shop") == "green"


def test_a_name_that_no_place_has_is_said(shop):
    with pytest.raises(HandlerLoadFailed, match=r"x finds milk in none of shop.old, shop.new"):
        first_found("milk", ("shop.old", "shop.new"), "x", "shop")


def test_places_of_a_package_that_is_missing_name_the_package():
    with pytest.raises(HandlerLoadFailed, match="x needs the package nothing_here"):
        first_found("tea", ("nothing_here.a", "nothing_here.b"), "x", "nothing")
