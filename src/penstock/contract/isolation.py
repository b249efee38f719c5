"""Limit a bad record to one dead letter: separate errors of a single record from those that stop every record."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from penstock.errors import PenstockError

T = TypeVar("T")
R = TypeVar("R")

NOT_OF_A_RECORD = (PenstockError, MemoryError)
"""Raised while a record is validated or encoded, but not its fault: a service is unavailable, or memory ran out."""


def isolate(items: Sequence[T], encode: Callable[[Sequence[T]], R]) -> tuple[R, list[tuple[T, Exception]]]:
    """Return the result of `encode` for `items`, and the items that it cannot encode, each with the exception raised.

    The batch is encoded as a whole. Only if that raises, each item is tried alone, and the batch encoded again without
    the failures. Raises what is not a record's fault (`NOT_OF_A_RECORD`).
    """
    try:
        return encode(items), []
    except NOT_OF_A_RECORD:
        raise
    except Exception:  # noqa: BLE001  types of a pipeline's file run here and may raise anything
        good, failures = _split_failures(items, encode)
        return encode(good), failures


def _split_failures(
    items: Sequence[T], encode: Callable[[Sequence[T]], R]
) -> tuple[list[T], list[tuple[T, Exception]]]:
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
