from datetime import date
from typing import Annotated
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from penstock.contract import table_evolution
from penstock.contract.evolution import ChangeKind, list_refused
from penstock.contract.record import KEY, Alias, Record
from penstock.contract.table import build_table
from penstock.contract.table_evolution import (
    TableDefinition,
    compare_table,
    define_table,
    find_missing_columns,
    find_missing_members,
    find_unmanaged_columns,
    simplify_type,
)
from tests.unit.keyed import SAMPLES
from tests.unit.records import Reading

DECLARED = build_table("ks", "t", Reading)
TABLE = define_table(DECLARED)
BY_DAY = SAMPLES.build_table("ks")


def with_columns(**more):
    return TableDefinition(TABLE.columns | more, TABLE.partition)


def summarize(changes):
    return [(change.field, change.kind) for change in changes]


def test_a_table_that_fits_needs_no_change():
    """Every column exists with its type; columns, partition and clustering are as declared."""
    assert compare_table(TABLE, DECLARED) == []
    assert find_missing_columns(TABLE, DECLARED) == {}
    assert find_unmanaged_columns(TABLE, DECLARED) == []
    assert define_table(BY_DAY) == TableDefinition(
        BY_DAY.columns, ("sensor", "at_day"), (("at", "DESC"),), derivations=BY_DAY.derivations
    )
    assert compare_table(define_table(BY_DAY), BY_DAY) == []


def test_a_missing_column_is_added():
    """Also one of the arrival's: whatever a row needs."""
    table = TableDefinition({"sensor": "int", "kafka_partition": "int", "kafka_offset": "bigint"}, ("sensor",))
    assert find_missing_columns(table, DECLARED) == {"celsius": "double", "ingested_at": "timestamp"}
    assert summarize(compare_table(table, DECLARED)) == [
        ("celsius", ChangeKind.ADDED_OPTIONAL),
        ("ingested_at", ChangeKind.ADDED_OPTIONAL),
    ]


def test_a_column_of_another_type_is_rejected():
    """Cassandra does not change a column's type. Both types are named, and how to get another column."""
    (change,) = compare_table(with_columns(celsius="float"), DECLARED)
    assert (change.field, change.kind, change.allowed) == ("celsius", ChangeKind.TYPE_CHANGED, False)
    assert "column `celsius` is float, the record needs double" in change.why
    assert "`celsius_2: ... = msgspec.field(name='celsius')`" in change.why
    assert "./penstock replay" in change.why


def test_a_column_of_the_arrival_cannot_be_renamed():
    """It is penstock's own: only another table helps."""
    (change,) = compare_table(with_columns(kafka_offset="int"), DECLARED)
    assert change.why.endswith("a column keeps its type: use another table")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (TableDefinition(TABLE.columns, ("celsius", "sensor")), "`((celsius, sensor))`"),
        (TableDefinition(TABLE.columns, ("sensor",), (("celsius", "DESC"),)), "`(sensor, celsius DESC)`"),
        (TableDefinition(TABLE.columns, ("celsius",)), "`celsius`"),
    ],
)
def test_another_key_is_rejected(table, message):
    """A table keeps its primary key; both keys are named."""
    (change,) = compare_table(table, DECLARED)
    assert (change.field, change.kind, change.allowed) == ("sensor", ChangeKind.KEY_CHANGED, False)
    assert change.why.startswith(f"the key is `sensor`, but the table's is {message}: ")


@pytest.mark.parametrize(
    "change",
    [
        {"partition": ("at_day", "sensor")},
        {"partition": ("sensor",), "clustering": (("at_day", "ASC"), ("at", "DESC"))},
        {"clustering": (("at", "ASC"),)},
        {"derivations": 'penstock derives at_day = hour_of("at")'},
    ],
)
def test_each_part_of_a_key_counts(change):
    """The columns of the partition in their order, the clustering columns with theirs, and how columns are derived."""
    parts = {"partition": ("sensor", "at_day"), "clustering": (("at", "DESC"),)} | change
    (refused,) = compare_table(TableDefinition(BY_DAY.columns, **parts), BY_DAY)
    assert refused.kind == ChangeKind.KEY_CHANGED


