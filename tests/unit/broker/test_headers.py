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
def test_a_header_is_read_as_text(found, text):
    """The first value of the name, as text whatever its bytes; None without one."""
    assert headers.read_text(message(0, headers=found), headers.RUN) == text


def test_header_names_are_stable():
    """Stored topics contain them."""
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
def test_the_first_header_determines_the_order_of_a_record(found, value):
    """Spark reads no other one, so no component does."""
    assert headers.read_order(found) == value
