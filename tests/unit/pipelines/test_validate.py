from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any, TypedDict, TypeVar
from uuid import UUID

import msgspec
import pytest
from msgspec import Meta

import penstock
from penstock.contract import names
from penstock.contract.keys import KEY_FORMATS
from penstock.contract.primary_key import PrimaryKey, day_of
from penstock.contract.record import KEY, Record
from penstock.pipelines.users import PIPELINE
from penstock.pipelines.validate import find_problems
from tests.unit.keyed import SAMPLES
from tests.unit.records import READINGS, Everything, Reading, Scalars

Id = Annotated[UUID, Meta(extra=KEY)]


def record_of(*fields, name="Item", **options):
    """A record class with a key and these fields."""
    return msgspec.defstruct(name, [("id", Id), *fields], bases=(Record,), frozen=True, kw_only=True, **options)


def problem_of(*fields, **options) -> str:
    """The one problem of a pipeline with such a record."""
    (problem,) = find_problems(replace(READINGS, record=record_of(*fields, **options)))
    return problem


@pytest.mark.parametrize(
    "pipeline", [PIPELINE, READINGS, replace(PIPELINE, row=Everything), replace(READINGS, record=Scalars)]
)
def test_a_valid_pipeline_has_no_problem(pipeline):
    """The users, a record with a key of another type, and a transform's row."""
    assert find_problems(pipeline) == []


@pytest.mark.parametrize("topic", ["a", "A.b_c-1", "a" * 245, "..."])
def test_valid_topic_names_are_accepted(topic):
    """What Kafka accepts for the topic and for its dead-letter topic is accepted."""
    assert find_problems(replace(READINGS, topic=topic)) == []


@pytest.mark.parametrize(
    "topic",
    ["", ".", "..", "a b", "a/b", "größe", "a,b", "a\n", "a" * 246, None, 7, "__consumer_offsets", "kafkasql-journal"],
)
def test_a_topic_that_kafka_rejects_is_a_problem(topic):
    """Other characters, a dead-letter topic of more than 249, and the topics of the services themselves."""
    (problem,) = find_problems(replace(READINGS, topic=topic))
    assert problem.startswith(
        (f"topic: invalid topic name {topic!r}: expected ", f"topic: topic {topic!r} is internal ")
    )


@pytest.mark.parametrize("name", ["a", "A", "order", "_a", "1a", "a" * 48])
def test_valid_keyspace_and_table_names_are_accepted(name):
    """Capitals and reserved words too: they are quoted."""
    assert find_problems(replace(READINGS, keyspace=name, table=name)) == []


@pytest.mark.parametrize("name", ["", "a-b", "a b", "ä", "a" * 49, "a\n", "a.b", None])
def test_a_keyspace_or_table_that_cassandra_rejects_is_a_problem(name):
    """Each is named with what to write."""
    for part in ("keyspace", "table"):
        (problem,) = find_problems(replace(READINGS, **{part: name}))
        assert problem == f"{part}: invalid {part} name {name!r}: expected 1 to 48 of a-z, A-Z, 0-9 and '_'"


def test_reserved_keyspaces_and_tables_are_problems():
    """Cassandra's own keyspaces, and the tables that penstock creates next to the pipeline's."""
    for keyspace in ("system", "System_Auth"):
        assert "keyspace: " in find_problems(replace(READINGS, keyspace=keyspace))[0]
    for table in names.OWN_TABLES:
        assert find_problems(replace(READINGS, table=table)) == [
            f"table: {table!r} is one of penstock's own tables in the keyspace: use another name"
        ]


def test_every_table_of_penstock_is_reserved():
    """A new one cannot be forgotten in the list of reserved names."""
    start = "CREATE TABLE IF NOT EXISTS {keyspace}."
    texts = [path.read_text() for path in Path(penstock.__path__[0]).rglob("*.py")]
    made = {part.split(" ")[0] for text in texts for part in text.split(start)[1:]}
    assert made == names.OWN_TABLES


