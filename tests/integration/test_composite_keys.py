"""Identities of several fields through the real Kafka, registry, Spark and Cassandra."""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from io import BytesIO
from typing import Any

import fastavro
import msgspec
import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from penstock.broker.kafka import create_producer
from penstock.codec.wire_format import encode_header
from penstock.contract import cql
from penstock.contract.identity import identity_of
from penstock.contract.primary_key import PrimaryKey, month_of
from penstock.contract.record import Record
from penstock.dead_letters.message import read_error_headers
from penstock.errors import PenstockError
from penstock.pipeline import job
from penstock.sink import cassandra
from tests.integration.streaming import Topic

SERIES = """
from datetime import datetime
from typing import Annotated
from msgspec import Meta
from penstock.contract.primary_key import PrimaryKey, bucket, day_of
from penstock.contract.record import KEY, Record

class Sample(Record, frozen=True, kw_only=True):
    sensor: Annotated[str, Meta(min_length=1, max_length=100, extra=KEY)]
    at: Annotated[datetime, Meta(tz=True, extra=KEY)]
    celsius: float
    note: str | None = None

BY_DAY = PrimaryKey(partition=("sensor", day_of("at")), clustering=("at DESC",))
"""
EVERY_TYPE = """
from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID
from msgspec import Meta
from penstock.contract.primary_key import PrimaryKey, bucket, hour_of, month_of
from penstock.contract.record import KEY, Record

class Side(StrEnum):
    BUY = "buy"
    SELL = "sell-short"

class Keyed(Record, frozen=True, kw_only=True):
    name: Annotated[str, Meta(min_length=1, max_length=100, extra=KEY)]
    side: Annotated[Side, Meta(extra=KEY)]
    size: Annotated[Literal["S", "M"], Meta(extra=KEY)]
    number: Annotated[int, Meta(ge=-9, le=9, extra=KEY)]
    count: Annotated[int, Meta(extra=KEY)]
    id: Annotated[UUID, Meta(extra=KEY)]
    day: Annotated[date, Meta(extra=KEY)]
    at: Annotated[datetime, Meta(tz=True, extra=KEY)]
    text: str = msgspec.field(name="itsText")

KEY_OF_ALL = PrimaryKey(
    partition=("name", bucket("id", 16), hour_of("at"), month_of("day"), "side"),
    clustering=("size", "number DESC", "count", "id", "day DESC", "at"),
)
"""
TRANSFORM = """
def transform(df):
    return df
"""
DEFINITION = "from_source=dict, secret=frozenset(), "
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
KEY_SCHEMA = {
    "type": "record",
    "name": "SampleKey",
    "fields": [
        {"name": "sensor", "type": "string"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    ],
}

Sent = tuple[bytes, bytes | None]


def send(topic: Topic, records: Iterable[Sent], at_ms: int | None = None) -> None:
    """Send the records to one partition, in which their order is known."""
    client, more = create_producer(topic.settings), {} if at_ms is None else {"timestamp": at_ms}
    for key, value in records:
        client.produce(topic.pipeline.topic, value, key, partition=0, **more)
    assert client.flush(60) == 0


def sample_of(sensor: str, at: datetime | str, celsius: float, **more: Any) -> bytes:
    return msgspec.json.encode({"sensor": sensor, "at": at, "celsius": celsius} | more)


def text_of(sensor: str, at: datetime) -> bytes:
    """The key that our own producer writes."""
    return msgspec.json.encode(
        {"at": at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03}Z", "sensor": sensor}
    )


def connect(key: bytes) -> bytes:
    """The key as Kafka Connect writes it with its schema."""
    return b'{"schema":{"type":"struct","optional":false,"name":"lab.samples.Key"},"payload":%b}' % key


def avro_key(topic: Topic, sensor: str, at: datetime) -> bytes:
    """The key as a client of the schema registry writes it."""
    client = SchemaRegistryClient({"url": topic.settings.registry_url})
    schema_id = client.register_schema(
        f"{topic.pipeline.topic}-key", Schema(json.dumps(KEY_SCHEMA), schema_type="AVRO")
    )
    body = BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(KEY_SCHEMA), {"sensor": sensor, "at": at})
    return encode_header(int(schema_id)) + body.getvalue()


