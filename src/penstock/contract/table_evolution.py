"""Changes of an existing table for it to hold a row, and whether Cassandra can make them. Pure: tables in, changes out.

Columns are added; nothing else of a table changes. A table that somebody else created is used if it fits.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from penstock import remedies
from penstock.contract import cql
from penstock.contract.evolution import Change, ChangeKind
from penstock.contract.fields import find_column
from penstock.contract.record import Record
from penstock.contract.table import Table

Clustering = tuple[tuple[str, str], ...]
"""The clustering columns of a table, each with ASC or DESC."""


@dataclass(frozen=True)
class TableDefinition:
    """A table as Cassandra has it, or should have it. No columns: there is no table.

    `columns` are types by name; `static` columns have one value per partition; `derivations` say how columns of the key
    are derived, or nothing; `types` are the fields of user types.
    """

    columns: Mapping[str, str]
    partition: tuple[str, ...] = ()
    clustering: Clustering = ()
    static: frozenset[str] = frozenset()
    derivations: str = ""
    types: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, ...]:
        """Return the columns of the primary key."""
        return (*self.partition, *(column for column, _ in self.clustering))


def define_table(declared: Table) -> TableDefinition:
    """Return the definition of a declared table."""
    return TableDefinition(
        declared.columns,
        tuple(column.column for column in declared.partition),
        tuple((column.column, "DESC" if column.is_descending else "ASC") for column in declared.clustering),
        derivations=declared.derivations,
        types={each.name: each.fields for each in cql.list_user_types(declared.row)},
    )


def find_missing_columns(table: TableDefinition, declared: Table) -> dict[str, str]:
    """Return the declared columns that the table does not have: their types by name."""
    return {name: kind for name, kind in declared.columns.items() if name not in table.columns}


def find_unmanaged_columns(table: TableDefinition, declared: Table) -> list[str]:
    """Return the columns of the table that are not declared, as `name type`."""
    return [f"{name} {kind}" for name, kind in sorted(table.columns.items()) if name not in declared.columns]


def compare_table(table: TableDefinition, declared: Table) -> list[Change]:
    """Return what would change in an existing table for it to be as declared: new columns, other types, another key."""
    needed, row = define_table(declared), declared.row
    of_types = list(_compare_types(table, needed))
    if not table.columns:
        return of_types
    return [*_compare_columns(table, needed, row), *_compare_keys(table, needed, row), *of_types]


# Columns


def _compare_columns(table: TableDefinition, needed: TableDefinition, row: type[Record]) -> Iterator[Change]:
    for name, kind in needed.columns.items():
        if name not in table.columns:
            if name not in needed.key:  # else the key says so
                yield _describe_addition(name, kind, table, row)
        elif simplify_type(table.columns[name]) != simplify_type(kind):
            yield _describe_type_change(name, table.columns[name], kind, row)
        elif name in table.static:
            why = f"column `{name}` is static, one value for a whole partition: {_use_another(name, row)}"
            yield Change.of(name, ChangeKind.TYPE_CHANGED, why)
    for name, kind in table.columns.items():
        if kind == "counter" and name not in needed.columns:
            why = f"column `{name}` is a counter, and rows cannot be inserted beside one: use another table"
            yield Change.of(name, ChangeKind.TYPE_CHANGED, why)


def _describe_addition(name: str, kind: str, table: TableDefinition, row: type[Record]) -> Change:
    former = [column for column in _former_columns(name, row) if column in table.columns]
    why = f"column `{name}` {kind} is new; null in existing rows"
    if former:
        filled = f"{remedies.replay()} fills it from the records that Kafka still has"
        why += f" until {filled}; column `{former[0]}` stays, unmanaged"
    return Change.of(name, ChangeKind.ADDED_OPTIONAL, why)


def _former_columns(name: str, row: type[Record]) -> list[str]:
    """Return the columns that a field may have had: by its former names, or by its name in messages."""
    field = find_column(row, name)
    return [*field.aliases, field.name] if field else []


def _describe_type_change(name: str, before: str, after: str, row: type[Record]) -> Change:
    why = f"column `{name}` is {before}, the record needs {after}; a column keeps its type: {_use_another(name, row)}"
    return Change.of(name, ChangeKind.TYPE_CHANGED, why)


def _use_another(name: str, row: type[Record]) -> str:
    """Return what to write so that a field gets another column."""
    field = find_column(row, name)
    if field is None:  # of the arrival
        return "use another table"
    other = f"{name}_2"
    return (
        f"rename the attribute, `{other}: ... = msgspec.field(name={field.name!r})`, which is a new column under the "
        f"same name in messages, and fill it with {remedies.replay()}; or use another table"
    )


# The primary key


def _compare_keys(table: TableDefinition, needed: TableDefinition, row: type[Record]) -> Iterator[Change]:
    if table.partition == needed.partition and table.clustering == needed.clustering:
        if table.derivations not in ("", needed.derivations):
            why = f"the table says {table.derivations!r}, primary_key {needed.derivations!r}: rows would be in other"
            yield Change.of(
                needed.key[0],
                ChangeKind.KEY_CHANGED,
                f"{why} partitions; set primary_key as it was, or use another table",
            )
        return
    name = next((column for column in needed.key if column not in table.key), needed.key[0])
    why = f"the key is {_format_key(needed)}, but the table's is {_format_key(table)}"
    yield Change.of(name, ChangeKind.KEY_CHANGED, f"{why}: {_keep_key(name, table, row)}")


def _keep_key(name: str, table: TableDefinition, row: type[Record]) -> str:
    """Return what to write instead of another key."""
    field = find_column(row, name)
    former = [column for column in _former_columns(name, row) if column in table.key]
    if field is None or not former:
        return "use another table for another key"
    message = field.name
    if message == former[0]:
        return f"a column of the key keeps its name: name the attribute `{message}`"
    return (
        f"a column of the key keeps its name: name the attribute `{former[0]}`, "
        f"`{former[0]}: Annotated[..., Alias({former[0]!r})] = msgspec.field(name={message!r})`"
    )


def _format_key(table: TableDefinition) -> str:
    """Return a primary key as CQL has it, in quotes: `((a, b), c DESC)`; `id` alone."""
    partition = ", ".join(table.partition)
    partition = f"({partition})" if len(table.partition) > 1 else partition
    clustering = (column if order == "ASC" else f"{column} {order}" for column, order in table.clustering)
    columns = ", ".join([partition, *clustering])
    return f"`({columns})`" if len(table.key) > 1 else f"`{columns}`"


# User types


def _compare_types(table: TableDefinition, needed: TableDefinition) -> Iterator[Change]:
    """Yield the changes of user types. The order of their fields does not count: rows are written in Cassandra's."""
    for name, members in needed.types.items():
        existing = table.types.get(name, members)  # one that does not exist is created
        for column, kind in members.items():
            known = existing.get(column)
            if known is None:
                why = f"field `{column}` {kind} of type `{name}` is new; null in existing rows"
                yield Change.of(f"{name}.{column}", ChangeKind.ADDED_OPTIONAL, why)
            elif simplify_type(kind) != simplify_type(known):
                why = f"`{column}` of type `{name}` is {known}, the record needs {kind}: use another field name"
                yield Change.of(f"{name}.{column}", ChangeKind.TYPE_CHANGED, why)


