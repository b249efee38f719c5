import pytest
from httpx2 import Headers

from penstock.errors import SourceRefused
from penstock.source.answer import check_status, find_message, parse_users


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 522])
def test_retryable_statuses(status):
    """Throttling and server errors are retryable after the wait that the API requests."""
    with pytest.raises(SourceRefused) as caught:
        check_status(status, "Reason", Headers({"Retry-After": "4"}), b'{"error": "busy"}')
    assert caught.value.again
    assert caught.value.wait_s == 4
    assert caught.value.message == f"returned {status} Reason: busy"


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 418])
def test_final_statuses(status):
    """Any other status outside the 200s is rejected without retry."""
    with pytest.raises(SourceRefused) as caught:
        check_status(status, "", Headers(), b"<html>")
    assert "again" not in caught.value.facts
    assert caught.value.message == f"returned {status}"


@pytest.mark.parametrize("status", [200, 203])
def test_statuses_in_the_200s_are_accepted(status):
    """A status in the 200s is accepted."""
    check_status(status, "OK", Headers(), b"")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"<html></html>", "not JSON"),
        (b'{"results": [', "not JSON"),
        (b'{"results": "\xff"}', "not JSON: it does not start with ["),
        (b'{"results": [1, 2]} {"results": [1, 2]}', "data after its end"),
        (b'{"results": [1, {"a": 2]}', "mismatched brackets"),
        (b'{"results": [1, {"a": "2}]}', "unexpected end of input"),
        (b'{"results": [1, NaN], "results": [3, 4]}', "duplicate name 'results'"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "a JSON list, not an object"),
        (b"null", "a JSON NoneType, not an object"),
        (b"{}", "without a list of results"),
        (b'{"results": {}}', "without a list of results"),
        (b'{"results": [1]}', "1 of 2 results"),
        (b'{"error": "Uh oh"}', "an error: Uh oh"),
        (b'{"error": "Uh oh", "results": [1, 2]}', "an error: Uh oh"),
        (b'{"error": {"code": 7}}', 'an error: {"code":7}'),
        (b'{"error": {"code": NaN}, "results": [1, 2]}', 'an error: {"code": NaN}'),
        (b'{"error": null}', "without a list of results"),
    ],
)
def test_an_invalid_response_is_rejected(body, reason):
    """A body without the requested number of results is rejected with the reason, and retryable."""
    with pytest.raises(SourceRefused, match=r"^returned") as caught:
        parse_users(body, 2)
    assert reason in caught.value.message
    assert caught.value.again


@pytest.mark.parametrize("error", ["null", "false", '""', "0", "[]", "{}"])
def test_an_empty_error_is_no_error(error):
    """An empty error field is not an error."""
    assert parse_users(b'{"error": %s, "results": [1]}' % error.encode(), 1) == [1]


def test_an_unreadable_page_is_quoted_on_one_clean_line():
    """The message quotes the start of the page on one printable line, without list entries."""
    with pytest.raises(SourceRefused) as caught:
        parse_users(b"<html>\x1b[31m\n\xff" + b"Gateway\x00 down" * 1000, 1)
    assert caught.value.message.endswith("it starts with '<html>\N{REPLACEMENT CHARACTER}'")
    with pytest.raises(SourceRefused) as caught:
        parse_users(b'{"info": 1, "results": [{"name": "Jane"', 1)
    assert "Jane" not in caught.value.message
    assert len(caught.value.message) < 500


def test_entries_are_unchanged():
    """Entries are returned unchanged, never more than requested."""
    assert parse_users(b'{"results": [null, 7, {"name": []}, "x"], "info": {}}', 3) == [None, 7, {"name": []}]


def test_the_apis_message_is_one_short_line():
    """The API's message becomes one printable line of bounded length, empty if there is none."""
    assert (
        find_message(b'{"error": "\\u001b[2J\\u0000\\u202egone"}')
        == "\N{REPLACEMENT CHARACTER}[2J" + 2 * "\N{REPLACEMENT CHARACTER}" + "gone"
    )
    assert find_message(b'{"message": "API rate limit exceeded"}') == "API rate limit exceeded"
    assert find_message(b'{"error": "slow\\n  down"}') == "slow down"
    assert len(find_message(b'{"error": "' + b"x" * 5000 + b'"}')) == 300
    assert find_message(b"<html>") == ""
    assert find_message(b'{"error": "\xff"}') == ""
    assert find_message(b'{"results": []}') == ""
