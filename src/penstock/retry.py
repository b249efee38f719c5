"""The one bounded retry policy, and the one way to wait for something."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

import stamina

from penstock.errors import Unreachable

T = TypeVar("T")
Retryable = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool | float]


def bounded(on: Retryable, *, attempts: int, timeout_s: float) -> Any:
    """Attempts of a block, at most `attempts` within `timeout_s`, with exponential back-off and jitter between them.

    Use as `for attempt in bounded(...): with attempt: ...`. `on` names the errors worth another attempt; a
    callable may answer with the seconds to wait (a server's Retry-After). The last error is raised as it is.
    """
    return stamina.retry_context(
        on=on, attempts=attempts, timeout=timeout_s, wait_initial=0.2, wait_max=10.0, wait_jitter=0.5
    )


def wait_until(probe: Callable[[], T], *, timeout_s: float, every_s: float = 0.25, what: str, hint: str = "") -> T:
    """What `probe` returns once it stops raising `Unreachable`; asks every `every_s` seconds.

    Raises the kind of `Unreachable` that the probe raised last, with its facts, what was waited for and how long.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return probe()
        except Unreachable as error:
            if time.monotonic() >= deadline:
                raise type(error)(
                    f"{what}: not ready after {timeout_s:g} s; last answer: {error.message}",
                    hint=hint or error.hint,
                    **error.facts,
                ) from error
        time.sleep(every_s)
