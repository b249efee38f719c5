"""A query result cached for all open pages, so that load does not grow with viewers."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from penstock.errors import PenstockError

T = TypeVar("T")


class QueryCache(Generic[T]):
    """Cache of a query's result, or of the `PenstockError` it raised, for `for_s` seconds. Thread-safe.

    Call the object to get the result. Callers that arrive while the query runs wait for its result.
    """

    def __init__(self, question: Callable[[], T], for_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._question, self._for_s, self._clock = question, for_s, clock
        self._lock = threading.Lock()
        self._answers: list[T] = []
        self._error: PenstockError | None = None
        self._until_s: float | None = None

    def __call__(self) -> T:
        """Return the result. Raises the `PenstockError` that the query raised."""
        with self._lock:
            if self._until_s is None or self._clock() >= self._until_s:
                self._run_query()
            if self._error is not None:
                raise self._error.with_traceback(None)
            return self._answers[0]

    def _run_query(self) -> None:
        self._until_s, self._error = None, None
        try:
            self._answers = [self._question()]
        except PenstockError as error:
            self._error = error
        self._until_s = self._clock() + self._for_s

    def clear_cache(self) -> None:
        """Drop the cached result."""
        with self._lock:
            self._until_s = None
