"""The primary key that a pipeline declares, and whether it fits the pipeline's record.

Its columns are KEY fields, or derived from KEY fields, so that a deletion, which has only an identity, finds its row.
Partition columns are derived to bound the size of a partition.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from penstock.contract.fields import DATE, TIMESTAMP, FieldKind, fields
from penstock.contract.identity import MAX_KEY_BYTES, Identity, identity_of
from penstock.contract.names import OWN_COLUMNS, check_word
from penstock.contract.record import Record

Unit = Literal["day", "hour", "month", "bucket"]
_FROM: dict[Unit, tuple[FieldKind, ...]] = {"day": (TIMESTAMP,), "hour": (TIMESTAMP,), "month": (TIMESTAMP, DATE)}
"""The types that a day, an hour or a month can be derived from."""
_MOST_BUCKETS = 65_536
_COMPONENT_BYTES = 3
"""What each of several partition columns adds to the size of a partition key."""


@dataclass(frozen=True)
class Derived:
    """A partition column whose value is computed from a KEY field."""

    unit: Unit
    field: str
    column: str
    buckets: int = 0

    def __str__(self) -> str:
        return f'bucket("{self.field}", {self.buckets})' if self.unit == "bucket" else f'{self.unit}_of("{self.field}")'


def day_of(field: str, column: str = "") -> Derived:
    """Partition by the day of a moment in UTC, a `date`; the column is `at_day` for the field `at`."""
    return Derived("day", field, column or f"{field}_day")


def hour_of(field: str, column: str = "") -> Derived:
    """Partition by the hour of a moment in UTC, a `timestamp` at its start; the column is `at_hour`."""
    return Derived("hour", field, column or f"{field}_hour")


def month_of(field: str, column: str = "") -> Derived:
    """Partition by the month of a date, or of a moment in UTC: the first day of it; the column is `at_month`."""
    return Derived("month", field, column or f"{field}_month")


def bucket(field: str, buckets: int, column: str = "") -> Derived:
    """Partition by a hash of a field, an `int` from 0 to `buckets` - 1; the column is `id_bucket` for the field `id`.

    It is the CRC-32 (that of zlib and gzip) of the value's text in UTF-8, modulo `buckets`. The text is that of a Kafka
    key (`Identity.text_of`): an int in digits, a moment as `2026-01-31T12:00:00.000Z`.
    """
    return Derived("bucket", field, column or f"{field}_bucket", buckets)


@dataclass(frozen=True)
class PrimaryKey:
    """A table's primary key: all KEY fields, as partition columns or clustering columns, by their names in Python.

    `partition` may also have columns derived from KEY fields; a clustering column is `"at"` or `"at DESC"`.
    """

    partition: tuple[str | Derived, ...]
    clustering: tuple[str, ...] = ()


def parse_clustering(entry: str) -> tuple[str, bool]:
    """Return a clustering column and whether it is descending. Raises `ValueError`."""
    name, *order = entry.split()
    if order and (len(order) > 1 or order[0].upper() not in ("ASC", "DESC")):
        raise ValueError(f'clustering {entry!r}: expected a field and its order, such as "{name} DESC"')
    return name, bool(order) and order[0].upper() == "DESC"


def list_key_problems(primary_key: PrimaryKey, row: type[Record]) -> list[str]:
    """Return everything that is wrong with a primary key for rows of `row`, each with what to write instead."""
    if wrong := list(_find_wrong_forms(primary_key)):
        return wrong
    identity = identity_of(row)
    problems = [
        problem
        for entry in (*primary_key.partition, *(parse_clustering(entry)[0] for entry in primary_key.clustering))
        if (problem := _find_entry_problem(entry, identity))
    ]
    problems += _find_column_problems(primary_key, row)
    return problems or list(_find_size_problems(primary_key, identity))


def _find_wrong_forms(primary_key: PrimaryKey) -> Iterator[str]:
    """Yield what is not of the declared types: a pipeline's file is not type-checked."""
    if not isinstance(primary_key, PrimaryKey):
        yield f'{primary_key!r} is not a PrimaryKey; write `PrimaryKey(partition=("id",))`'
        return
    for part, kinds in (("partition", str | Derived), ("clustering", str)):
        entries = getattr(primary_key, part)
        if not isinstance(entries, tuple | list):
            yield f"{part} {entries!r} is not a tuple; write `{part}=({_write(entries)},)`"
            continue
        for entry in entries:
            if not isinstance(entry, kinds):
                remedy = "move it to partition" if isinstance(entry, Derived) else 'write a field\'s name, such as "id"'
                yield f"{part} {entry}: {remedy}"
            elif isinstance(entry, str):
                yield from _find_wrong_name(part, entry)
    if primary_key.partition in ((), []):
        yield 'the partition is empty; write `partition=("id",)` with a KEY field'


