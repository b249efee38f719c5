import pytest

from penstock.broker import headers
from tests.unit.fakes import message


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (None, None),
        ([], None),
        ([("other", b"x")], None),
        ([(headers.RUN, None)], None),
        ([(headers.RUN, b"")], ""),
        ([(headers.RUN, b"r1")], "r1"),
        ([(headers.RUN, None), (headers.RUN, b"r1"), (headers.RUN, b"r2")], "r1"),
        ([(headers.RUN, "ü".encode())], "ü"),
        ([(headers.RUN, b"r\xff")], "r\N{REPLACEMENT CHARACTER}"),
    ],
    ids=str,
)
def test_the_text_of_a_header(found, text):
    """The first value of the name, as text whatever its bytes; None when there is none."""
    assert headers.read_text(message(0, headers=found), headers.RUN) == text


def test_names_are_those_that_records_in_kafka_bear():
    """They are stable: topics hold them."""
    assert (headers.RUN, headers.FETCHED, headers.REDRIVEN, headers.ORDER) == (
        "penstock.run",
        "penstock.fetched",
        "penstock.redriven",
        "penstock.order",
    )


@pytest.mark.parametrize(
    ("found", "value"),
    [
        ([], None),
        ([("other", b"x"), (headers.ORDER, b"5")], None),
        ([(headers.ORDER, None)], None),
        ([(headers.ORDER, b"5"), (headers.ORDER, b"6")], b"5"),
    ],
    ids=str,
)
def test_the_order_of_a_record_is_its_first_header(found, value):
    """Spark looks at no other one, so nobody does."""
    assert headers.read_order(found) == value