@pytest.mark.parametrize(
    "column", ["ingested_at", "kafka_partition", "Kafka_Offset", "_rejected", "_deleted", "written_us"]
)
def test_a_field_named_like_our_columns_is_a_problem(column):
    """Spark ignores case. The message's name can stay: the problem says how."""
    problem = problem_of((column, str))
    assert problem.startswith(f"Item: field {column}: {column!r} is one of penstock's own columns: write `source_")
    renamed = record_of((f"source_{column}", str, msgspec.field(name=column)))
    assert find_problems(replace(READINGS, record=renamed)) == []


def test_fields_that_differ_only_in_case_are_a_problem():
    """Spark would not distinguish their columns."""
    problem = problem_of(("orderId", str), ("orderid", str))
    assert problem.startswith("Item: fields orderId, orderid: Spark does not distinguish them; write `source_orderid: ")


@pytest.mark.parametrize("name", ["a-b", "@type", "größe", "1a", ""])
def test_a_field_that_avro_cannot_represent_is_a_problem(name):
    """It is named, although JSON could represent it: both formats must work for each record."""
    problem = problem_of(("it", str, msgspec.field(name=name)))
    assert problem.startswith(f"Item: field it: invalid name {name!r}: Avro allows a-z")
    assert "invalid name 'Größe': Avro allows" in problem_of(name="Größe")


@pytest.mark.parametrize("name", ["order", "limit", "token", "select", "orderId", "Order", "_id", "value", "timestamp"])
def test_reserved_words_and_capitals_are_no_problem(name):
    """They are quoted wherever they must be."""
    assert find_problems(replace(READINGS, record=record_of((name, str)))) == []


def test_each_invalid_field_is_named():
    """All of them at once, with what to write."""
    wrong = record_of(
        ("created", Annotated[datetime, Meta(tz=False)]), ("cost", Decimal), ("tags", list), ("size", str | int)
    )
    problems = find_problems(replace(READINGS, record=wrong))
    assert [problem.split(": ")[:2] for problem in problems] == [
        ["Item", f"field {name}"] for name in ("created", "cost", "tags", "size")
    ]
    assert "write `created: Annotated[datetime, Meta(tz=True)]`" in problems[0]
    assert "write `cost: Annotated[Decimal, Digits(10, 2)]`" in problems[1]


def nested_record(name: str, *members) -> type[Record]:
    return msgspec.defstruct(name, members, bases=(Record,), frozen=True, kw_only=True)


@pytest.mark.parametrize(
    ("nested", "message"),
    [
        (nested_record("Date", ("it", str)), "Item: 'date' is a type of CQL: rename the class Date"),
        (nested_record("Item", ("it", str)), "Item: there is more than one class Item, or of a name like it: rename"),
        (nested_record("Größe", ("it", str)), "the class Größe: invalid name 'Größe'"),
        (nested_record("Part", ("_it", str)), "Part._it: cassandra-driver does not read a name that starts with '_'"),
        (nested_record("Part", ("it", str, msgspec.field(name="a-b"))), "Part.it: invalid name 'a-b': Avro allows"),
        (nested_record("Part", ("it", str), ("IT", str)), "fields it, IT: Spark does not distinguish them"),
        (nested_record("Part", ("cost", Decimal)), "Item: field nested[].cost: a Decimal needs its digits"),
    ],
)
def test_a_nested_record_that_a_service_would_refuse_is_a_problem(nested, message):
    """Its name is that of a type in Cassandra, and its fields are those of structs in Avro and Spark."""
    assert message in problem_of(("nested", list[nested]))


@pytest.mark.parametrize(
    ("options", "message"), [({"array_like": True}, "remove `array_like=True`"), ({"tag": True}, "remove `tag` and")]
)
def test_a_message_that_is_not_a_plain_object_is_a_problem(options, message):
    """Schemas and the other formats only know objects with named fields."""
    assert message in problem_of(**options)


class Plain(msgspec.Struct):
    """A class that is not a record."""

    id: Id


@pytest.mark.parametrize("record", [Plain, dict, {"id": str}, None, "Item"])
def test_a_class_that_is_not_a_record_is_a_problem(record):
    """The problem shows how a record's class starts."""
    (problem,) = find_problems(replace(READINGS, record=record))
    assert "is not a Record; write `class " in problem