def test_a_table_that_does_not_say_how_columns_are_derived_is_accepted():
    """Somebody else may have created it."""
    table = TableDefinition(BY_DAY.columns, ("sensor", "at_day"), (("at", "DESC"),))
    assert compare_table(table, BY_DAY) == []


def test_a_column_of_the_key_that_is_missing_is_not_added():
    """Cassandra has no statement for it: the key says what is wrong, alone."""
    columns = {name: kind for name, kind in TABLE.columns.items() if name != "sensor"}
    (change,) = compare_table(TableDefinition(columns | {"id": "int"}, ("id",)), DECLARED)
    assert change.kind == ChangeKind.KEY_CHANGED


def test_a_static_column_is_rejected_if_rows_need_it():
    """It has one value for all rows of a partition. One that they do not need is unmanaged."""
    clustered = build_table("ks", "t", SAMPLES.record)
    table = define_table(clustered)
    static = TableDefinition(table.columns, table.partition, table.clustering, frozenset({"celsius"}))
    (change,) = compare_table(static, clustered)
    assert (change.field, change.allowed) == ("celsius", False)
    assert "static" in change.why
    other = TableDefinition({**table.columns, "x": "int"}, table.partition, table.clustering, frozenset({"x"}))
    assert compare_table(other, clustered) == []


def test_a_counter_is_rejected():
    """Cassandra refuses to insert a row into a table of counters."""
    (change,) = compare_table(with_columns(seen="counter"), DECLARED)
    assert (change.field, change.allowed) == ("seen", False)
    assert "counter" in change.why


def test_unmanaged_columns_are_left_alone():
    """They are named, and are no problem."""
    table = with_columns(old="text", older="int")
    assert compare_table(table, DECLARED) == []
    assert find_unmanaged_columns(table, DECLARED) == ["old text", "older int"]


def test_a_missing_table_is_not_compared():
    """It is created as a whole."""
    assert compare_table(TableDefinition({}), DECLARED) == []
    assert find_missing_columns(TableDefinition({}), DECLARED) == DECLARED.columns


class Person(Record, frozen=True, kw_only=True):
    """A person whose fields had other names."""

    person: Annotated[UUID, Meta(extra=KEY), Alias("id")]
    born: Annotated[date, Alias("birthday", "dob")]
    size: int = msgspec.field(name="height")


def test_the_column_of_a_renamed_field_is_added_and_filled_by_a_replay():
    """The former column stays: it is named, whether the field was renamed in messages or in the table alone."""
    declared = build_table("ks", "t", Person)
    former = {"dob": "date", "height": "bigint", "person": "uuid"}
    columns = {name: kind for name, kind in declared.columns.items() if name not in ("born", "size")} | former
    changes = compare_table(TableDefinition(columns, ("person",)), declared)
    assert not list_refused(changes)
    assert [change.why for change in changes] == [
        f"column `{new}` {kind} is new; null in existing rows until ./penstock replay fills it from the records that "
        f"Kafka still has; column `{old}` stays, unmanaged"
        for new, kind, old in (("born", "date", "dob"), ("size", "bigint", "height"))
    ]


def test_the_column_of_a_key_keeps_its_name():
    """The field can be renamed in messages alone: the reason says what to write."""
    declared = build_table("ks", "t", Person)
    columns = {name: kind for name, kind in declared.columns.items() if name != "person"} | {"id": "uuid"}
    (change,) = compare_table(TableDefinition(columns, ("id",)), declared)
    assert change.kind == ChangeKind.KEY_CHANGED
    assert "name the attribute `id`, `id: Annotated[..., Alias('id')] = msgspec.field(name='person')`" in change.why


def test_the_column_of_a_key_that_is_renamed_in_the_table_alone_is_refused_too():
    """The attribute has to be named as the column."""

    class Renamed(Record, frozen=True, kw_only=True):
        person: Annotated[UUID, Meta(extra=KEY)] = msgspec.field(name="id")

    declared = build_table("ks", "t", Renamed)
    columns = {name: kind for name, kind in declared.columns.items() if name != "person"} | {"id": "uuid"}
    (change,) = compare_table(TableDefinition(columns, ("id",)), declared)
    assert change.why.endswith("a column of the key keeps its name: name the attribute `id`")


