"""Decode and write in a real Spark, from the real Kafka to the real Cassandra."""

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from penstock.broker.kafka import MAX_MESSAGE_BYTES
from penstock.broker.registry import Registry
from penstock.codec.encode import build_serializer
from penstock.dead_letters.message import read_error_headers
from penstock.dead_letters.pending import DeadLetterSelection
from penstock.dead_letters.redrive import redrive
from penstock.dead_letters.repair import Repair
from penstock.errors import TransformFailed
from penstock.pipelines import users
from penstock.sink import cassandra
from tests.conftest import Stack
from tests.integration.streaming import Topic


def encoded(captured: list[dict[str, Any]]) -> list[bytes]:
    return [msgspec.json.encode(msgspec.convert(users.from_source(entry), users.User)) for entry in captured]


def test_a_checkpoint_file_is_written_without_a_child_process(spark: SparkSession, tmp_path: Path) -> None:
    """Hadoop's own file system starts one per permission change; permissions and checksums are the same."""
    jvm, driver = spark._jvm, psutil.Process(spark.sparkContext._gateway.proc.pid)  # type: ignore[union-attr]
    assert jvm is not None
    before = driver.cpu_times()
    for number in range(50):
        path = jvm.org.apache.hadoop.fs.Path(f"file://{tmp_path}/{number}")
        files = path.getFileSystem(spark._jsc.hadoopConfiguration())
        written = files.create(path)
        written.write(b"v1")
        written.close()
        files.rename(path, jvm.org.apache.hadoop.fs.Path(f"file://{tmp_path}/{number}.done"))
    after = driver.cpu_times()
    assert (after.children_user, after.children_system) == (before.children_user, before.children_system)
    assert stat.S_IMODE((tmp_path / "7.done").stat().st_mode) == 0o644
    (tmp_path / "7.done").write_bytes(b"v2")
    with pytest.raises(Py4JJavaError, match="ChecksumException"):
        files.open(jvm.org.apache.hadoop.fs.Path(f"file://{tmp_path}/7.done")).read()


def test_every_encoding_is_stored(topic: Callable[..., Topic], captured: list[dict[str, Any]]) -> None:
    """Plain JSON, JSON and Avro with a wire-format header, in one topic and one batch, become rows."""
    lab_topic = topic()
    records = [msgspec.convert(users.from_source(entry), users.User) for entry in captured]
    registry, name = Registry(lab_topic.settings), lab_topic.pipeline.topic
    as_json = build_serializer(users.User, "json", registry.register(f"{name}-json", users.User, "json"))
    as_avro = build_serializer(users.User, "avro", registry.register(f"{name}-avro", users.User, "avro"))
    lab_topic.send(*map(msgspec.json.encode, records[:10]))
    lab_topic.send(*map(as_json, records[10:20]))
    lab_topic.send(*map(as_avro, records[20:]))
    summary = lab_topic.store()
    assert (summary.records, summary.stored, summary.rejected) == (30, 30, 0)
    assert lab_topic.rows().keys() == {entry["login"]["uuid"] for entry in captured}


def test_bad_records_are_dead_lettered_and_their_neighbours_stored(
    topic: Callable[..., Topic], captured: list[dict[str, Any]]
) -> None:
    """Each bad value is in the dead-letter topic byte for byte, with its key, headers, reason and position."""
    lab_topic = topic()
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
        b'{"x": "' + b"y" * (MAX_MESSAGE_BYTES - 1000) + b'"}': "value_too_large",
    }
    good = encoded(captured)
    lab_topic.send(*good[:15], *bad, *good[15:])
    summary = lab_topic.store()
    assert (summary.records, summary.stored, summary.rejected) == (40, 30, 10)
    letters = lab_topic.dead_letters()
    assert len(letters) == 10
    for letter in letters:
        facts = read_error_headers(letter)
        assert facts["reason"] == bad[letter.value()]
        assert (facts["topic"], facts["stage"]) == (lab_topic.pipeline.topic, "decode")
        assert letter.key() == b"key"
        assert ("origin", b"test") in letter.headers()
        if facts["reason"] == "contract_broken":
            assert facts["rules"].startswith("id:type,first_name:required,last_name:required")
        assert int(facts["offset"]) in range(15, 25)
    assert len(lab_topic.rows()) == 30


def test_a_repeated_batch_changes_nothing(topic: Callable[..., Topic], captured: list[dict[str, Any]]) -> None:
    """The table is the same, row for row, after a replay."""
    lab_topic = topic()
    lab_topic.send(*encoded(captured))
    lab_topic.store()
    before = lab_topic.rows()
    lab_topic.store()
    assert lab_topic.rows() == before


