"""Decode and write in a real Spark, from the real Kafka into the real Cassandra."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Producer
from pyspark.sql import DataFrame, SparkSession

from penstock import pipelines
from penstock.broker import dlq, topics
from penstock.broker.kafka import MAX_MESSAGE_BYTES, producer
from penstock.broker.registry import Registry
from penstock.config import Settings
from penstock.contract.batch import Tally, merge
from penstock.pipeline import job, stream
from penstock.pipelines import users
from penstock.process.session import kafka_options, raw_records, spark_session
from penstock.produce.serialize import serializer
from penstock.sink import cassandra
from tests.conftest import Stack


@pytest.fixture(scope="module")
def spark(stack: Stack) -> Iterator[SparkSession]:
    """A Spark of two threads, with the stack's configuration and jars."""
    os.environ["SPARK_CONF_DIR"] = str(stack.settings.home / "run" / "spark-conf")
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    local = stack.settings.model_copy(update={"spark_master": "local[2]", "spark_job_ui_port": 0})
    with spark_session(local, "tests") as session:
        yield session
    del os.environ["SPARK_CONF_DIR"], os.environ["SPARK_LOCAL_IP"]


class Topic:
    """A pipeline of its own, its topic filled by a test, its table made."""

    def __init__(self, settings: Settings, file: Path, spark: SparkSession) -> None:
        self.settings = settings.model_copy(update={"pipeline": str(file)})
        self.pipeline = pipelines.of(self.settings)
        self.spark = spark
        topics.ensure_pipeline(self.settings, self.pipeline)
        with cassandra.connected(self.settings) as session:
            cassandra.create_keyspace(session, self.settings, self.pipeline)
            job.create_tables(session, self.settings)

    def send(self, *values: bytes | None, key: bytes = b"key") -> None:
        client: Producer = producer(self.settings)
        for value in values:
            client.produce(self.pipeline.topic, value=value, key=key, headers=[("origin", b"test")])
        assert client.flush(30) == 0

    def raw(self) -> DataFrame:
        reader = self.spark.read.format("kafka").option("subscribe", self.pipeline.topic)
        for name, value in kafka_options(self.settings).items():
            if name != "maxOffsetsPerTrigger":
                reader = reader.option(name, value)
        return raw_records(reader.load())

    def store(self) -> Tally:
        """The tally of one batch over all that the topic holds."""
        tallies = stream.store(self.raw(), stream.plan(self.settings, epoch_us=1_000))
        return merge([one._replace(partition=0) for one in tallies])[0]

    def rows(self) -> dict[str, dict[str, Any]]:
        with cassandra.connected(self.settings) as session:
            query = f"SELECT * FROM {self.pipeline.keyspace}.{self.pipeline.table}"
            return {str(row["id"]): row for row in session.execute(query)}

    def dead_letters(self) -> list[Any]:
        topic = self.pipeline.dead_letter_topic
        return list(topics.records(self.settings, topic, topics.spans(self.settings, topic)))


@pytest.fixture
def topic(settings: Settings, spark: SparkSession, pipeline_file: Callable[..., Path]) -> Callable[..., Topic]:
    """Makes a topic with a pipeline of its own; arguments go into the pipeline's file."""
    return lambda before="", more="": Topic(settings, pipeline_file(before, more), spark)


def encoded(captured: list[dict[str, Any]]) -> list[bytes]:
    return [msgspec.json.encode(msgspec.convert(users.from_source(entry), users.User)) for entry in captured]


def test_every_encoding_is_stored(topic: Callable[..., Topic], captured: list[dict[str, Any]]) -> None:
    """Plain JSON, framed JSON and framed Avro in one topic and one batch end as rows."""
    one = topic()
    records = [msgspec.convert(users.from_source(entry), users.User) for entry in captured]
    registry, name = Registry(one.settings), one.pipeline.topic
    as_json = serializer(users.User, "json", registry.register(f"{name}-json", users.User, "json"))
    as_avro = serializer(users.User, "avro", registry.register(f"{name}-avro", users.User, "avro"))
    one.send(*map(msgspec.json.encode, records[:10]))
    one.send(*map(as_json, records[10:20]))
    one.send(*map(as_avro, records[20:]))
    tally = one.store()
    assert (tally.records, tally.stored, tally.rejected) == (30, 30, 0)
    assert one.rows().keys() == {entry["login"]["uuid"] for entry in captured}


