"""The base class of records, and the marks that a field can carry.

A field is `name: Annotated[type, Meta(rules..., extra=MARK)]`; `msgspec.Meta` names the rules
(https://jcristharif.com/msgspec/constraints.html), `extra` one of the marks below. A `datetime` has `Meta(tz=True)`.
Where messages have other names, the class says `rename="camel"` or the field `= msgspec.field(name="orderId")`.
"""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

KEY = {"key": True}
"""The record's identity: the Kafka key and the table's primary key. Exactly one field carries it."""
PERSONAL = {"personal": True}
"""Tells something about a person: masked wherever people look."""


PAST = {"past": True}
"""A date that cannot lie in the future. Marks are joined as in `extra=PERSONAL | PAST`."""

Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""A whole number of 64 bits, Cassandra's `bigint`."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Base of a pipeline's record: its fields are the message's fields and the table's columns.

    Messages have the names that `rename` and `field(name=)` give; Python, DataFrames and the table the attributes'.
    """


class Arrival(msgspec.Struct, frozen=True):
    """Where and when a record came: columns that every table has after the record's own."""

    ingested_at: Annotated[datetime, Meta(tz=True, description="When the record was produced: Kafka's timestamp.")]
    kafka_partition: Annotated[int, Meta(ge=0, le=2**31 - 1, description="Partition it was read from.")]
    kafka_offset: Annotated[int, Meta(ge=0, le=2**63 - 1, description="Offset it was read from.")]
