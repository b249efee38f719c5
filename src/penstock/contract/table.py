"""A table as a pipeline declares it: its columns and its primary key, whose values follow from a record's identity."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property, partial
from typing import Any
from zlib import crc32

from penstock.contract.expiry import Expiry, Ttl, default_ttl_s, expiry_of
from penstock.contract.fields import DATE, INT, TIMESTAMP, FieldKind, fields
from penstock.contract.identity import Identity, find_form, identity_of
from penstock.contract.primary_key import Derived, PrimaryKey, Unit, list_key_problems, parse_clustering
from penstock.contract.record import Arrival, Record

_INTO: dict[Unit, FieldKind] = {"day": DATE, "hour": TIMESTAMP, "month": DATE, "bucket": INT}
"""The types of derived columns."""
DERIVES = "penstock derives "
"""Start of the comment of a table with derived columns."""


@dataclass(frozen=True)
class KeyColumn:
    """A column of a primary key. Its value is that of the identity's field number `source`, or `derive` of it."""

    column: str
    kind: FieldKind
    source: int
    derive: Callable[[Any], Any] | None = None
    derivation: str = ""
    """How it is declared to be derived: `day_of("at")`."""
    is_descending: bool = False

    def value_of(self, values: tuple[Any, ...]) -> Any:
        """Return the column's value for an identity, given as its values (`Identity.values_of`)."""
        value = values[self.source]
        return value if self.derive is None else self.derive(value)


@dataclass(frozen=True)
class Table:
    """A table for rows of `row`. Made by `build_table`."""

    keyspace: str
    name: str
    row: type[Record]
    partition: tuple[KeyColumn, ...]
    clustering: tuple[KeyColumn, ...]
    ttl_s: int | None = None
    """The declared `default_time_to_live` in seconds, 0 for none; None: not declared, a table keeps its own."""
    expiry: Expiry | None = None
    """The field by which single rows expire."""

    @property
    def identity(self) -> Identity:
        """Return what identifies a row."""
        return identity_of(self.row)

    @property
    def key(self) -> tuple[KeyColumn, ...]:
        """Return the columns of the primary key, in order."""
        return self.partition + self.clustering

    @cached_property
    def derived(self) -> tuple[KeyColumn, ...]:
        """Return the columns that are derived from KEY fields."""
        return tuple(column for column in self.key if column.derive is not None)

    @cached_property
    def columns(self) -> dict[str, str]:
        """Return the CQL type of each column by its unquoted name: the row's fields, derived columns, its arrival."""
        return {
            **{field.column: field.kind.cql for field in fields(self.row)},
            **{column.column: column.kind.cql for column in self.derived},
            **{field.column: field.kind.cql for field in fields(Arrival)},
        }

    @property
    def derivations(self) -> str:
        """Return how columns are derived, for the table's comment; empty if none is.

        A table keeps its derivations: rows of another one would be in other partitions, where no deletion finds them.
        """
        pairs = ", ".join(f"{column.column} = {column.derivation}" for column in self.derived)
        return f"{DERIVES}{pairs}" if pairs else ""

    def key_values(self, record_id: Any) -> tuple[Any, ...]:
        """Return the values of the primary key's columns, in order, for the row of an identity."""
        values = self.identity.values_of(record_id)
        return tuple(column.value_of(values) for column in self.key)

    def routing_key(self, record_id: Any) -> bytes:
        """Return the partition key of the row of an identity as CQL bytes, which determine its replicas."""
        values = self.identity.values_of(record_id)
        cells = [column.kind.encode(column.value_of(values)) for column in self.partition]
        return cells[0] if len(cells) == 1 else b"".join(map(_encode_component, cells))


def _encode_component(cell: bytes) -> bytes:
    """Return a column of a partition key of several (Cassandra's CompositeType)."""
    return len(cell).to_bytes(2, "big") + cell + b"\0"


def build_table(
    keyspace: str, name: str, row: type[Record], primary_key: PrimaryKey | None = None, ttl: Ttl | None = None
) -> Table:
    """Return the table for rows of `row`. Raises `TypeError` with everything that is wrong with its primary key.

    Without a primary key, the first KEY field is the partition, and the others are clustering columns.
    """
    identity = identity_of(row)
    declared = primary_key or PrimaryKey(identity.columns[:1], identity.columns[1:])
    if problems := list_key_problems(declared, row):
        raise TypeError("; ".join(problems))
    return Table(
        keyspace,
        name,
        row,
        tuple(_resolve_partition(entry, identity) for entry in declared.partition),
        tuple(_resolve_clustering(entry, identity) for entry in declared.clustering),
        default_ttl_s(ttl),
        expiry_of(row, ttl),
    )


def _resolve_partition(entry: str | Derived, identity: Identity) -> KeyColumn:
    if isinstance(entry, str):
        at = identity.columns.index(entry)
        return KeyColumn(entry, identity.fields[at].kind, at)
    at = identity.columns.index(entry.field)
    derive = _build_derivation(entry, identity.fields[at].kind)
    return KeyColumn(entry.column, _INTO[entry.unit], at, derive, str(entry))


def _resolve_clustering(entry: str, identity: Identity) -> KeyColumn:
    name, is_descending = parse_clustering(entry)
    at = identity.columns.index(name)
    return KeyColumn(name, identity.fields[at].kind, at, is_descending=is_descending)


def _build_derivation(entry: Derived, kind: FieldKind) -> Callable[[Any], Any]:
    if entry.unit == "bucket":
        return partial(_to_bucket, form=find_form(kind), buckets=entry.buckets)
    if entry.unit == "month":
        return _to_month if kind is DATE else _to_month_of_moment
    return _to_day if entry.unit == "day" else _to_hour


def _to_day(moment: datetime) -> date:
    return moment.astimezone(UTC).date()


def _to_hour(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _to_month(day: date) -> date:
    return day.replace(day=1)


def _to_month_of_moment(moment: datetime) -> date:
    return _to_day(moment).replace(day=1)


def _to_bucket(value: Any, form: Callable[[Any], str], buckets: int) -> int:
    return crc32(form(value).encode()) % buckets
