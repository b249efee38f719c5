"""The base class of records, and the marks that a field can have.

A field is `name: Annotated[type, Meta(rules..., extra=MARK)]`; `msgspec.Meta` names the rules
(https://jcristharif.com/msgspec/constraints.html), `extra` one of the marks below. A `datetime` has a time zone, a
`Decimal` has `Digits`, a union of scalars `AS_TEXT`. If names in messages differ, the class has `rename="camel"` or
the field `= msgspec.field(name="orderId")`. A field that had another name in messages has an `Alias`.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

KEY = {"key": True}
"""The record's identity, of one field or several: the Kafka key and the table's primary key."""
PERSONAL = {"personal": True}
"""Personal data. Masked in every user interface."""


PAST = {"past": True}
"""A date that cannot be in the future. Marks are combined as in `extra=PERSONAL | PAST`."""

Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""A 64-bit integer, Cassandra's `bigint`: the same as `int`."""

MAX_DIGITS = 38
"""Maximum number of digits of a decimal, which is Spark's."""


@dataclass(frozen=True)
class Digits:
    """How many digits a `Decimal` has: `price: Annotated[Decimal, Digits(10, 2)]`, up to 99,999,999.99.

    `precision` is their number, `scale` that of those after the decimal point.
    """

    precision: int
    scale: int

    def __post_init__(self) -> None:
        if not 1 <= self.precision <= MAX_DIGITS:
            raise ValueError(f"Digits: the precision {self.precision} is not between 1 and {MAX_DIGITS}")
        if not 0 <= self.scale <= self.precision:
            raise ValueError(f"Digits: the scale {self.scale} is not between 0 and the precision {self.precision}")


@dataclass(frozen=True, init=False)
class Alias:
    """The former names of a field in messages: `born: Annotated[date, Alias("dob")]`.

    Records with a former name are still read; new ones are written with the field's name. Keep each name as long as
    there are records with it.
    """

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        if not names or not all(isinstance(name, str) for name in names):
            raise TypeError('Alias: expected the former names of a field, e.g. Alias("dob")')
        object.__setattr__(self, "names", names)


@dataclass(frozen=True)
class AsText:
    """The type of `AS_TEXT`."""


AS_TEXT = AsText()
"""Store a value as text: `Annotated[int | str, AS_TEXT]`, `Annotated[Address, AS_TEXT]`.

A union of scalars is stored as JSON has it, a text without its quotes; a record or a collection as JSON. Messages in
JSON do not change.
"""

Json = msgspec.Raw
"""Any JSON value, kept as the text that was sent: no digit is lost. `msgspec.json.decode` reads it.

A field that may be null or missing is `extra: Json = JSON_NULL`; others and items of collections cannot be null.
"""


def build_null() -> msgspec.Raw:
    """Return the JSON text null."""
    return msgspec.Raw(b"null")


JSON_NULL: Any = msgspec.field(default_factory=build_null)
"""The default of an optional `Json`: the JSON text null, whose column is null. msgspec cannot read `Json | None`."""

Headers = list[tuple[str, bytes | None]]
"""Headers of a Kafka message."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Base class of a pipeline's record: its fields are the message's fields and the table's columns.

    Messages use the names set by `rename` and `field(name=)`; Python, DataFrames and the table use the attributes'
    names.
    """


def list_members(record: msgspec.Struct) -> dict[str, Any]:
    """Return the values of a record's fields as they are, by their names in messages."""
    return dict(zip(record.__struct_encode_fields__, msgspec.structs.astuple(record), strict=True))


class Arrival(msgspec.Struct, frozen=True):
    """Where and when a record arrived: columns that every table has after the record's own."""

    ingested_at: Annotated[datetime, Meta(tz=True, description="When the record was produced: Kafka's timestamp.")]
    kafka_partition: Annotated[int, Meta(ge=0, le=2**31 - 1, description="Partition it was read from.")]
    kafka_offset: Annotated[int, Meta(ge=0, le=2**63 - 1, description="Offset it was read from.")]
