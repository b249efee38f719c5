"""Every composite type, good and bad, through the real Kafka, Spark and Cassandra."""

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from penstock.contract.fields import fields
from penstock.contract.schemas import avro_schema, spark_ddl
from penstock.dead_letters.message import read_error_headers
from penstock.sink.cells import format_row
from tests.corpus import composite_record
from tests.corpus.composite_record import Purchase
from tests.corpus.composites import COMPOSITE_CASES, REQUIRED, CompositeCase
from tests.integration.streaming import Place, Topic
from tests.unit.contract.test_composites import as_declared
from tests.unit.ddl import arrow_schema

_IDENTITY = "def transform(df):\n    return df\n"
_CHANGES = """
def transform(df):
    from pyspark.sql import functions

    changed = df.withColumn("tags", functions.array_append("tags", functions.lit("new")))
    changed = changed.withColumn("level", functions.size("items"))
    return changed.withColumn("code", functions.col("address.city"))
"""
_NULLS = """
def transform(df):
    from pyspark.sql import functions

    return df.withColumn("tags", functions.array(functions.lit("a"), functions.lit(None).cast("string")))
"""
_MORE = "record=Purchase, from_source=dict, secret=frozenset(), "


def purchases(topic: Callable[..., Topic], before: str = "", more: str = "") -> Topic:
    """A topic of purchases, whose record is in the pipeline's own file."""
    return topic(f"{Path(composite_record.__file__).read_text()}\n{before}", _MORE + more)


def send(purchase_topic: Topic, cases: list[CompositeCase]) -> list[Place]:
    """Where each case lies."""
    client = SchemaRegistryClient({"url": purchase_topic.settings.registry_url})
    schema = Schema(json.dumps(avro_schema(Purchase)), schema_type="AVRO")
    avro_id = int(client.register_schema(f"{purchase_topic.pipeline.topic}-purchase", schema))
    return purchase_topic.send_all((case.id.encode(), case.value(avro_id), []) for case in cases)


def cells_of(row: dict[str, object]) -> dict[str, object]:
    """The columns of the record, of the types that it declares; sets as sets."""
    cells = {field.column: as_declared(row[field.column], field) for field in fields(Purchase)}
    return cells | {name: set(cells[name]) for name in ("sizes", "refs")}


def expected_of(case: CompositeCase) -> dict[str, object]:
    """The columns of a stored case; a union in Avro is its text, which tells a text from a number no more."""
    values = msgspec.structs.asdict(case.record())
    code = fields_by_column["code"].kind
    assert code.from_arrow is not None
    assert code.to_arrow is not None
    return values | {"code": code.from_arrow(code.to_arrow(values["code"])), "refs": set(values["refs"])}


fields_by_column = {field.column: field for field in fields(Purchase)}


def test_spark_reads_the_columns(spark: SparkSession) -> None:
    """Its own parser takes the DDL, and makes of it the Arrow types that the unit tests assume."""
    ddl = spark_ddl(Purchase).replace(" NOT NULL", "")
    assert spark.version.startswith("4.")
    found = to_arrow_schema(StructType.fromDDL(ddl))
    assert found.names == list(Purchase.__struct_fields__)
    assert [field.type for field in found] == [field.type for field in arrow_schema(ddl)]


@pytest.mark.parametrize(
    ("before", "more"), [("", ""), (_IDENTITY, "transform=transform")], ids=["as it is", "transformed"]
)
def test_every_case_ends_as_it_says(topic: Callable[..., Topic], before: str, more: str) -> None:
    """A good purchase is a row, cell for cell, through columns of Spark too; a bad one a dead letter with its rules."""
    purchase_topic = purchases(topic, before, more)
    places = send(purchase_topic, COMPOSITE_CASES)
    summary = purchase_topic.store()
    good = [case for case in COMPOSITE_CASES if not case.rules]
    assert (summary.records, summary.stored) == (len(COMPOSITE_CASES), len(good))
    rows = purchase_topic.rows()
    assert {case.id for case in good} == rows.keys()
    wrong = {
        case.name: (found, expected)
        for case in good
        if (found := cells_of(rows[case.id])) != (expected := expected_of(case))
    }
    assert wrong == {}
    json.dumps([format_row(row, Purchase) for row in rows.values()], default=str)
    expected = {place: case.rules for case, place in zip(COMPOSITE_CASES, places, strict=True) if case.rules}
    facts = [read_error_headers(letter) for letter in purchase_topic.dead_letters()]
    assert {
        (int(fact["partition"]), int(fact["offset"])): tuple(fact["rules"].split(",")) for fact in facts
    } == expected
    purchase_topic.store()
    assert purchase_topic.rows() == rows


def test_a_transform_computes_with_the_types(topic: Callable[..., Topic]) -> None:
    """Arrays, structs and their fields are Spark's own, and what it returns is stored."""
    purchase_topic = purchases(topic, _CHANGES, "transform=transform")
    case = CompositeCase("changed", REQUIRED)
    send(purchase_topic, [case])
    assert purchase_topic.store().stored == 1
    row = cells_of(purchase_topic.rows()[case.id])
    assert (row["tags"], row["level"], row["code"]) == ([*REQUIRED["tags"], "new"], 2, "Köln")


def test_a_null_in_an_array_of_a_transform_is_dead_lettered(topic: Callable[..., Topic]) -> None:
    """CQL has no null in a collection: the record is set aside with the rule."""
    purchase_topic = purchases(topic, _NULLS, "transform=transform")
    send(purchase_topic, [CompositeCase("null", REQUIRED)])
    summary = purchase_topic.store()
    assert (summary.stored, summary.rejected) == (0, 1)
    (letter,) = purchase_topic.dead_letters()
    facts = read_error_headers(letter)
    assert (facts["rules"], facts["stage"]) == ("tags[]:required", "transform")
