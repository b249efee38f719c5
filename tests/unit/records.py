"""Small records for tests: one with every type, one with a key of each other kind."""

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from penstock.contract.record import AS_TEXT, JSON_NULL, KEY, PAST, PERSONAL, Digits, Json, Record
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


class Line(Record, frozen=True, kw_only=True):
    """A record within others, with an exact number."""

    product: Annotated[str, Meta(min_length=1, max_length=20)]
    price: Annotated[Decimal, Digits(10, 2)]
    sold_at: Moment | None = None
    tags: list[str] = []  # noqa: RUF012  msgspec copies it
    note: str | None = None


class HomeAddress(Record, frozen=True, kw_only=True, rename="camel"):
    """A record within others, with other names in messages and values as text."""

    city: Annotated[str, Meta(pattern=r"^[^a\n]*$")]
    post_code: Annotated[int | str, AS_TEXT]
    lives_since: Annotated[date, Meta(extra=PAST)] | None = None
    more_info: Json = JSON_NULL


class Composites(Record, frozen=True, kw_only=True):
    """Each composite type, and once more with None or a default."""

    id: Annotated[UUID, Meta(extra=KEY)]
    tags: Annotated[list[str], Meta(max_length=50, description="Words.")]
    sizes: set[int]
    hashes: frozenset[bytes]
    ids: set[UUID]
    point: tuple[float, float]
    mixed: tuple[str, Annotated[Decimal, Digits(6, 3)], list[date]]
    history: tuple[Moment, ...]
    durations: list[timedelta]
    sides: list[Side]
    times: dict[str, time]
    labels: dict[Annotated[str, Meta(max_length=50)], str]
    prices: dict[str, Annotated[Decimal, Digits(10, 2)]]
    address: HomeAddress
    lines: list[Line]
    by_name: dict[str, list[Line]]
    former: Annotated[HomeAddress, AS_TEXT]
    stops: Annotated[list[Line], AS_TEXT]
    extra: Json
    extras: list[Json]
    code: Annotated[int | str, AS_TEXT]
    amount: Annotated[int | float | bool, AS_TEXT]
    maybe_tags: list[str] | None = None
    maybe_sizes: set[int] | None = None
    maybe_point: tuple[float, float] | None = None
    maybe_labels: dict[str, str] | None = None
    maybe_address: HomeAddress | None = None
    maybe_lines: list[Line] | None = None
    maybe_former: Annotated[HomeAddress, AS_TEXT] | None = None
    maybe_extra: Json = JSON_NULL
    maybe_code: Annotated[int | str | None, AS_TEXT] = None
    words: list[str] = []  # noqa: RUF012
    counts: dict[str, int] = {}  # noqa: RUF012
    flags: set[bool] = set()  # noqa: RUF012
    level: int = 3
    ratio: float = 0.5
    state: Literal["new", "old"] = "new"
    side: Side = Side.BUY
    is_open: bool = True


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
