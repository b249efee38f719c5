"""The bounded retry policy, and waiting for a condition."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

import stamina

from penstock.errors import Unreachable

T = TypeVar("T")
Retryable = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool | float]


def retry_attempts(on: Retryable, *, attempts: int, timeout_s: float) -> Any:
    """Retry a block with exponential backoff and jitter, at most `attempts` times within `timeout_s`.

    Use as `for attempt in bounded(...): with attempt: ...`. `on` selects the errors to retry. A callable may return the
    seconds to wait (a server's Retry-After). The last error is raised unchanged.
    """
    return stamina.retry_context(
        on=on, attempts=attempts, timeout=timeout_s, wait_initial=0.2, wait_max=10.0, wait_jitter=0.5
    )


def wait_until(probe: Callable[[], T], *, timeout_s: float, every_s: float = 0.25, what: str, hint: str = "") -> T:
    """Call `probe` every `every_s` seconds until it stops raising `Unreachable`, and return its result.

    After `timeout_s`, the probe's last error is raised with the same class and facts, and `what` and `timeout_s` in its
    message.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return probe()
        except Unreachable as error:
            if time.monotonic() >= deadline:
                raise type(error)(
                    f"{what}: not ready after {timeout_s:g} s; last error: {error.message}",
                    hint=hint or error.hint,
                    **error.facts,
                ) from error
        time.sleep(every_s)