def test_what_only_msgspec_rejects_is_a_problem():
    """A rule that does not fit the type, a name that cannot be resolved."""
    assert "Can only set `ge` on a numeric type" in problem_of(("it", Annotated[str, Meta(ge=1)]))
    assert "name 'Nope' is not defined" in problem_of(("it", "Nope"))


@pytest.mark.parametrize("row", [Everything, record_of(), record_of(("sensor", Annotated[UUID, Meta(extra=KEY)]))])
def test_a_row_must_have_the_key_of_the_record(row):
    """The result of a transform is still identified by the record's key, of the same type."""
    (problem,) = find_problems(replace(READINGS, row=row))
    assert problem.startswith("row: ")


class Swapped(Record, frozen=True, kw_only=True):
    """The identity of a sample in another order."""

    at: Annotated[datetime, Meta(tz=True, extra=KEY)]
    sensor: Annotated[str, Meta(min_length=1, max_length=100, extra=KEY)]


class Part(Record, frozen=True, kw_only=True):
    """A part of the identity of a sample."""

    sensor: Annotated[str, Meta(min_length=1, max_length=100, extra=KEY)]
    at: Annotated[datetime, Meta(tz=True)]


@pytest.mark.parametrize("row", [Swapped, Part])
def test_a_row_must_have_all_key_fields_of_the_record_in_order(row):
    """A deletion has the record's identity, and must find the row of a transform by it."""
    (problem,) = find_problems(replace(SAMPLES, primary_key=None, row=row))
    assert problem == (
        f"row: {row.__name__} must have the key of Sample: mark `sensor` (text), `at` (timestamp) with KEY in both, "
        "in this order, and no other field"
    )


class Hour(Record, frozen=True, kw_only=True):
    """A row of a transform, with the identity of a sample."""

    sensor: Annotated[str, Meta(min_length=1, max_length=200, extra=KEY)]
    at: Annotated[datetime, Meta(tz=True, extra=KEY)]
    fahrenheit: float


def test_a_pipeline_of_several_key_fields_is_accepted():
    """With a primary key of its own, without, and with another row."""
    assert find_problems(SAMPLES) == []
    assert find_problems(replace(SAMPLES, primary_key=None)) == []
    assert find_problems(replace(SAMPLES, row=Hour)) == []


def test_every_problem_of_a_primary_key_is_named():
    """With what to write instead; columns are those of the row."""
    wrong = PrimaryKey(("nope", day_of("sensor")), ("at",))
    assert [problem.split()[:2] for problem in find_problems(replace(SAMPLES, primary_key=wrong))] == [
        ["primary_key:", "Sample"],
        ["primary_key:", 'day_of("sensor"):'],
        ["primary_key:", "sensor"],
    ]
    own = PrimaryKey(("sensor", day_of("at", column="fahrenheit")), ("at",))
    assert find_problems(replace(SAMPLES, primary_key=own)) == []
    (problem,) = find_problems(replace(SAMPLES, primary_key=own, row=Hour))
    assert problem.startswith("primary_key: day_of(\"at\"): there is a column 'fahrenheit' already")
    (problem,) = find_problems(replace(SAMPLES, primary_key="sensor"))
    assert problem == "primary_key: 'sensor' is not a PrimaryKey; write `PrimaryKey(partition=(\"id\",))`"


def test_ids_of_several_fields_are_no_text():
    """A declared format that no key can have would dead-letter every tombstone."""
    assert find_problems(replace(SAMPLES, key_format="text")) == [
        "key_format: 'text' is for ids of one field; write \"json\": keys of several fields are JSON objects"
    ]
    assert find_problems(replace(SAMPLES, key_format="json")) == []


def test_the_fields_of_a_row_are_checked_too():
    """A transform's row is stored in the table like a record."""
    row = msgspec.defstruct("Row", [("paid", Decimal)], bases=(Reading,), frozen=True, kw_only=True)
    (problem,) = find_problems(replace(READINGS, row=row))
    assert problem.startswith("Row: field paid: a Decimal needs its digits")


