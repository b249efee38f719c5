"""Rate limits in an API's response headers. No I/O."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

FORBIDDEN, REQUEST_TIMEOUT, TOO_MANY_REQUESTS = 403, 408, 429
RESETS = ("x-ratelimit-reset", "x-rate-limit-reset", "ratelimit-reset")
REMAINDERS = ("x-ratelimit-remaining", "x-rate-limit-remaining", "ratelimit-remaining")
_EARLIEST_EPOCH_S = 1e9  # 2001: a smaller number counts seconds from now
_EARLIEST_EPOCH_MS = 1e11  # 1973 in milliseconds, the year 5138 in seconds


def is_retryable(status: int, headers: Mapping[str, str]) -> bool:
    """Return whether a request with this response status is worth a retry."""
    if status in (REQUEST_TIMEOUT, TOO_MANY_REQUESTS) or status >= 500:
        return True
    return status == FORBIDDEN and (bool(headers.get("retry-after")) or _is_exhausted(headers))


def wait_s(headers: Mapping[str, str], now: datetime) -> float:
    """Return the seconds that the API requests to wait before a retry, 0 if none.

    `Retry-After` (RFC 9110, 10.2.3: seconds or an HTTP date) takes precedence over the reset time of an exhausted rate
    limit. `headers` must be case-insensitive, as httpx's are.
    """
    value = headers.get("retry-after")
    if not value and _is_exhausted(headers):
        value = _find_header(headers, RESETS)
    seconds = _parse_seconds(value or "", now)
    return seconds if seconds > 0 and math.isfinite(seconds) else 0.0


def _is_exhausted(headers: Mapping[str, str]) -> bool:
    """Return whether a rate limit is exhausted. APIs send its reset time with every response, also successful ones."""
    remaining = _find_header(headers, REMAINDERS)
    return remaining.strip() == "0" if remaining else bool(_find_header(headers, RESETS))


def _find_header(headers: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((headers[name] for name in names if headers.get(name)), "")


def _parse_seconds(text: str, now: datetime) -> float:
    """Return the seconds from `now`. `text` is a date, a number of seconds, or the epoch in s or ms."""
    try:
        number = float(text)
    except ValueError:
        return _seconds_until(text, now)
    if number >= _EARLIEST_EPOCH_MS:
        number /= 1000
    return number - now.timestamp() if number >= _EARLIEST_EPOCH_S else number


def _seconds_until(date: str, now: datetime) -> float:
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            moment = parse(date.strip())
        except ValueError:
            continue
        return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now).total_seconds()
    return 0.0
