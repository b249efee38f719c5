"""The base class of records, and the marks that a field can have.

A field is `name: Annotated[type, Meta(rules..., extra=MARK)]`; `msgspec.Meta` names the rules
(https://jcristharif.com/msgspec/constraints.html), `extra` one of the marks below. A `datetime` has `Meta(tz=True)`. If
names in messages differ, the class has `rename="camel"` or the field `= msgspec.field(name="orderId")`.
"""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

KEY = {"key": True}
"""The record's identity: the Kafka key and the table's primary key. Exactly one field has it."""
PERSONAL = {"personal": True}
"""Personal data. Masked in every user interface."""


PAST = {"past": True}
"""A date that cannot be in the future. Marks are combined as in `extra=PERSONAL | PAST`."""

Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""A 64-bit integer, Cassandra's `bigint`."""


Headers = list[tuple[str, bytes | None]]
"""Headers of a Kafka message."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Base class of a pipeline's record: its fields are the message's fields and the table's columns.

    Messages use the names set by `rename` and `field(name=)`; Python, DataFrames and the table use the attributes'
    names.
    """


class Arrival(msgspec.Struct, frozen=True):
    """Where and when a record arrived: columns that every table has after the record's own."""

    ingested_at: Annotated[datetime, Meta(tz=True, description="When the record was produced: Kafka's timestamp.")]
    kafka_partition: Annotated[int, Meta(ge=0, le=2**31 - 1, description="Partition it was read from.")]
    kafka_offset: Annotated[int, Meta(ge=0, le=2**63 - 1, description="Offset it was read from.")]
