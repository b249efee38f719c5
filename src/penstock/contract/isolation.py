"""One bad record is one dead letter: what a record's own code raises is kept apart from what stops every record."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from penstock.errors import PenstockError

T = TypeVar("T")
R = TypeVar("R")

NOT_OF_A_RECORD = (PenstockError, MemoryError)
"""Raised while a record is validated or encoded, and not its fault: a service is unreachable, or memory ran out."""


def isolate(items: Sequence[T], encode: Callable[[Sequence[T]], R]) -> tuple[R, list[tuple[T, Exception]]]:
    """Return what `encode` makes of `items`, and the items that it cannot encode, with what it raised.

    The batch is encoded as a whole; only when that raises, each item is tried alone, and the batch again without the
    failures. Raises what is not a record's fault.
    """
    try:
        return encode(items), []
    except NOT_OF_A_RECORD:
        raise
    except Exception:  # noqa: BLE001  the types of a pipeline's file run here, and raise what they like
        good, failures = _split(items, encode)
        return encode(good), failures


def _split(items: Sequence[T], encode: Callable[[Sequence[T]], R]) -> tuple[list[T], list[tuple[T, Exception]]]:
    good: list[T] = []
    failures: list[tuple[T, Exception]] = []
    for item in items:
        try:
            encode([item])
        except NOT_OF_A_RECORD:
            raise
        except Exception as error:  # noqa: BLE001  as above
            failures.append((item, error))
        else:
            good.append(item)
    return good, failures
