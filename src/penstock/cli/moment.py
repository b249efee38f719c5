"""A time as it is typed: ISO 8601, or how long ago."""

import re
from datetime import UTC, datetime, timedelta

from penstock.errors import WrongUse

_AGO = re.compile(r"(\d+)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
HELP = "ISO 8601 (UTC unless it says otherwise), or how long ago: 30m, 24h, 7d."


def moment(text: str) -> datetime:
    """The time that `text` names. Raises `WrongUse`."""
    ago = _AGO.fullmatch(text)
    try:
        if ago:
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise WrongUse(f"{text!r} is no time", hint=HELP) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
