"""Program that runs the pipeline up to one of its stages. Its argument is a JSON object: stage, records.

The settings come from the environment. They name a pipeline whose topic is filled and whose table exists.
"""

import json
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame

from bench.api import made_users, page_of
from bench.ground import Load, messages
from bench.ingesting import tell
from penstock import config, pipelines
from penstock.broker.registry import Registry
from penstock.config import Settings
from penstock.contract.batch import Decoded
from penstock.contract.record import Record
from penstock.contract.rules import latest_past, validate_record
from penstock.pipeline.ingest import drop_fields
from penstock.process.batches import decode_batches
from penstock.process.checkpoint import checkpoint_of
from penstock.process.decode import Decoder
from penstock.process.session import kafka_stream, raw_records, spark_session
from penstock.produce.serialize import build_serializer
from penstock.sink import cassandra
from penstock.sink.rows import RowWriter, Unencodable
from penstock.source.answer import parse_users

CHUNK = 10_000
"""Records per batch, the same as Spark's Arrow batches."""
PAGE = 500

Step = Callable[[], int]
"""Processes the next records and returns how many."""


def main() -> None:
    """Process the requested number of records; Spark stages run until SIGTERM."""
    options, settings = json.loads(sys.argv[1]), config.load()
    if options["stage"] in SPARK_STAGES:
        stream(settings, SPARK_STAGES[options["stage"]])
    step, done = STAGES[options["stage"]](settings), 0
    while done < options["records"]:
        done += step()
        tell(done)


def stream(settings: Settings, stage: Callable[[DataFrame, int], int]) -> None:
    """Run a stage on each micro-batch, as the job does."""
    done = 0

    def keep(raw: DataFrame, _: int) -> None:
        nonlocal done
        done += stage(raw, settings.spark_cores)
        tell(done)

    topic = pipelines.of(settings).topic
    with spark_session(settings, "bench") as spark:
        records = raw_records(kafka_stream(spark, settings, topic))
        checkpoint = checkpoint_of(settings, topic, spark)
        records.writeStream.option("checkpointLocation", checkpoint.url).foreachBatch(keep).start().awaitTermination()


def read(raw: DataFrame, _cores: int) -> int:
    """Read the records in Spark."""
    return int(raw.count())


def hand_over(raw: DataFrame, cores: int) -> int:
    """Pass the records from Spark to Python."""

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield pa.RecordBatch.from_pydict({"records": [sum(batch.num_rows for batch in batches)]})

    counted = raw.coalesce(cores).mapInArrow(count, "records BIGINT").collect()
    return sum(int(row["records"]) for row in counted)


def decode(settings: Settings) -> Step:
    """Decode and validate records in Python."""
    decoded = _make_decoder(settings)
    return lambda: len(decoded().rows)


def encode(settings: Settings) -> Step:
    """Decode and validate records, and encode them as CQL statements and batches."""
    pipeline, decoded = pipelines.of(settings), _make_decoder(settings)
    session = cassandra.connect(settings)
    keyspace = settings.cassandra_keyspace
    writer = _Encoder(session, keyspace, pipeline.table, pipeline.stored, epoch_us=0, concurrency=1)

    def step() -> int:
        batch = decoded()
        writer.write(batch)
        return len(batch.rows)

    return step


class _Encoder(RowWriter):
    """Encodes all batches but sends none."""

    def write(self, batch: Decoded) -> list[Unencodable]:
        for _ in self._iter_batches(list(self._iter_inserts(batch.rows, self._times_us(batch, batch.rows)))):
            pass
        return []


def _make_decoder(settings: Settings) -> Callable[[], Decoded]:
    pipeline = pipelines.of(settings)
    keys, values = zip(*islice(messages(Load(0), settings, pipeline), CHUNK), strict=True)
    columns = {"key": keys, "value": values, "partition": [0] * CHUNK, "offset": range(CHUNK)}
    raw = pa.RecordBatch.from_pydict({**columns, "timestamp_ms": [0] * CHUNK, "order_header": [None] * CHUNK})
    decoder = Decoder(pipeline.record, Registry(settings))
    return lambda: next(decode_batches([raw], decoder, pipeline.topic))


def parse(_settings: Settings) -> Step:
    """Parse a page of the API."""
    page = page_of(made_users(PAGE))
    return lambda: len(parse_users(page, PAGE))


def drop_secrets(settings: Settings) -> Step:
    """Parse a page and drop secret fields such as passwords."""
    entries = _make_entries(settings)
    return lambda: len(entries())


def check(settings: Settings) -> Step:
    """Parse a page, drop secrets, and convert entries to validated records."""
    records = _make_records(settings)
    return lambda: len(records())


def serialize(settings: Settings) -> Step:
    """Parse a page, drop secrets, convert entries to validated records, and serialize those."""
    records = _make_records(settings)
    to_bytes = build_serializer(pipelines.of(settings).record, settings.wire_format, 1)
    return lambda: len([to_bytes(record) for record in records()])


def _make_entries(settings: Settings) -> Callable[[], list[Any]]:
    page, secret = page_of(made_users(PAGE)), pipelines.of(settings).secret

    def entries() -> list[Any]:
        answer = parse_users(page, PAGE)
        drop_fields(secret, answer)
        return answer

    return entries


def _make_records(settings: Settings) -> Callable[[], list[Record]]:
    pipeline, entries = pipelines.of(settings), _make_entries(settings)

    def records() -> list[Record]:
        results = (validate_record(pipeline.from_source(entry), pipeline.record, latest_past()) for entry in entries())
        return [result for result in results if isinstance(result, Record)]

    return records


SPARK_STAGES = {"read": read, "hand-over": hand_over}
STAGES = {
    "decode": decode,
    "encode": encode,
    "parse": parse,
    "drop": drop_secrets,
    "check": check,
    "serialize": serialize,
}

if __name__ == "__main__":
    main()