def rows_of(topic: Topic) -> dict[tuple[str, datetime], dict[str, Any]]:
    """Every row, by its identity."""
    with cassandra.open_session(topic.settings) as session:
        query = f"SELECT * FROM {topic.pipeline.keyspace}.{topic.pipeline.table}"
        return {(row["sensor"], row["at"].replace(tzinfo=UTC)): row for row in session.execute(query)}


def send_versions(topic: Topic) -> dict[tuple[str, datetime], tuple[float, date]]:
    """Send versions, tombstones in each format, and bad ones; return the rows that must result."""
    second, midnight = NOON + timedelta(seconds=1), datetime(2026, 2, 1, tzinfo=UTC)
    east, before_1970 = "2026-01-31T14:00:00+02:00", datetime(1969, 12, 31, 23, 59, 59, 999_000, UTC)
    spelled = b' { "sensor": "a", "at": "2026-01-31T12:00:00Z" }'
    send(
        topic,
        [
            (text_of("a", NOON), sample_of("a", NOON, 1.0, note="first")),
            (spelled, sample_of("a", east, 2.0)),
            (text_of("a", second), sample_of("a", second, 3.0)),
            (text_of("a", midnight), sample_of("a", midnight, 4.0)),
            (text_of("a", before_1970), sample_of("a", before_1970, 5.0)),
            *((text_of(sensor, NOON), sample_of(sensor, NOON, 6.0)) for sensor in ("b", "c", "d", "e", "f")),
            (text_of("b", NOON), None),
            (connect(text_of("c", NOON)), None),
            (avro_key(topic, "d", NOON), None),
            (text_of("e", second), None),
            (text_of("g", NOON), None),
            (text_of("g", NOON), sample_of("g", NOON, 7.0)),
            (b"f", None),
            (b'{"sensor":"f"}', None),
            (text_of("h", NOON), sample_of("h", "2026-01-31T12:00:00.0005Z", 8.0)),
            (text_of("i", NOON), sample_of("i", "2026-01-31T12:00:00.0009999996Z", 8.0)),
        ],
    )
    day = NOON.date()
    return {
        ("a", NOON): (2.0, day),
        ("a", second): (3.0, day),
        ("a", midnight): (4.0, midnight.date()),
        ("a", before_1970): (5.0, before_1970.date()),
        ("e", NOON): (6.0, day),
        ("f", NOON): (6.0, day),
        ("g", NOON): (7.0, day),
    }


@pytest.mark.parametrize("more", ["", "transform=transform"], ids=["as it is", "transformed"])
def test_each_version_and_tombstone_finds_its_row(topic: Callable[..., Topic], more: str) -> None:
    """However a key or a moment is written; all versions are in one batch, which is written twice."""
    series = topic(SERIES + TRANSFORM, f"record=Sample, {DEFINITION} primary_key=BY_DAY, {more}")
    expected = send_versions(series)
    summary = series.store()
    assert (summary.records, summary.stored, summary.deleted, summary.rejected) == (20, 11, 5, 4)
    rows = rows_of(series)
    assert {key: (row["celsius"], row["at_day"].date()) for key, row in rows.items()} == expected
    assert rows["a", NOON]["note"] is None
    facts = [read_error_headers(letter) for letter in series.dead_letters()]
    assert sorted((each["reason"], each["rules"]) for each in facts) == [
        ("contract_broken", "at:format"),
        ("contract_broken", "at:format"),
        ("value_missing", ""),
        ("value_missing", ""),
    ]
    series.store()
    assert rows_of(series) == rows


