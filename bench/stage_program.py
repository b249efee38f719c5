"""Run the pipeline up to one of its stages. The argument is a JSON object: stage, records.

The settings come from the environment. Their pipeline's topic must be filled and its table must exist.
"""

import json
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame

from bench.api import make_users, render_page
from bench.ingest_program import report_progress
from bench.target import Load, generate_messages
from penstock import config, pipelines
from penstock.broker.registry import Registry
from penstock.codec.encode import build_serializer
from penstock.codec.records import Decoder
from penstock.config import Settings
from penstock.contract.batch import Decoded
from penstock.contract.record import Record
from penstock.contract.rules import latest_past, validate_record
from penstock.pipeline.ingest import drop_fields
from penstock.pipelines.mapping import fields_of
from penstock.process.batches import decode_batches
from penstock.process.checkpoint import checkpoint_of
from penstock.process.session import kafka_stream, raw_records, spark_session
from penstock.sink import cassandra
from penstock.sink.rows import RowWriter, Unencodable
from penstock.source.answer import parse_users

CHUNK = 10_000
"""Records per batch, the same as Spark's Arrow batches."""
PAGE = 500

Step = Callable[[], int]
"""Processes the next records and returns their number."""


def main() -> None:
    """Process the requested number of records. Spark stages run until SIGTERM."""
    options, settings = json.loads(sys.argv[1]), config.load()
    if options["stage"] in SPARK_STAGES:
        run_spark_stage(settings, SPARK_STAGES[options["stage"]])
    step, done = STAGES[options["stage"]](settings), 0
    while done < options["records"]:
        done += step()
        report_progress(done)


def run_spark_stage(settings: Settings, stage: Callable[[DataFrame, int], int]) -> None:
    """Run a stage on each micro-batch, as the job does."""
    done = 0

    def process_batch(raw: DataFrame, _: int) -> None:
        nonlocal done
        done += stage(raw, settings.spark_cores)
        report_progress(done)

    topic = pipelines.of(settings).topic
    with spark_session(settings, "bench") as spark:
        records = raw_records(kafka_stream(spark, settings, topic))
        checkpoint = checkpoint_of(settings, topic, spark)
        records.writeStream.option("checkpointLocation", checkpoint.url).foreachBatch(
            process_batch
        ).start().awaitTermination()


def count_records(raw: DataFrame, _cores: int) -> int:
    """Count the records in Spark."""
    return int(raw.count())


def pass_to_python(raw: DataFrame, cores: int) -> int:
    """Pass the records from Spark to Python and count them there."""

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield pa.RecordBatch.from_pydict({"records": [sum(batch.num_rows for batch in batches)]})

    counted = raw.coalesce(cores).mapInArrow(count, "records BIGINT").collect()
    return sum(int(row["records"]) for row in counted)


def make_decode_step(settings: Settings) -> Step:
    """Return the step that decodes and validates records in Python."""
    decoded = _make_decoder(settings)
    return lambda: len(decoded().rows)


def make_encode_step(settings: Settings) -> Step:
    """Return the step that also encodes the records as CQL statements and batches."""
    pipeline, decoded = pipelines.of(settings), _make_decoder(settings)
    session = cassandra.connect(settings)
    writer = _Encoder(session, cassandra.declared_table(settings, pipeline), epoch_us=0, concurrency=1)

    def step() -> int:
        batch = decoded()
        writer.write(batch)
        return len(batch.rows)

    return step


class _Encoder(RowWriter):
    """Encodes all batches, but sends none."""

    def write(self, batch: Decoded) -> list[Unencodable]:
        for _ in self._iter_batches(list(self._iter_inserts(batch, batch.rows, now_ms=0))):
            pass
        return []


def _make_decoder(settings: Settings) -> Callable[[], Decoded]:
    pipeline = pipelines.of(settings)
    keys, values = zip(*islice(generate_messages(Load(0), settings, pipeline), CHUNK), strict=True)
    columns = {"key": keys, "value": values, "partition": [0] * CHUNK, "offset": range(CHUNK)}
    raw = pa.RecordBatch.from_pydict({**columns, "timestamp_ms": [0] * CHUNK, "order_header": [None] * CHUNK})
    decoder = Decoder(pipeline.record, Registry(settings))
    return lambda: next(decode_batches([raw], decoder, pipeline.topic))


def make_parse_step(_settings: Settings) -> Step:
    """Return the step that parses a page of the API."""
    page = render_page(make_users(PAGE))
    return lambda: len(parse_users(page, PAGE))


def make_drop_step(settings: Settings) -> Step:
    """Return the step that also drops secret fields such as passwords."""
    entries = _make_entries(settings)
    return lambda: len(entries())


def make_check_step(settings: Settings) -> Step:
    """Return the step that also converts entries to validated records."""
    records = _make_records(settings)
    return lambda: len(records())


def make_serialize_step(settings: Settings) -> Step:
    """Return the step that also serializes the records."""
    records = _make_records(settings)
    to_bytes = build_serializer(pipelines.of(settings).record, settings.wire_format, 1)
    return lambda: len([to_bytes(record) for record in records()])


def _make_entries(settings: Settings) -> Callable[[], list[Any]]:
    page, secret = render_page(make_users(PAGE)), pipelines.of(settings).secret

    def entries() -> list[Any]:
        users = parse_users(page, PAGE)
        drop_fields(secret, users)
        return users

    return entries


def _make_records(settings: Settings) -> Callable[[], list[Record]]:
    pipeline, entries = pipelines.of(settings), _make_entries(settings)

    def records() -> list[Record]:
        fields = (fields_of(pipeline.from_source(entry), pipeline.record) for entry in entries())
        results = (validate_record(values, pipeline.record, latest_past()) for values in fields)
        return [result for result in results if isinstance(result, Record)]

    return records


SPARK_STAGES = {"read": count_records, "hand-over": pass_to_python}
STAGES = {
    "decode": make_decode_step,
    "encode": make_encode_step,
    "parse": make_parse_step,
    "drop": make_drop_step,
    "check": make_check_step,
    "serialize": make_serialize_step,
}

if __name__ == "__main__":
    main()
