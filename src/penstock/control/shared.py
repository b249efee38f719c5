"""An answer that all open pages share: asked for once, however many look."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from penstock.errors import PenstockError

T = TypeVar("T")


class Shared(Generic[T]):
    """What a question gave, or the error that it raised, at most `for_s` ago; call it to have it. Thread-safe.

    Those that come while it is being asked wait for that answer.
    """

    def __init__(self, question: Callable[[], T], for_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._question, self._for_s, self._clock = question, for_s, clock
        self._lock = threading.Lock()
        self._answers: list[T] = []
        self._error: PenstockError | None = None
        self._until_s: float | None = None

    def __call__(self) -> T:
        """The answer. Raises the `PenstockError` that the question raised."""
        with self._lock:
            if self._until_s is None or self._clock() >= self._until_s:
                self._ask()
            if self._error is not None:
                raise self._error.with_traceback(None)
            return self._answers[0]

    def _ask(self) -> None:
        self._until_s, self._error = None, None
        try:
            self._answers = [self._question()]
        except PenstockError as error:
            self._error = error
        self._until_s = self._clock() + self._for_s

    def forget(self) -> None:
        """Ask anew the next time."""
        with self._lock:
            self._until_s = None
