"""What an API's headers say of its rate limit. No I/O."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

FORBIDDEN, REQUEST_TIMEOUT, TOO_MANY_REQUESTS = 403, 408, 429
RESETS = ("x-ratelimit-reset", "x-rate-limit-reset", "ratelimit-reset")
REMAINDERS = ("x-ratelimit-remaining", "x-rate-limit-remaining", "ratelimit-remaining")
_EARLIEST_EPOCH_S = 1e9  # 2001: a smaller number counts seconds from now
_EARLIEST_EPOCH_MS = 1e11  # 1973 in milliseconds, the year 5138 in seconds


def is_worth_another(status: int, headers: Mapping[str, str]) -> bool:
    """Return whether a request that was answered with `status` may be answered well later."""
    if status in (REQUEST_TIMEOUT, TOO_MANY_REQUESTS) or status >= 500:
        return True
    return status == FORBIDDEN and (bool(headers.get("retry-after")) or _is_used_up(headers))


def wait_s(headers: Mapping[str, str], now: datetime) -> float:
    """Return the seconds that an API asks to wait before another request; 0 when it does not say.

    `Retry-After` (RFC 9110, 10.2.3: seconds, or an HTTP date) goes before the reset of a rate limit that is used up.
    Look-ups in `headers` must ignore case, as httpx's do.
    """
    asked = headers.get("retry-after")
    if not asked and _is_used_up(headers):
        asked = _first(headers, RESETS)
    seconds = _seconds(asked or "", now)
    return seconds if seconds > 0 and math.isfinite(seconds) else 0.0


def _is_used_up(headers: Mapping[str, str]) -> bool:
    """Return whether nothing is left of a rate limit; APIs tell its reset with every answer, good ones too."""
    left = _first(headers, REMAINDERS)
    return left.strip() == "0" if left else bool(_first(headers, RESETS))


def _first(headers: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((headers[name] for name in names if headers.get(name)), "")


def _seconds(text: str, now: datetime) -> float:
    """Return the seconds from `now` on: `text` is a date, or a number of seconds, of s since the epoch, or of ms."""
    try:
        number = float(text)
    except ValueError:
        return _seconds_until(text, now)
    if number >= _EARLIEST_EPOCH_MS:
        number /= 1000
    return number - now.timestamp() if number >= _EARLIEST_EPOCH_S else number


def _seconds_until(date: str, now: datetime) -> float:
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            moment = read(date.strip())
        except ValueError:
            continue
        return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now).total_seconds()
    return 0.0