IDENTITY = """
def transform(df):
    return df
"""


@pytest.mark.parametrize(
    ("before", "more"), [("", ""), (IDENTITY, "transform=transform")], ids=["as it is", "transformed"]
)
def test_a_null_value_deletes_the_row_that_its_key_names(
    topic: Callable[..., Topic], captured: list[dict[str, Any]], before: str, more: str
) -> None:
    """Rows and deletions of one id in one batch end in Kafka's order, also in a replay."""
    lab_topic = topic(before, more)
    values = encoded(captured)
    gone, back, kept, never = (entry["login"]["uuid"] for entry in captured[:4])
    sent = [
        (gone, values[0]),
        (gone, None),
        (back, None),
        (back, values[1]),
        (kept, values[2]),
        (never, None),
        (kept, None),
        (kept, values[2]),
        (gone, values[0]),
        (gone, None),
    ]
    lab_topic.send_all((key.encode(), value, []) for key, value in sent)
    for _ in range(2):
        summary = lab_topic.store()
        assert (summary.records, summary.stored, summary.deleted, summary.rejected, summary.filtered) == (
            10,
            5,
            5,
            0,
            0,
        )
        assert lab_topic.rows().keys() == {back, kept}
    assert lab_topic.dead_letters() == []


OPTIONAL = """
from typing import Annotated
from msgspec import Meta
from penstock.pipelines import Pipeline

class Maybe(users.User, frozen=True, kw_only=True):
    title: Annotated[str, Meta(max_length=9)] | None = None
    age: Annotated[int, Meta(ge=0, le=200)] | None = None
"""


@pytest.mark.parametrize(
    ("before", "more"),
    [(OPTIONAL, "record=Maybe"), (OPTIONAL + IDENTITY, "record=Maybe, transform=transform")],
    ids=["as it is", "transformed"],
)
def test_nulls_are_counted_by_field(
    topic: Callable[..., Topic], captured: list[dict[str, Any]], before: str, more: str
) -> None:
    """The summary says how many of the stored rows have null in an optional field."""
    lab_topic = topic(before, more)
    good = [users.from_source(entry) for entry in captured]
    titled = [msgspec.json.encode(fields | {"title": "Dr", "age": 5}) for fields in good[:4]]
    old = [msgspec.json.encode(fields | {"age": 5}) for fields in good[4:10]]
    lab_topic.send(*titled, *old, msgspec.json.encode(good[10] | {"title": "x" * 10}))
    summary = lab_topic.store()
    assert (summary.stored, summary.rejected, summary.nulls) == (10, 1, {"title": 6})


ADDS_A_COLUMN = """
from pyspark.sql import functions

class Row(users.User, frozen=True, kw_only=True):
    full_name: str

def transform(df):
    return df.withColumn("full_name", functions.concat_ws(" ", "first_name", "last_name"))
"""


def test_a_transform_can_add_a_column(topic: Callable[..., Topic], captured: list[dict[str, Any]]) -> None:
    """The table has the column, and every row its value; a bad record bypasses the transform."""
    lab_topic = topic(ADDS_A_COLUMN, "row=Row, transform=transform")
    lab_topic.send(*encoded(captured), b"{")
    summary = lab_topic.store()
    assert (summary.records, summary.stored, summary.rejected, summary.filtered) == (31, 30, 1, 0)
    for entry in captured:
        row = lab_topic.rows()[entry["login"]["uuid"]]
        assert row["full_name"] == f"{entry['name']['first']} {entry['name']['last']}"
        assert row["post_code"] == str(entry["location"]["postcode"])
    assert [letter.value() for letter in lab_topic.dead_letters()] == [b"{"]


FILTERS = """
def transform(df):
    return df.where("nationality = 'AU'")
"""


def test_a_transform_can_filter(topic: Callable[..., Topic], captured: list[dict[str, Any]]) -> None:
    """Dropped records are counted as filtered, not lost."""
    lab_topic = topic(FILTERS, "transform=transform")
    lab_topic.send(*encoded(captured))
    summary = lab_topic.store()
    australians = {entry["login"]["uuid"] for entry in captured if entry["nat"] == "AU"}
    assert lab_topic.rows().keys() == australians
    assert (summary.records, summary.stored, summary.filtered) == (30, len(australians), 30 - len(australians))


DOUBLES_AND_DROPS = """
def transform(df):
    half = df.where("nationality = 'AU'")
    return half.unionByName(half)
"""
INVENTS = """
from pyspark.sql import functions

def transform(df):
    return df.withColumn("kafka_offset", functions.col("kafka_offset") + 1000)
"""
LOSES = """
def transform(df):
    return df.drop("kafka_offset", "ingested_at")
"""


