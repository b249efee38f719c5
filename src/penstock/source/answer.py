"""Validate a response of the API and extract its users. No I/O.

Retryable failures are `SourceRefused` with the facts `again=True` and `wait_s`: the wait requested by the API in
seconds, 0 if none. Text from the API is truncated and cleaned before it is quoted in a message.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from penstock.contract.json_numbers import encode_json
from penstock.contract.json_text import MALFORMED_JSON
from penstock.errors import SourceRefused, clean_line
from penstock.source import limits
from penstock.source.entries import Decode, read_page

MESSAGE_MAX_CHARS = 300
_MESSAGE_FIELDS = ("error", "message", "detail")


def check_status(status: int, reason: str, headers: Mapping[str, str], body: bytes) -> None:
    """Raise `SourceRefused` with the API's error message unless the status is in the 200s."""
    if 200 <= status < 300:
        return
    status_line = f"returned {status} {clean_line(reason, MESSAGE_MAX_CHARS)}".rstrip()
    details = find_message(body)
    message = f"{status_line}: {details}" if details else status_line
    if not limits.is_retryable(status, headers):
        raise SourceRefused(message, status=status)
    wait_s = limits.wait_s(headers, datetime.now(UTC))
    hint = f"wait {wait_s:.0f} s, or set PENSTOCK_SOURCE_MAX_WAIT_S higher" if wait_s else "try again later"
    raise SourceRefused(message, hint=hint, again=True, wait_s=wait_s, status=status)


def parse_users(body: bytes, results: int, decode: Decode = msgspec.json.decode) -> list[Any]:
    """Return the first `results` entries of a response unchanged. Those that are not JSON are `Unreadable`.

    Raises `SourceRefused` for a response without these entries.
    """
    try:
        data = read_page(body, decode)
    except MALFORMED_JSON as error:
        raise _build_retryable_error(
            f"returned {len(body)} bytes that are not JSON: {_describe_invalid(error, body)}"
        ) from None
    if not isinstance(data, dict):
        raise _build_retryable_error(f"returned a JSON {type(data).__name__}, not an object")
    if data.get("error"):
        raise _build_retryable_error(f"returned an error: {_to_line(data['error'])}")
    users = data.get("results")
    if not isinstance(users, list):
        raise _build_retryable_error("returned an object without a list of results")
    if len(users) < results:
        raise _build_retryable_error(
            f"returned {len(users)} of {results} results",
            hint="set PENSTOCK_SOURCE_BATCH_RECORDS to the number of records that the API returns in one response",
        )
    return users[:results]


def find_message(body: bytes) -> str:
    """Return the error message in a JSON response, empty if it has none."""
    try:
        data = msgspec.json.decode(body)
    except MALFORMED_JSON:
        return ""
    messages = (data[name] for name in _MESSAGE_FIELDS if data.get(name)) if isinstance(data, dict) else ()
    return next(map(_to_line, messages), "")


def _build_retryable_error(message: str, hint: str = "") -> SourceRefused:
    return SourceRefused(message, hint=hint, again=True, wait_s=0.0)


def _describe_invalid(error: Exception, body: bytes) -> str:
    """Describe an invalid page by its error and its start, without list contents, which may be personal data."""
    head = body[: 4 * MESSAGE_MAX_CHARS].partition(b"[")[0].decode(errors="replace")
    return f"{clean_line(str(error), MESSAGE_MAX_CHARS)}; it starts with {clean_line(head, 100)!r}"


def _to_line(value: Any) -> str:
    text = value if isinstance(value, str) else encode_json(value).decode()
    return clean_line(text, MESSAGE_MAX_CHARS)