def test_functions_and_secrets_are_checked():
    """An object that is not callable, and a text instead of a set of names, which would hide nothing."""
    wrong = replace(READINGS, from_source=None, transform="x", secret="password")
    assert [problem.partition(":")[0] for problem in find_problems(wrong)] == ["from_source", "transform", "secret"]


def plain(entry):
    return entry


def typed(entry: "Nowhere") -> Reading:  # noqa: F821  only a type checker would import it
    return entry


def annotated(returns):
    def from_source(entry) -> returns:
        return entry

    return from_source


class Kept(Reading, frozen=True, kw_only=True):
    pass


class Fields(TypedDict):
    sensor: int


ACCEPTED = [
    Reading,
    Kept,
    Record,
    dict,
    dict[str, Any],
    Mapping[str, Any],
    Fields,
    Any,
    object,
    Reading | dict,
    TypeVar("T"),
]


@pytest.mark.parametrize("from_source", [plain, typed, dict, int, *map(annotated, ACCEPTED)])
def test_a_mapping_that_may_return_the_record_or_its_fields_is_accepted(from_source):
    """Also one without an annotation, and one with an annotation that cannot be resolved."""
    assert find_problems(replace(READINGS, from_source=from_source)) == []


@pytest.mark.parametrize(
    ("returns", "message"),
    [
        (Everything, "it returns Everything; write `-> Reading`, or `-> dict[str, Any]` for a dict of its fields"),
        (Reading | Everything, "it returns Everything; write `-> Reading`"),
        (list[Reading], "it returns list[tests.unit.records.Reading]; write `-> Reading`"),
        (str, "it returns str; write `-> Reading`"),
        (None, "it may return None; write `-> Reading`, and raise an exception where an entry has none"),
        (Reading | None, "it may return None; write `-> Reading`"),
        (dict | None, "it may return None; write `-> Reading`"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda function: function, partial, lru_cache])
def test_a_mapping_that_says_it_returns_something_else_is_a_problem(returns, message, wrap):
    """When the file is loaded, not when the first entry comes; below decorators and partials too."""
    (problem,) = find_problems(replace(READINGS, from_source=wrap(annotated(returns))))
    assert problem.startswith(f"from_source: {message}")


def test_the_annotation_of_a_callable_object_is_that_of_its_call():
    """An object is called like a function."""

    class Source:
        def __call__(self, entry) -> Everything:
            return entry

    (problem,) = find_problems(replace(READINGS, from_source=Source()))
    assert problem.startswith("from_source: it returns Everything")


@pytest.mark.parametrize(
    ("declared", "transform", "message"),
    [
        (True, lambda df: df, []),
        (False, None, []),
        (True, None, ["transform_is_row_wise: there is no transform; write `transform=...`, or remove it"]),
        ("yes", lambda df: df, ["transform_is_row_wise: 'yes' is not a bool"]),
    ],
)
def test_only_an_existing_transform_can_be_declared_row_wise(declared, transform, message):
    """A declaration of another type, or without a transform, is rejected when the file is loaded."""
    assert find_problems(replace(PIPELINE, transform_is_row_wise=declared, transform=transform)) == message


@pytest.mark.parametrize("key_format", [None, *KEY_FORMATS])
def test_each_key_format_is_accepted(key_format):
    """And none: keys are then parsed in the only format that they can have."""
    assert find_problems(replace(PIPELINE, key_format=key_format)) == []


def test_one_version_per_id_is_declared_by_a_boolean():
    """Text is rejected."""
    assert find_problems(replace(PIPELINE, one_version_per_id=True)) == []
    (problem,) = find_problems(replace(PIPELINE, one_version_per_id="yes"))
    assert problem == "one_version_per_id: 'yes' is not a bool"


def test_an_unknown_key_format_is_rejected():
    """With the known ones."""
    (problem,) = find_problems(replace(PIPELINE, key_format="avro"))
    assert problem == "key_format: invalid 'avro': expected 'text', 'json', 'connect', 'registry' or None"
