"""Kafka 3.9 with ZooKeeper, in a separate stack; and Avro instead of JSON, from the DAG to the rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from penstock.broker import topics
from penstock.broker.registry import Registry
from penstock.codec.wire_format import decode_schema_id
from tests.conftest import Stack
from tests.e2e.carrying import carry
from tests.e2e.test_demo import check_rows_against_api, read_rows


def test_zookeeper_coordinates_kafka(zookeeper_stack: Stack) -> None:
    """ZooKeeper 3.8.4 and Kafka 3.9.2 run, and no KRaft controller."""
    versions = {service["name"]: service["version"] for service in zookeeper_stack.json("status", "zookeeper", "kafka")}
    assert versions == {"zookeeper": "3.8.4", "kafka": "3.9.2"}


def test_every_captured_user_arrives_with_every_field_as_avro(
    zookeeper_stack: Stack,
    pipeline_file: Callable[..., Path],
    captured: list[dict[str, Any]],
    captured_api: str,
    tmp_path: Path,
    free_port: int,
) -> None:
    """Setting PENSTOCK_WIRE_FORMAT=avro is enough; the values in Kafka are Avro with the id of a registered schema."""
    file, settings = pipeline_file(), zookeeper_stack.settings
    more = {"records": 30, "PENSTOCK_WIRE_FORMAT": "avro"}
    with carry(zookeeper_stack, file, captured_api, tmp_path, free_port, **more):
        check_rows_against_api(read_rows(zookeeper_stack, file.stem, file.stem), captured)
    values = [
        message.value()
        for message in topics.read_records(settings, file.stem, topics.fetch_offset_ranges(settings, file.stem))
    ]
    assert len(values) == 30
    assert {Registry(settings).writer(decode_schema_id(value)).wire_format for value in values} == {"avro"}
