"""Parse times typed by users: ISO 8601, or how long ago."""

import re
from datetime import UTC, datetime, timedelta

from penstock.errors import UsageError

_AGO = re.compile(r"(\d+)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
HELP = "ISO 8601 (UTC by default), or how long ago: 30m, 24h, 7d."


def parse_time(text: str) -> datetime:
    """Parse a time. Raises `UsageError`."""
    ago = _AGO.fullmatch(text)
    try:
        if ago:
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        parsed = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise UsageError(f"invalid time {text!r}", hint=HELP) from None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
