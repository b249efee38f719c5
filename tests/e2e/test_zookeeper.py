"""Kafka 3.9 with ZooKeeper, in a separate stack; and Avro instead of JSON, from the DAG to the rows."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.broker import topics
from penstock.broker.registry import Registry
from penstock.codec.wire_format import decode_schema_id
from tests.conftest import Stack, fresh_stack
from tests.e2e.carrying import carry
from tests.e2e.test_demo import check_rows_against_api


@pytest.fixture(scope="module")
def zookeeper_stack() -> Iterator[Stack]:
    """Kafka with ZooKeeper, and what the pipeline needs next to it; its own Spark job ran, and released its cores."""
    for stack in fresh_stack("test-zookeeper", 20_000, "--coordination", "zookeeper", "spark-job"):
        assert stack.cli("down", "spark-job").returncode == 0
        yield stack


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
    rows = carry(zookeeper_stack, file, captured_api, tmp_path, free_port)
    check_rows_against_api(rows, captured)
    values = [
        message.value()
        for message in topics.read_records(settings, file.stem, topics.fetch_offset_ranges(settings, file.stem))
    ]
    assert len(values) == 30
    assert {Registry(settings).writer(decode_schema_id(value)).wire_format for value in values} == {"avro"}
