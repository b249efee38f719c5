from datetime import UTC, datetime, timedelta, timezone

import pytest

from penstock.cli.moment import parse_time
from penstock.errors import UsageError


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2026-01-02", datetime(2026, 1, 2, tzinfo=UTC)),
        ("2026-01-02T03:04:05", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02 03:04:05.5Z", datetime(2026, 1, 2, 3, 4, 5, 500_000, tzinfo=UTC)),
        ("2026-01-02T03:04+01:00", datetime(2026, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=1)))),
    ],
)
def test_a_time_in_iso_8601_is_parsed(text, found):
    """A time in ISO 8601 is UTC by default."""
    assert parse_time(text) == found
    assert parse_time(text).tzinfo


@pytest.mark.parametrize(("text", "seconds"), [("0s", 0), ("90s", 90), ("30m", 1800), ("24h", 86_400), ("7d", 604_800)])
def test_a_duration_is_a_time_before_now(text, seconds):
    """A duration is a time before now."""
    before = datetime.now(UTC)
    result = parse_time(text) + timedelta(seconds=seconds)
    assert before <= result <= datetime.now(UTC)


@pytest.mark.parametrize(
    "text", ["", "now", "-5m", "5", "5 m", "1.5h", "5w", "2026-13-01", "0:5", "99999999999d", "9999999d", "٣m\n"]
)
def test_any_other_text_is_a_usage_error(text):
    """Any other text is a usage error with the expected forms."""
    with pytest.raises(UsageError, match="invalid time") as failed:
        parse_time(text)
    assert "ISO 8601" in failed.value.hint
