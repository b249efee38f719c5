"""A record with a field of each composite type. Its text is also part of a pipeline's file: it imports no tests."""

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated
from uuid import UUID

from msgspec import Meta

from penstock.contract.record import AS_TEXT, JSON_NULL, KEY, Digits, Json, Record

Moment = Annotated[datetime, Meta(tz=True)]


class Item(Record, frozen=True, kw_only=True):
    """A line of an order."""

    product: Annotated[str, Meta(min_length=1, max_length=20)]
    price: Annotated[Decimal, Digits(10, 2)]
    sold_at: Moment | None = None
    tags: list[str] = []  # noqa: RUF012  msgspec copies it
    lasts: timedelta | None = None


class ShipTo(Record, frozen=True, kw_only=True, rename="camel"):
    """An address, with other names in messages."""

    city: str
    post_code: Annotated[int | str, AS_TEXT]
    lived_since: date | None = None
    more_info: Json = JSON_NULL


class Purchase(Record, frozen=True, kw_only=True):
    """Each type once, and some once more with None."""

    id: Annotated[UUID, Meta(extra=KEY)]
    tags: Annotated[list[str], Meta(max_length=5)]
    sizes: set[int]
    refs: frozenset[UUID]
    point: tuple[float, str]
    opens: dict[str, time]
    prices: dict[str, Annotated[Decimal, Digits(10, 2)]]
    address: ShipTo
    items: list[Item]
    by_name: dict[str, list[Item]]
    former: Annotated[ShipTo, AS_TEXT]
    payload: Json
    code: Annotated[int | str, AS_TEXT]
    maybe_tags: list[str] | None = None
    maybe_point: tuple[float, str] | None = None
    maybe_prices: dict[str, Annotated[Decimal, Digits(10, 2)]] | None = None
    maybe_address: ShipTo | None = None
    maybe_items: list[Item] | None = None
    maybe_payload: Json = JSON_NULL
    words: list[str] = []  # noqa: RUF012
    level: int = 3