@pytest.fixture
def of_types(monkeypatch):
    """Return a function that compares the fields of a user type, existing and needed."""

    def compare(existing, needed):
        define = table_evolution.define_table
        types = {"address": needed} if needed is not None else {}
        monkeypatch.setattr(
            table_evolution, "define_table", lambda _: TableDefinition(TABLE.columns, ("sensor",), types=types)
        )
        known = {"address": existing} if existing is not None else {}
        table = TableDefinition(TABLE.columns, ("sensor",), types=known)
        changes, missing = compare_table(table, DECLARED), find_missing_members(table, DECLARED)
        monkeypatch.setattr(table_evolution, "define_table", define)
        return changes, missing

    return compare


CITY = {"city": "text", "at": "frozen<point>"}


@pytest.mark.parametrize("needed", [CITY | {"zip": "text"}, {"zip": "text", **CITY}])
def test_a_user_type_gains_fields(of_types, needed):
    """Wherever they are in the record: Cassandra adds them at the end of its type."""
    (change,), missing = of_types(CITY, needed)
    assert (change.field, change.kind) == ("address.zip", ChangeKind.ADDED_OPTIONAL)
    assert missing == [("address", "zip", "text")]


@pytest.mark.parametrize("existing", [CITY, CITY | {"zip": "text"}, {"zip": "text", **CITY}, None])
def test_other_fields_of_a_user_type_stay(of_types, existing):
    """They are null in new rows. A type that does not exist is created as a whole."""
    assert of_types(existing, CITY) == ([], [])


def test_a_field_of_a_user_type_keeps_its_type(of_types):
    """Both types are named."""
    (change,) = list_refused(of_types(CITY, CITY | {"city": "int"})[0])
    assert "`city` of type `address` is text, the record needs int" in change.why


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("varchar", "text"),
        ("frozen<list<varchar>>", "frozen<list<text>>"),
        ("frozen<map<text, frozen<list<frozen<address>>>>>", "frozen<map<text, list<address>>>"),
        ("frozen<tuple<int, frozen<set<text>>>>", "tuple<int, set<text>>"),
        ("frozen<frozen<list<int>>>", "frozen<list<int>>"),
        ("map<text, frozen<tuple<int, text>>>", "map<text,tuple<int,text>>"),
    ],
)
def test_equal_types_may_be_written_in_several_ways(one, other):
    """As Cassandra's tables of schemas, its shell and people write them."""
    assert simplify_type(one) == simplify_type(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("list<text>", "frozen<list<text>>"),
        ("address", "frozen<address>"),
        ("list<text>", "set<text>"),
        ("map<text, int>", "map<text, bigint>"),
        ("tuple<int, int>", "tuple<int>"),
        ('frozen<"Address">', "frozen<address>"),
        ("map<text, frozen<list<int>>>", "frozen<map<text, list<int>>>"),
    ],
)
def test_other_types_are_not_the_same(one, other):
    """A collection that is not frozen is written, and read, in another way."""
    assert simplify_type(one) != simplify_type(other)


cql_types = st.recursive(
    st.sampled_from(["text", "int", "timestamp", '"Odd name"']),
    lambda inner: (
        st.builds("list<{}>".format, inner)
        | st.builds("map<{}, {}>".format, inner, inner)
        | st.builds("tuple<{}, {}, {}>".format, inner, inner, inner)
        | st.builds("frozen<{}>".format, inner)
    ),
)


@given(cql_types)
def test_the_simple_form_of_a_type_is_its_own(kind):
    """Nothing of a type gets lost, whatever it contains, and spaces do not count."""
    simple = simplify_type(kind)
    assert simplify_type(simple) == simplify_type(kind.replace(" ", "").replace('"Oddname"', '"Odd name"')) == simple
    assert simplify_type(f"frozen<{kind}>") == simplify_type(f"frozen<{simple}>")
    assert simple.replace("frozen<", "").replace(">", "") == kind.replace("frozen<", "").replace(">", "").replace(
        ", ", ","
    )