def find_missing_members(table: TableDefinition, declared: Table) -> list[tuple[str, str, str]]:
    """Return the fields that existing user types lack: type, field and the field's type."""
    return [
        (name, column, kind)
        for name, members in define_table(declared).types.items()
        if name in table.types
        for column, kind in members.items()
        if column not in table.types[name]
    ]


# Names of types

_TOKEN = re.compile(r'"(?:[^"]|"")*"|\'[^\']*\'|[\w.]+|[<>,]')
_SYNONYMS = {"varchar": "text"}


def simplify_type(kind: str) -> str:
    """Return a CQL type in the one form that equal types share, without spaces.

    Everything within a frozen type is frozen, and so is a tuple.
    """
    tokens = [_SYNONYMS.get(token, token) for token in _TOKEN.findall(kind)]
    return _simplify(iter(tokens), is_frozen=False)[0]


def _simplify(tokens: Iterator[str], *, is_frozen: bool) -> tuple[str, str]:
    """Return the next type of `tokens`, and the token after it."""
    name, after = next(tokens, ""), next(tokens, "")
    if after != "<":
        return name, after
    is_marker = name == "frozen"
    members, after = [], ","
    while after == ",":
        member, after = _simplify(tokens, is_frozen=is_frozen or name in ("frozen", "tuple"))
        members.append(member)
    inner = ",".join(members)
    is_implied = is_frozen or inner.startswith(("tuple<", "frozen<"))
    text = (inner if is_implied else f"frozen<{inner}>") if is_marker else f"{name}<{inner}>"
    return text, next(tokens, "")
