import pytest

from marserve_handlers.contract import Context
from marserve_handlers.torchserve.util import deprecated, import_class


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("marserve_handlers.contract.Context", None),
        ("Context", "marserve_handlers.contract"),
        ("contract.Context", "marserve_handlers"),
    ],
)
def test_a_class_is_imported_by_its_name(name, prefix):
    assert import_class(name, prefix) is Context


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Context", "names no module"),
        ("marserve_handlers.nothing.Context", "nothing"),
        ("marserve_handlers.contract.Nothing", "has no class Nothing"),
    ],
)
def test_a_class_that_is_not_there_is_an_import_error(name, says):
    with pytest.raises(ImportError, match=says):
        import_class(name)


def test_whoever_calls_something_deprecated_is_warned_and_served():
    @deprecated("1.0", replacement="new")
    def old(a, b=1):
        """Adds."""
        return a + b

    with pytest.warns(PendingDeprecationWarning, match=r"old is deprecated since 1\.0; call new"):
        assert old(2, b=3) == 5
    assert old.__doc__ == "Adds."

    @deprecated("2.0", klass=FutureWarning)
    def older():
        return None

    with pytest.warns(FutureWarning, match=r"older is deprecated since 2\.0\.$"):
        older()
