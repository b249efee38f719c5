"""Judging one answer of the API: its users, or the reason why there are none. No I/O.

What another request may mend is a `SourceRefused` with the facts `again=True` and `wait_s`: the seconds that the API
asked to wait, 0 when it did not say. What the API wrote is cut and cleaned before it stands in a message.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from penstock.errors import SourceRefused, clean_line
from penstock.source import limits
from penstock.source.entries import NOT_JSON, read_page

WORDS_MAX_CHARS = 300
_WORDS = ("error", "message", "detail")


def check_status(status: int, reason: str, headers: Mapping[str, str], body: bytes) -> None:
    """Nothing, for a status in the 200s. Raises `SourceRefused` with the API's words for any other."""
    if 200 <= status < 300:
        return
    said = f"answered {status} {clean_line(reason, WORDS_MAX_CHARS)}".rstrip()
    words = words_of(body)
    message = f"{said}: {words}" if words else said
    if not limits.is_worth_another(status, headers):
        raise SourceRefused(message, status=status)
    wait_s = limits.wait_s(headers, datetime.now(UTC))
    hint = f"wait {wait_s:.0f} s, or set PENSTOCK_SOURCE_MAX_WAIT_S higher" if wait_s else "try again later"
    raise SourceRefused(message, hint=hint, again=True, wait_s=wait_s, status=status)


def users_of(body: bytes, results: int) -> list[Any]:
    """The first `results` entries of an answer, as they are; those that are not JSON are `Unreadable`.

    Raises `SourceRefused` when it is not that.
    """
    try:
        data = read_page(body)
    except NOT_JSON as error:
        raise _broken(f"answered {len(body)} bytes that are not JSON: {_told(error, body)}") from None
    if not isinstance(data, dict):
        raise _broken(f"answered a JSON {type(data).__name__}, not an object")
    if data.get("error"):
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
    """The words of an answer in JSON on what went wrong; empty when it has none."""
    try:
        data = msgspec.json.decode(body)
    except NOT_JSON:
        return ""
    said = (data[name] for name in _WORDS if data.get(name)) if isinstance(data, dict) else ()
    return next(map(_line, said), "")


def _broken(message: str, hint: str = "") -> SourceRefused:
    return SourceRefused(message, hint=hint, again=True, wait_s=0.0)


def _told(error: Exception, body: bytes) -> str:
    """What is wrong with a page, and how it begins; not what a list in it holds, which may be about people."""
    head = body[: 4 * WORDS_MAX_CHARS].partition(b"[")[0].decode(errors="replace")
    return f"{clean_line(str(error), WORDS_MAX_CHARS)}; it begins with {clean_line(head, 100)!r}"


def _line(words: Any) -> str:
    text = words if isinstance(words, str) else msgspec.json.encode(words).decode()
    return clean_line(text, WORDS_MAX_CHARS)
