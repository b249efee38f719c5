from datetime import UTC, datetime

import pytest

from penstock.errors import SourceRefused
from penstock.source.answer import RETRY_AFTER_MAX_S, check_status, retry_after_s, users_of, words_of

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        ("7", 7),
        ("0", 0),
        ("-3", 0),
        ("", 0),
        ("soon", 0),
        ("nan", 0),
        ("99999", RETRY_AFTER_MAX_S),
        ("9" * 400, RETRY_AFTER_MAX_S),
        ("Thu, 01 Jan 2026 12:00:09 GMT", 9),
        ("Thu, 01 Jan 2026 12:00:09 -0000", 9),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0),
        ("Fri, 01 Jan 2027 12:00:00 GMT", RETRY_AFTER_MAX_S),
    ],
)
def test_retry_after(header, wait_s):
    """Retry-After is read as seconds and as an HTTP date, bounded, and ignored when it says nothing readable."""
    assert retry_after_s(header, NOW) == wait_s


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 522])
def test_status_worth_another_request(status):
    """Throttling and server errors are worth another request, after the time that the API asks for."""
    with pytest.raises(SourceRefused) as caught:
        check_status(status, "Reason", "4", b'{"error": "busy"}')
    assert caught.value.again
    assert caught.value.wait_s == 4
    assert caught.value.message == f"answered {status} Reason: busy"


@pytest.mark.parametrize("status", [301, 400, 401, 404, 418])
def test_status_not_worth_another_request(status):
    """Any other status but the 200s is refused for good."""
    with pytest.raises(SourceRefused) as caught:
        check_status(status, "", "", b"<html>")
    assert "again" not in caught.value.facts
    assert caught.value.message == f"answered {status}"


@pytest.mark.parametrize("status", [200, 203])
def test_status_of_an_answer(status):
    """A status in the 200s passes."""
    check_status(status, "OK", "", b"")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"<html></html>", "not JSON"),
        (b'{"results": [', "not JSON"),
        (b'{"results": "\xff"}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "a JSON list, not an object"),
        (b"null", "a JSON NoneType, not an object"),
        (b"{}", "without a list of results"),
        (b'{"results": {}}', "without a list of results"),
        (b'{"results": [1]}', "1 of 2 results"),
        (b'{"error": "Uh oh"}', "an error: Uh oh"),
        (b'{"error": "Uh oh", "results": [1, 2]}', "an error: Uh oh"),
        (b'{"error": {"code": 7}}', 'an error: {"code":7}'),
        (b'{"error": null}', "an error: null"),
    ],
)
def test_what_is_not_an_answer(body, reason):
    """What is not an object with as many results as asked is refused with the reason, and worth another request."""
    with pytest.raises(SourceRefused, match=r"^answered") as caught:
        users_of(body, 2)
    assert reason in caught.value.message
    assert caught.value.again


def test_entries_as_they_are():
    """Entries are given as they are, whatever they are, and never more than asked."""
    assert users_of(b'{"results": [null, 7, {"name": []}, "x"], "info": {}}', 3) == [None, 7, {"name": []}]


def test_words_are_one_short_line():
    """The API's own words are one line of bounded length, and empty when it has none."""
    assert words_of(b'{"error": "slow\\n  down"}') == "slow down"
    assert len(words_of(b'{"error": "' + b"x" * 5000 + b'"}')) == 300
    assert words_of(b"<html>") == ""
    assert words_of(b'{"error": "\xff"}') == ""
    assert words_of(b'{"results": []}') == ""
