"""Records whose identity has several fields, and strategies for them."""

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from hypothesis import strategies as st
from msgspec import Meta

from penstock.contract.fields import from_epoch_ms
from penstock.contract.primary_key import PrimaryKey, day_of
from penstock.contract.record import KEY, Record
from tests.unit.records import READINGS, Int32, Side
from tests.unit.strategies import zones


class Sample(Record, frozen=True, kw_only=True):
    """A record of a time series: the sensor and the moment identify it."""

    sensor: Annotated[str, Meta(min_length=1, max_length=100, extra=KEY)]
    at: Annotated[datetime, Meta(tz=True, extra=KEY)]
    celsius: float


BY_DAY = PrimaryKey(partition=("sensor", day_of("at")), clustering=("at DESC",))
SAMPLES = replace(READINGS, topic="samples", table="samples", record=Sample, primary_key=BY_DAY)

KEY_TYPES: dict[str, Any] = {
    "text": Annotated[str, Meta(min_length=1, max_length=50, extra=KEY)],
    "side": Annotated[Side, Meta(extra=KEY)],
    "size": Annotated[Literal["S", "M", "L"], Meta(extra=KEY)],
    "uuid": Annotated[UUID, Meta(extra=KEY)],
    "small": Annotated[Int32, Meta(extra=KEY)],
    "big": Annotated[int, Meta(extra=KEY)],
    "day": Annotated[date, Meta(extra=KEY)],
    "at": Annotated[datetime, Meta(tz=True, extra=KEY)],
}
"""Each type that a KEY field can have."""


def build_record(*names: str) -> type[Record]:
    """Return a record whose KEY fields have these types, and their names."""
    members = [(name, KEY_TYPES[name]) for name in names]
    return msgspec.defstruct("Keyed", members, bases=(Record,), frozen=True, kw_only=True)


_LAST_MS = 253_402_300_799_999 - 86_400_000
_FIRST_MS = -62_135_596_800_000 + 86_400_000

key_moments = st.builds(
    lambda ms, zone: from_epoch_ms(ms).astimezone(zone), st.integers(_FIRST_MS, _LAST_MS), st.just(UTC) | zones
)
"""Moments of whole milliseconds, in UTC or in another zone."""

KEY_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "text": st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=50),
    "side": st.sampled_from(Side),
    "size": st.sampled_from(["S", "M", "L"]),
    "uuid": st.uuids(),
    "small": st.integers(-(2**31), 2**31 - 1),
    "big": st.integers(-(2**63), 2**63 - 1),
    "day": st.dates(),
    "at": key_moments,
}


@st.composite
def keyed_records(draw: st.DrawFn, min_size: int = 1) -> Record:
    """Return a record whose identity has any number of fields of any types, in any order."""
    names = draw(st.lists(st.sampled_from(list(KEY_TYPES)), min_size=min_size, max_size=4, unique=True))
    return build_record(*names)(**{name: draw(KEY_VALUES[name]) for name in names})