def _write(entry: object) -> str:
    return f'"{entry}"' if isinstance(entry, str) else str(entry)


def _find_wrong_name(part: str, entry: str) -> Iterator[str]:
    if not entry.split():
        yield f"{part} {entry!r}: write a field's name"
    elif part == "clustering":
        try:
            parse_clustering(entry)
        except ValueError as error:
            yield str(error)


def _find_entry_problem(entry: str | Derived, identity: Identity) -> str:
    """Return why a field cannot be in the primary key, or its value derived; empty if it can."""
    name = entry if isinstance(entry, str) else entry.field
    if name not in identity.columns:
        return _describe_no_key(name, identity)
    return _find_derived_problem(entry, identity) if isinstance(entry, Derived) else ""


def _describe_no_key(name: str, identity: Identity) -> str:
    if name in {field.column for field in fields(identity.record)}:
        return f"{name} is not marked KEY, so a deletion could not find its row: mark it KEY, or remove it"
    return (
        f"{identity.record.__name__} has no field {name!r}: write one of its KEY fields, {', '.join(identity.columns)}"
    )


def _find_derived_problem(entry: Derived, identity: Identity) -> str:
    kind = identity.fields[identity.columns.index(entry.field)].kind
    if entry.unit == "bucket":
        is_number = isinstance(entry.buckets, int) and not isinstance(entry.buckets, bool)
        if is_number and 2 <= entry.buckets <= _MOST_BUCKETS:
            return ""
        return f'{entry}: expected 2 to {_MOST_BUCKETS:,} buckets, such as bucket("{entry.field}", 16)'
    if kind in _FROM[entry.unit]:
        return ""
    if entry.unit == "day" and kind is DATE:
        return f'{entry}: {entry.field} is a date already; write "{entry.field}"'
    return f'{entry}: {entry.field} is a {kind.cql}; write the name of a datetime field, or bucket("{entry.field}", 16)'


def _find_column_problems(primary_key: PrimaryKey, row: type[Record]) -> Iterator[str]:
    """Yield columns that occur twice, KEY fields that do not occur, and names that derived columns cannot have."""
    derived = [entry for entry in primary_key.partition if isinstance(entry, Derived)]
    named = [entry for entry in primary_key.partition if isinstance(entry, str)]
    named += [parse_clustering(entry)[0] for entry in primary_key.clustering]
    columns = named + [entry.column for entry in derived]
    yield from (f"{name} occurs more than once: remove one" for name, times in Counter(columns).items() if times > 1)
    for name in identity_of(row).columns:
        if name not in named:
            yield f"{name} is marked KEY, but is no column of the primary key: add it to clustering, or to partition"
    others = {field.column.lower() for field in fields(row)} | OWN_COLUMNS
    for entry in derived:
        if not isinstance(entry.column, str):
            yield f"{entry}: the column {entry.column!r} is not a text; write {_write_with_column(entry)}"
        elif entry.column.lower() in others:
            yield f"{entry}: there is a column {entry.column!r} already; write {_write_with_column(entry)}"
        else:
            yield from _find_word_problem(entry)


def _find_word_problem(entry: Derived) -> Iterator[str]:
    try:
        check_word(entry.column)
    except (ValueError, TypeError) as error:
        yield f"{entry}: {error}; write {_write_with_column(entry)}"


def _write_with_column(entry: Derived) -> str:
    return f'{str(entry)[:-1]}, column="{entry.field}_{entry.unit}_key")'


def _find_size_problems(primary_key: PrimaryKey, identity: Identity) -> Iterator[str]:
    """Yield that the partition key may be larger than Cassandra allows, if it may."""
    names = [entry for entry in primary_key.partition if isinstance(entry, str)]
    count = len(primary_key.partition)
    bounds = {name: identity.max_bytes[name] for name in names}
    derived_bytes = 8 * (count - len(names))
    size = sum(bounds.values()) + derived_bytes + (_COMPONENT_BYTES * count if count > 1 else 0)
    if size > MAX_KEY_BYTES:
        largest = max(bounds, key=lambda name: bounds[name])
        yield (
            f"the partition ({', '.join(map(str, primary_key.partition))}) may have {size:,} bytes, more than "
            f"Cassandra's {MAX_KEY_BYTES:,}: lower max_length of {largest}, or move it to clustering"
        )
