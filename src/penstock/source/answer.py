"""Judging one answer of the API: its users, or the reason why there are none. No I/O.

What another request may mend is a `SourceRefused` with the facts `again=True` and `wait_s`: the seconds that the API
asked to wait, 0 when it did not say.
"""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from penstock.errors import SourceRefused

RETRY_AFTER_MAX_S = 60.0
WORDS_MAX_CHARS = 300
TOO_MANY_REQUESTS = 429
NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # all that msgspec raises for broken bytes


def check_status(status: int, reason: str, retry_after: str, body: bytes) -> None:
    """Nothing, for a status in the 200s. Raises `SourceRefused` with the API's words for any other."""
    if 200 <= status < 300:
        return
    said = f"answered {status} {reason}".rstrip()
    words = words_of(body)
    message = f"{said}: {words}" if words else said
    if status == TOO_MANY_REQUESTS or status >= 500:
        wait_s = retry_after_s(retry_after, datetime.now(UTC))
        raise SourceRefused(message, hint="try again later", again=True, wait_s=wait_s, status=status)
    raise SourceRefused(message, status=status)


def users_of(body: bytes, results: int) -> list[Any]:
    """The first `results` entries of an answer, as they are. Raises `SourceRefused` when it is not that."""
    try:
        data = msgspec.json.decode(body)
    except NOT_JSON as error:
        raise _broken(f"answered {len(body)} bytes that are not JSON: {error}") from None
    if not isinstance(data, dict):
        raise _broken(f"answered a JSON {type(data).__name__}, not an object")
    if "error" in data:
        raise _broken(f"answered an error: {_line(data['error'])}")
    users = data.get("results")
    if not isinstance(users, list):
        raise _broken("answered an object without a list of results")
    if len(users) < results:
        raise _broken(
            f"answered {len(users)} of {results} results",
            hint="set PENSTOCK_SOURCE_BATCH_RECORDS to what the API gives in one answer",
        )
    return users[:results]


def words_of(body: bytes) -> str:
    """The `error` of a JSON answer; empty when it has none."""
    try:
        data = msgspec.json.decode(body)
    except NOT_JSON:
        return ""
    return _line(data["error"]) if isinstance(data, dict) and "error" in data else ""


def retry_after_s(header: str, now: datetime) -> float:
    """Seconds that a Retry-After header asks for, at most `RETRY_AFTER_MAX_S`; 0 when it says nothing readable.

    Both forms of RFC 9110, 10.2.3 are read: seconds, and an HTTP date.
    """
    try:
        wait_s = float(header)
    except ValueError:
        wait_s = _seconds_until(header, now)
    return min(wait_s, RETRY_AFTER_MAX_S) if wait_s > 0 else 0.0


def _seconds_until(date: str, now: datetime) -> float:
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return 0.0
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now).total_seconds()


def _broken(message: str, hint: str = "") -> SourceRefused:
    return SourceRefused(message, hint=hint, again=True, wait_s=0.0)


def _line(words: Any) -> str:
    text = words if isinstance(words, str) else msgspec.json.encode(words).decode()
    return " ".join(text.split())[:WORDS_MAX_CHARS]