@pytest.mark.parametrize(
    ("before", "why"),
    [
        (DOUBLES_AND_DROPS, r"more than one row for the record at \d+:\d+"),
        (INVENTS, r"a row at \d+:1\d\d\d, which is not a record of the batch"),
        (LOSES, r"rows without kafka_offset and ingested_at"),
    ],
    ids=["doubles and drops", "invents", "loses"],
)
def test_a_transform_that_does_not_keep_records_apart_is_rejected(
    topic: Callable[..., Topic], captured: list[dict[str, Any]], before: str, why: str
) -> None:
    """Before anything is written: no stray row is stored, and dropped records do not hide duplicated ones."""
    lab_topic = topic(before, "transform=transform")
    lab_topic.send(*encoded(captured))
    with pytest.raises(TransformFailed, match=why):
        lab_topic.store()
    assert lab_topic.rows() == {}


BREAKS_THE_ROW = """
from pyspark.sql import functions

def transform(df):
    return df.withColumn("nationality", functions.lit("nowhere"))
"""


def test_a_record_with_an_invalid_transformed_row_is_dead_lettered_unchanged(
    topic: Callable[..., Topic], captured: list[dict[str, Any]]
) -> None:
    """The dead letter has the bytes in Kafka, and names the transform as the cause."""
    lab_topic = topic(BREAKS_THE_ROW, "transform=transform")
    value = encoded(captured)[0]
    lab_topic.send(value)
    summary = lab_topic.store()
    assert (summary.stored, summary.rejected) == (0, 1)
    (letter,) = lab_topic.dead_letters()
    assert letter.value() == value
    assert read_error_headers(letter)["stage"] == "transform"
    assert "nationality" in read_error_headers(letter)["message"]


@pytest.mark.parametrize(
    ("before", "more"), [("", ""), (IDENTITY, "transform=transform")], ids=["as it is", "transformed"]
)
def test_a_redriven_record_keeps_its_position(
    topic: Callable[..., Topic], captured: list[dict[str, Any]], before: str, more: str
) -> None:
    """It replaces no row of a newer version, in flight or stored, nor in a replay into an empty table; sent as new, it
    does.
    """
    lab_topic, user = topic(before, more), users.from_source(captured[0])
    record_id = str(user["id"])

    def send(nationality: str, **changes: str) -> None:
        lab_topic.send(msgspec.json.encode(user | {"nationality": nationality} | changes), key=record_id.encode())

    def redrive_all(*, as_new: bool = False) -> tuple[int, int]:
        with cassandra.open_session(lab_topic.settings) as session:
            mending = Repair({"email": "mended@example.org"})
            done = redrive(lab_topic.settings, session, DeadLetterSelection(), mending, as_new=as_new)
        return done.sent, done.superseded

    def stored() -> tuple[str, str]:
        lab_topic.store()
        row = lab_topic.rows()[record_id]
        return row["nationality"], row["email"]

    send("AA", email="nobody")
    assert lab_topic.store().rejected == 1
    send("BB")
    assert redrive_all() == (1, 0)
    assert stored() == ("BB", user["email"]), "the newer version was on its way"
    with cassandra.open_session(lab_topic.settings) as session:
        cassandra.truncate_table(session, lab_topic.settings, lab_topic.pipeline)
    assert stored() == ("BB", user["email"]), "all of the topic was read again"
    send("CC", email="nobody")
    lab_topic.store()
    send("DD")
    lab_topic.store()
    assert redrive_all() == (0, 1)
    assert stored() == ("DD", user["email"]), "the newer version was stored"
    send("EE", email="nobody")
    lab_topic.store()
    send("FF")
    lab_topic.store()
    assert redrive_all(as_new=True) == (1, 0)
    assert stored() == ("EE", "mended@example.org")
    send("GG", email="nobody")
    lab_topic.store()
    assert redrive_all() == (1, 0)
    assert stored() == ("GG", "mended@example.org"), "nothing newer came"


def test_the_public_functions_do_what_they_say(
    stack: Stack, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """spark_stream's functions return a Spark session, a Kafka stream, a Cassandra session, and decoded columns."""
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
        assert selected.columns[-3:] == ["_rejected", "_deleted", "_shift_us"]
        session = spark_stream.create_cassandra_connection()
        spark_stream.create_keyspace(session)
        spark_stream.create_table(session)
        assert "created_users" in session.cluster.metadata.keyspaces["spark_streams"].tables
        cassandra.close(session)
    finally:
        config.load.cache_clear()
