import pytest

from penstock.contract.isolation import isolate
from penstock.errors import RegistryUnreachable, StoreFailed


def encode(items):
    """Fail for each negative number."""
    calls.append(list(items))
    if any(item < 0 for item in items):
        raise OverflowError("negative")
    return [bytes([item]) for item in items]


calls: list[list[int]] = []


@pytest.fixture(autouse=True)
def forget():
    calls.clear()


def test_good_items_are_encoded_as_one_batch():
    """No item is tried alone as long as none fails."""
    assert isolate([1, 2, 3], encode) == ([b"\x01", b"\x02", b"\x03"], [])
    assert calls == [[1, 2, 3]]
    assert isolate([], encode) == ([], [])


def test_bad_items_are_found_one_by_one():
    """Each is returned with its error; the others are encoded, in their order."""
    encoded, failures = isolate([1, -2, 3, -4], encode)
    assert encoded == [b"\x01", b"\x03"]
    assert [(item, str(error)) for item, error in failures] == [(-2, "negative"), (-4, "negative")]


def test_only_bad_items_leave_an_empty_batch():
    """What is left is an empty batch."""
    assert isolate([-1], encode)[0] == []


@pytest.mark.parametrize("error", [RegistryUnreachable("away"), StoreFailed("no"), MemoryError(), KeyboardInterrupt()])
@pytest.mark.parametrize("alone", [False, True])
def test_an_error_that_no_item_causes_is_raised(error, alone):
    """An unreachable service or lack of memory is not blamed on an item, in the batch or alone."""

    def fail(items):
        raise error if len(items) == 1 or not alone else ValueError

    with pytest.raises(type(error)):
        isolate([1, 2], fail)


def test_a_batch_that_fails_without_a_bad_item_fails():
    """No item is blamed for a failure of the batch alone."""

    def fail(items):
        if len(items) > 1:
            raise ValueError("too many")

    with pytest.raises(ValueError, match="too many"):
        isolate([1, 2], fail)
