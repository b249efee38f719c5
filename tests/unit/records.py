"""Small records for tests: one with every type, one with a key of each other kind."""

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from penstock.contract.record import KEY, PAST, PERSONAL, Digits, Record
from penstock.pipelines import Pipeline

Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Moment = Annotated[datetime, Meta(tz=True)]


class Everything(Record, frozen=True, kw_only=True):
    """Each type once, and once more with None."""

    id: Annotated[UUID, Meta(description="Who it is.", extra=KEY)]
    text: Annotated[str, Meta(description="Words.", extra=PERSONAL)]
    other_id: UUID
    moment: Moment
    small: Int32
    big: Int64
    ratio: float
    flag: bool
    maybe_text: Annotated[str | None, Meta(description="Words, or none.", extra=PERSONAL)] = None
    maybe_id: UUID | None = None
    maybe_moment: Moment | None = None
    maybe_small: Int32 | None = None
    maybe_big: Int64 | None = None
    maybe_ratio: float | None = None
    maybe_flag: bool | None = None


class Side(StrEnum):
    """Names and values differ, and a value is no name of Avro's."""

    BUY = "buy"
    SELL = "sell-short"


class Scalars(Record, frozen=True, kw_only=True):
    """Each type that `Everything` lacks, and once more with None."""

    id: Annotated[UUID, Meta(extra=KEY)]
    price: Annotated[Decimal, Digits(10, 2), Meta(description="What it costs.")]
    ratio: Annotated[Decimal, Digits(38, 38)]
    day: date
    born: Annotated[date, Meta(extra=PAST | PERSONAL)]
    opens: time
    lasts: timedelta
    hash: Annotated[bytes, Meta(max_length=64)]
    size: Literal["S", "M", "L"]
    side: Annotated[Side, Meta(description="Of the deal.")]
    count: int
    maybe_price: Annotated[Decimal, Digits(5, 0)] | None = None
    maybe_day: date | None = None
    maybe_opens: Annotated[time, Meta(tz=False)] | None = None
    maybe_lasts: timedelta | None = None
    maybe_hash: bytes | None = None
    maybe_size: Literal["S", "M", "L"] | None = None
    maybe_side: Annotated[Side | None, Meta(description="Of the deal, or none.")] = None
    maybe_count: Annotated[int, Meta(ge=0)] | None = None


class Reading(Record, frozen=True, kw_only=True):
    """A record with an integer key."""

    sensor: Annotated[int, Meta(ge=0, le=1_000_000, extra=KEY)]
    celsius: float


class Session(Record, frozen=True, kw_only=True):
    """A reading that says when its row expires, in either way."""

    sensor: Annotated[int, Meta(ge=0, le=1_000_000, extra=KEY)]
    celsius: float
    expires_at: Annotated[datetime, Meta(tz=True)] | None = None
    lasts: timedelta | None = None


class Versioned(Record, frozen=True, kw_only=True):
    """A number that is the version of its id."""

    id: Annotated[int, Meta(ge=0, le=1_000_000, extra=KEY)]
    number: Int64


def reading_of(entry: dict) -> dict:
    """The fields of a `Reading`: the entry itself, if it is one."""
    return msgspec.convert(entry, dict)


READINGS = Pipeline(topic="readings", keyspace="lab", table="readings", record=Reading, from_source=reading_of)