def test_bad_records_are_set_aside_and_their_neighbours_stored(
    topic: Callable[..., Topic], captured: list[dict[str, Any]]
) -> None:
    """Each bad value lies in the dead-letter topic byte for byte, with its key, headers, reason and place."""
    one = topic()
    bad: dict[bytes | None, str] = {
        None: "value_missing",
        b"": "value_missing",
        b"\x00\x00": "frame_broken",
        b"\x00\x77\x77\x77\x77{}": "schema_unknown",
        b"\x00\xff\xff\xff\xff{}": "schema_unknown",
        b"{": "json_malformed",
        b"\xff\xfe": "json_malformed",
        b'{"x":' * 100_000: "json_malformed",
        b'{"id": 1}': "contract_broken",
        b'{"x": "' + b"y" * (3 * MAX_MESSAGE_BYTES) + b'"}': "value_too_large",
    }
    good = encoded(captured)
    one.send(*good[:15], *bad, *good[15:])
    tally = one.store()
    assert (tally.records, tally.stored, tally.rejected) == (40, 30, 10)
    letters = one.dead_letters()
    assert len(letters) == 10
    for letter in letters:
        facts = dlq.facts(letter)
        assert facts["reason"] == bad[letter.value()]
        assert (facts["topic"], facts["stage"]) == (one.pipeline.topic, "decode")
        assert letter.key() == b"key"
        assert ("origin", b"test") in letter.headers()
        if facts["reason"] == "contract_broken":
            assert facts["rules"].startswith("id:type,first_name:required,last_name:required")
        assert int(facts["offset"]) in range(15, 25)
    assert len(one.rows()) == 30


def test_a_batch_done_again_changes_nothing(topic: Callable[..., Topic], captured: list[dict[str, Any]]) -> None:
    """The table is the same, row for row, after a replay."""
    one = topic()
    one.send(*encoded(captured))
    one.store()
    before = one.rows()
    one.store()
    assert one.rows() == before


ADDS_A_COLUMN = """
from pyspark.sql import functions

class Row(users.User, frozen=True, kw_only=True):
    full_name: str

def transform(df):
    return df.withColumn("full_name", functions.concat_ws(" ", "first_name", "last_name"))
"""


def test_a_transform_can_add_a_column(topic: Callable[..., Topic], captured: list[dict[str, Any]]) -> None:
    """The table has the column, and every row its value; a bad record goes past the transform."""
    one = topic(ADDS_A_COLUMN, "row=Row, transform=transform")
    one.send(*encoded(captured), b"{")
    tally = one.store()
    assert (tally.records, tally.stored, tally.rejected, tally.filtered) == (31, 30, 1, 0)
    for entry in captured:
        row = one.rows()[entry["login"]["uuid"]]
        assert row["full_name"] == f"{entry['name']['first']} {entry['name']['last']}"
        assert row["post_code"] == str(entry["location"]["postcode"])
    assert [letter.value() for letter in one.dead_letters()] == [b"{"]


FILTERS = """
def transform(df):
    return df.where("nationality = 'AU'")
"""


def test_a_transform_can_filter(topic: Callable[..., Topic], captured: list[dict[str, Any]]) -> None:
    """What it drops is counted as filtered, not lost."""
    one = topic(FILTERS, "transform=transform")
    one.send(*encoded(captured))
    tally = one.store()
    australians = {entry["login"]["uuid"] for entry in captured if entry["nat"] == "AU"}
    assert one.rows().keys() == australians
    assert (tally.records, tally.stored, tally.filtered) == (30, len(australians), 30 - len(australians))


BREAKS_THE_ROW = """
from pyspark.sql import functions

def transform(df):
    return df.withColumn("nationality", functions.lit("nowhere"))
"""


def test_a_row_that_a_transform_broke_is_set_aside_as_it_was(
    topic: Callable[..., Topic], captured: list[dict[str, Any]]
) -> None:
    """The dead letter has the bytes that lie in Kafka, and says that the transform is to blame."""
    one = topic(BREAKS_THE_ROW, "transform=transform")
    value = encoded(captured)[0]
    one.send(value)
    tally = one.store()
    assert (tally.stored, tally.rejected) == (0, 1)
    (letter,) = one.dead_letters()
    assert letter.value() == value
    assert dlq.facts(letter)["stage"] == "transform"
    assert "nationality" in dlq.facts(letter)["message"]


def test_the_functions_that_users_know_do_what_they_say(
    stack: Stack, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """spark_stream's functions give a Spark session, a Kafka stream, a Cassandra session, and decoded columns."""
    import spark_stream
    from penstock import config

    for name, value in stack.environment.items():
        monkeypatch.setenv(name, value)
    config.load.cache_clear()
    try:
        assert spark_stream.create_spark_connection() is spark
        kafka = spark_stream.connect_to_kafka(spark)
        assert kafka.isStreaming
        assert {"key", "value", "partition", "offset"} <= set(kafka.columns)
        selected = spark_stream.create_selection_df_from_kafka(kafka)
        assert selected.columns[:2] == ["id", "first_name"]
        assert selected.columns[-1] == "_rejected"
        session = spark_stream.create_cassandra_connection()
        spark_stream.create_keyspace(session)
        spark_stream.create_table(session)
        assert "created_users" in session.cluster.metadata.keyspaces["spark_streams"].tables
        cassandra.close(session)
    finally:
        config.load.cache_clear()
