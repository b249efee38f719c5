"""Elements of a page, as text."""

from datetime import UTC, datetime

import pytest

from penstock.web.elements import (
    UNKNOWN,
    command_html,
    format_duration,
    format_iso,
    format_number,
    format_size,
    moment_html,
    sparkline_html,
    state_html,
    table_html,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, UNKNOWN), (0, "0"), (1_234_567, "1,234,567"), (0.25, "0.2"), (99.96, "100.0"), (1234.6, "1,235")],
)
def test_numbers_are_grouped(value, text):
    """An unknown one is a dash, not zero; small rates have one decimal."""
    assert format_number(value) == text
    assert format_number(7, "rows") == "7 rows"


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (None, UNKNOWN),
        (0, "0 ms"),
        (999, "999 ms"),
        (1_500, "1.5 s"),
        (90_000, "1.5 min"),
        (5.4e6, "1.5 h"),
        (2.16e8, "2.5 d"),
    ],
)
def test_a_duration_is_shown_in_its_largest_unit(ms, text):
    """From milliseconds to days."""
    assert format_duration(ms) == text


@pytest.mark.parametrize(("count", "text"), [(None, UNKNOWN), (12, "12 B"), (2048, "2.0 KiB"), (3 * 2**30, "3.0 GiB")])
def test_sizes_are_shown_in_powers_of_1024(count, text):
    """Bytes in powers of 1,024."""
    assert format_size(count) == text


def test_a_time_is_an_element_that_the_browser_converts_to_the_viewers_zone():
    """From a datetime, epoch milliseconds or a text; without one a dash."""
    assert (
        format_iso(1_700_000_000_123)
        == format_iso(datetime(2023, 11, 14, 22, 13, 20, 123_000, UTC))
        == "2023-11-14T22:13:20.123+00:00"
    )
    assert moment_html("2023-11-14T22:13:20Z").startswith('<local-time datetime="2023-11-14T22:13:20Z">')
    assert moment_html(None) == UNKNOWN


def test_external_text_is_escaped():
    """Names, labels and states cannot become markup."""
    evil = '"><script>alert(1)</script>'
    for made in (state_html("ok", evil), sparkline_html([1.0], evil), table_html(evil, [evil], []), moment_html(evil)):
        assert "<script" not in made
    assert "help" in state_html("no such state", "x")


def test_a_sparkline_has_gaps_for_unknown_values():
    """A gap is not zero."""
    assert sparkline_html([1.0, None, 2.0, 3.0], "x").count("<polyline") == 2
    assert sparkline_html([], "x").count("<polyline") == 0
    assert "0.0,26.0" in sparkline_html([0.0, 0.0], "x")


def test_a_command_can_be_copied():
    """Its button has the escaped text; without a command there is no button."""
    shown = command_html('./penstock trace "<b>"')
    assert 'data-copy="./penstock trace &quot;&lt;b&gt;&quot;"' in shown
    assert "<b>" not in shown
    assert command_html("") == ""
