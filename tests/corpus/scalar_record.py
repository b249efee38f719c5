"""A record with a field of each scalar type that the users lack.

Its text is also part of a pipeline's file, so it imports nothing of the tests.
"""

from datetime import date, time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta

from penstock.contract.record import KEY, PAST, Digits, Record


class Side(StrEnum):
    """Names and values differ, and a value is no name of Avro's."""

    BUY = "buy"
    SELL = "sell-short"


class Deal(Record, frozen=True, kw_only=True):
    """Each type once, and once more with None."""

    id: Annotated[UUID, Meta(extra=KEY)]
    price: Annotated[Decimal, Digits(10, 2)]
    wide: Annotated[Decimal, Digits(38, 18)]
    day: date
    born: Annotated[date, Meta(extra=PAST)]
    opens: time
    lasts: timedelta
    hash: Annotated[bytes, Meta(max_length=64)]
    size: Literal["S", "M", "L"]
    side: Side
    count: int
    small: Annotated[int, Meta(ge=-100, lt=100)]
    maybe_price: Annotated[Decimal, Digits(5, 0)] | None = None
    maybe_day: date | None = None
    maybe_opens: Annotated[time, Meta(tz=False)] | None = None
    maybe_lasts: timedelta | None = None
    maybe_hash: bytes | None = None
    maybe_size: Literal["S", "M", "L"] | None = None
    maybe_side: Side | None = None
    maybe_count: Annotated[int, Meta(ge=0)] | None = None