def test_a_table_is_as_declared(topic: Callable[..., Topic]) -> None:
    """Cassandra orders a partition by the clustering column, places it by our bytes, and keeps the derivations."""
    series = topic(SERIES, f"record=Sample, {DEFINITION} primary_key=BY_DAY")
    send_versions(series)
    series.store()
    pipeline, settings = series.pipeline, series.settings
    table = cassandra.declared_table(settings, pipeline)
    with cassandra.open_session(settings) as session:
        day = f"SELECT at FROM {cql.render_name(table)} WHERE sensor = 'a' AND at_day = '2026-01-31'"
        moments = [row["at"] for row in session.execute(day)]
        assert moments == sorted(moments, reverse=True)
        assert len(moments) == 2
        query = f"SELECT {cql.render_token(table)} AS at_token FROM {cql.render_name(table)}"
        found = session.execute(f"{query} WHERE {cql.render_key_condition(table, '%s')}", table.key_values(("g", NOON)))
        token_of = session.cluster.metadata.token_map.token_class.from_key
        assert found.one()["at_token"] == token_of(table.routing_key(("g", NOON))).value
        job.check_table(session, settings, pipeline)
        by_month = PrimaryKey(("sensor", month_of("at", column="at_day")), ("at DESC",))
        with pytest.raises(PenstockError, match="penstock derives at_day = day_of"):
            job.check_table(session, settings, replace(pipeline, primary_key=by_month))


def keyed_of(record: type[Record], number: int, at: datetime) -> Record:
    """A record with a key of every type."""
    values = {
        "name": 'Zoë "\\',
        "side": "sell-short" if number % 2 else "buy",
        "size": "S",
        "number": number,
        "count": 2**62 + number,
        "id": "0a1b2c3d-0000-4000-8000-00000000abcd",
        "day": "1969-12-31",
        "at": at,
        "itsText": f"text {number}",
    }
    return msgspec.convert(values, record)


@pytest.mark.parametrize("more", ["", "transform=transform"], ids=["as it is", "transformed"])
def test_a_key_may_have_every_type(topic: Callable[..., Topic], more: str) -> None:
    """A tombstone with the key that our producer writes deletes the row, among rows that differ in one value."""
    before = f"import msgspec\n{EVERY_TYPE}{TRANSFORM}"
    keyed = topic(before, f"record=Keyed, {DEFINITION} primary_key=KEY_OF_ALL, {more}")
    identity = identity_of(keyed.pipeline.record)
    records = [keyed_of(keyed.pipeline.record, number, NOON + timedelta(hours=number)) for number in range(-3, 4)]
    send(keyed, [(identity.key_of(record), msgspec.json.encode(record)) for record in records])
    send(keyed, [(identity.key_of(record), None) for record in records[::2]])
    summary = keyed.store()
    assert (summary.records, summary.stored, summary.deleted, summary.rejected) == (11, 7, 4, 0)
    with cassandra.open_session(keyed.settings) as session:
        rows = list(session.execute(f"SELECT * FROM {keyed.pipeline.keyspace}.{keyed.pipeline.table}"))
    assert {row["text"] for row in rows} == {"text -2", "text 0", "text 2"}
    assert {row["day_month"].date() for row in rows} == {date(1969, 12, 1)}
    assert {row["at_hour"] for row in rows} == {(NOON + timedelta(hours=h)).replace(tzinfo=None) for h in (-2, 0, 2)}


def test_of_versions_with_one_timestamp_the_last_is_stored_whole(topic: Callable[..., Topic]) -> None:
    """In one batch, with a moment in two zones: Cassandra would mix the columns of the two."""
    series = topic(SERIES, f"record=Sample, {DEFINITION} primary_key=BY_DAY, order_by='timestamp'")
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    first = sample_of("a", "2026-01-31T14:00:00+02:00", 9.0, note="first")
    send(series, [(text_of("a", NOON), first), (text_of("a", NOON), sample_of("a", NOON, 1.0))], now_ms)
    assert series.store().stored == 2
    (row,) = rows_of(series).values()
    assert (row["celsius"], row["note"]) == (1.0, None)
