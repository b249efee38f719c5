"""Every scalar type, good and bad, through the real Kafka, Spark and Cassandra."""

import json
from collections.abc import Callable
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cassandra.util import Date, Time
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from penstock.contract.fields import from_microseconds
from penstock.contract.schemas import avro_schema, spark_ddl
from penstock.dead_letters.message import read_error_headers
from tests.corpus import scalar_record
from tests.corpus.scalar_record import Deal
from tests.corpus.scalars import REQUIRED, SCALAR_CASES, ScalarCase
from tests.integration.streaming import Place, Topic
from tests.unit.ddl import arrow_schema

_IDENTITY = "def transform(df):\n    return df\n"
_CHANGES = """
def transform(df):
    from pyspark.sql import functions

    changed = df.withColumn("price", df.price * 2).withColumn("day", functions.date_add("day", 1))
    changed = changed.withColumn("lasts", functions.expr("lasts + INTERVAL '1' HOUR"))
    changed = changed.withColumn("opens", functions.lit("09:00:00")).withColumn("size", functions.lit("L"))
    changed = changed.withColumn("hash", functions.unhex(functions.lit("00FF")))
    return changed.withColumn("maybe_price", functions.lit(5).cast("decimal(12,3)"))
"""
_ROUNDS = """
def transform(df):
    return df.withColumn("price", df.price / 3)
"""
_MORE = "record=Deal, from_source=dict, secret=frozenset(), "


def deals(topic: Callable[..., Topic], before: str = "", more: str = "") -> Topic:
    """A topic of deals, whose record is in the pipeline's own file."""
    return topic(f"{Path(scalar_record.__file__).read_text()}\n{before}", _MORE + more)


def send(deal_topic: Topic, cases: list[ScalarCase]) -> list[Place]:
    """Where each case lies."""
    client = SchemaRegistryClient({"url": deal_topic.settings.registry_url})
    schema = Schema(json.dumps(avro_schema(Deal)), schema_type="AVRO")
    avro_id = int(client.register_schema(f"{deal_topic.pipeline.topic}-deal", schema))
    return deal_topic.send_all((case.id.encode(), case.value(avro_id), []) for case in cases)


def as_python(name: str, value: Any) -> Any:
    """A value as the driver reads it, of the type that the record declares."""
    if isinstance(value, Date):
        return value.date()
    if isinstance(value, Time):
        return value.time()
    return from_microseconds(value) if name.endswith("lasts") and value is not None else value


def row_of(row: dict[str, Any]) -> dict[str, Any]:
    """The columns of the record."""
    return {name: as_python(name, row[name]) for name in Deal.__struct_fields__}


def test_spark_reads_the_columns(spark: SparkSession) -> None:
    """Its own parser takes the DDL, and makes of it the Arrow types that the unit tests assume."""
    ddl = spark_ddl(Deal).replace(" NOT NULL", "")
    assert spark.version.startswith("4.")
    found = to_arrow_schema(StructType.fromDDL(ddl))
    assert found.names == list(Deal.__struct_fields__)
    assert [field.type for field in found] == [field.type for field in arrow_schema(ddl)]


@pytest.mark.parametrize(
    ("before", "more"), [("", ""), (_IDENTITY, "transform=transform")], ids=["as it is", "transformed"]
)
def test_every_case_ends_as_it_says(topic: Callable[..., Topic], before: str, more: str) -> None:
    """A good deal is a row, cell for cell, through columns of Spark too; a bad one a dead letter with its rules."""
    deal_topic = deals(topic, before, more)
    places = send(deal_topic, SCALAR_CASES)
    summary = deal_topic.store()
    good = [case for case in SCALAR_CASES if not case.rules]
    assert (summary.records, summary.stored) == (len(SCALAR_CASES), len(good))
    rows = deal_topic.rows()
    assert {case.id for case in good} == rows.keys()
    wrong = {
        case.name: (found, expected)
        for case in good
        if (found := row_of(rows[case.id])) != (expected := msgspec.structs.asdict(case.record()))
    }
    assert wrong == {}
    expected = {place: case.rules for case, place in zip(SCALAR_CASES, places, strict=True) if case.rules}
    facts = [read_error_headers(letter) for letter in deal_topic.dead_letters()]
    assert {(int(one["partition"]), int(one["offset"])): tuple(one["rules"].split(",")) for one in facts} == expected
    deal_topic.store()
    assert deal_topic.rows() == rows


def test_a_transform_computes_with_the_types(topic: Callable[..., Topic]) -> None:
    """Sums of decimals, days and durations are Spark's own, and what it returns is stored exactly."""
    deal_topic = deals(topic, _CHANGES, "transform=transform")
    case = ScalarCase("changed", REQUIRED)
    send(deal_topic, [case])
    assert deal_topic.store().stored == 1
    row = row_of(deal_topic.rows()[case.id])
    assert (row["price"], row["maybe_price"]) == (Decimal("25.00"), Decimal(5))
    assert (row["day"], row["opens"]) == (date(2024, 3, 1), time(9))
    assert (row["lasts"], row["hash"], row["size"]) == (timedelta(hours=37), b"\x00\xff", "L")


def test_what_a_transform_would_round_is_dead_lettered(topic: Callable[..., Topic]) -> None:
    """A quotient has more decimals than the row: the record is set aside with the rule."""
    deal_topic = deals(topic, _ROUNDS, "transform=transform")
    send(deal_topic, [ScalarCase("divided", REQUIRED), ScalarCase("exact", REQUIRED | {"price": "3.30"})])
    summary = deal_topic.store()
    assert (summary.stored, summary.rejected) == (1, 1)
    (letter,) = deal_topic.dead_letters()
    facts = read_error_headers(letter)
    assert (facts["rules"], facts["stage"]) == ("price:range", "transform")


def test_a_column_of_a_transform_is_not_cast_to_the_records(topic: Callable[..., Topic]) -> None:
    """A finer decimal is dead-lettered where a common type of both, 38 digits with 18 decimals, would round it."""
    finer = """
def transform(df):
    from pyspark.sql import functions

    return df.withColumn("wide", functions.lit("0.12345678901234567890123").cast("decimal(24,23)"))
"""
    deal_topic = deals(topic, finer, "transform=transform")
    bad = ScalarCase("bad", REQUIRED, {"size": '"XL"'}, ("size:enum",))
    send(deal_topic, [ScalarCase("finer", REQUIRED), bad])
    summary = deal_topic.store()
    assert (summary.stored, summary.rejected) == (0, 2)
    rules = {read_error_headers(letter)["rules"] for letter in deal_topic.dead_letters()}
    assert rules == {"wide:range", "size:enum"}
