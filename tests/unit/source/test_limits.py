from datetime import UTC, datetime

import pytest
from httpx2 import Headers

from penstock.source.limits import is_retryable, wait_s

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
EPOCH_S = int(NOW.timestamp())
RESET = {"X-RateLimit-Reset": str(EPOCH_S + 20)}


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7),
        ("0", 0),
        ("-3", 0),
        ("", 0),
        ("soon", 0),
        ("nan", 0),
        ("99999", 99999),
        ("9" * 400, 0),
        ("Thu, 01 Jan 2026 12:00:09 GMT", 9),
        ("Thu, 01 Jan 2026 12:00:09 -0000", 9),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0),
        ("2026-01-01T12:00:30Z", 30),
    ],
)
def test_retry_after_is_parsed(header, seconds):
    """As seconds or as a date, and ignored if invalid."""
    assert wait_s(Headers({"Retry-After": header}), NOW) == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        (RESET, 20),
        (RESET | {"X-RateLimit-Remaining": "0"}, 20),
        (RESET | {"X-RateLimit-Remaining": "17"}, 0),
        (RESET | {"Retry-After": "5"}, 5),
        ({"x-ratelimit-reset": "33"}, 33),
        ({"X-Rate-Limit-Reset": str(EPOCH_S + 8)}, 8),
        ({"RateLimit-Remaining": "0", "RateLimit-Reset": "12"}, 12),
        ({"X-RateLimit-Reset": str((EPOCH_S + 4) * 1000)}, 4),
        ({"X-RateLimit-Reset": str(EPOCH_S - 5)}, 0),
        ({"X-RateLimit-Reset": "later"}, 0),
        ({"X-RateLimit-Remaining": "0"}, 0),
        ({}, 0),
    ],
    ids=str,
)
def test_the_reset_of_a_rate_limit_is_parsed(headers, seconds):
    """The reset of an exhausted limit is seconds from now or an epoch. Retry-After takes precedence."""
    assert wait_s(Headers(headers), NOW) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "headers",
    [RESET, RESET | {"X-RateLimit-Remaining": "0"}, {"X-RateLimit-Remaining": "0"}, {"Retry-After": "3"}],
    ids=str,
)
def test_a_403_with_an_exhausted_limit_is_retryable(headers):
    """A 403 with an exhausted rate limit is retryable."""
    assert is_retryable(403, Headers(headers))


@pytest.mark.parametrize("headers", [{}, RESET | {"X-RateLimit-Remaining": "4999"}, {"Retry-After": ""}], ids=str)
def test_a_403_without_a_limit_is_final(headers):
    """A 403 is final while the rate limit has requests left."""
    assert not is_retryable(403, Headers(headers))


@pytest.mark.parametrize(("status", "worth"), [(408, True), (429, True), (500, True), (599, True), (400, False)])
def test_other_statuses_need_no_header(status, worth):
    """Timeouts, throttling and server errors are retryable. Other client errors are not."""
    assert is_retryable(status, Headers()) is worth
    assert is_retryable(status, Headers(RESET)) is worth
