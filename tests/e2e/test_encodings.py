"""Avro instead of JSON, from the DAG to the rows, on the stack with KRaft."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.broker import topics
from penstock.broker.frame import unpack
from penstock.broker.registry import Registry
from tests.conftest import Stack
from tests.e2e.carrying import carry
from tests.e2e.test_demo import check_rows_against_api


@pytest.fixture
def without_job(stack: Stack) -> Any:
    """The stack with its own Spark job stopped, so that its cores are free."""
    assert stack.cli("down", "spark-job").returncode == 0
    yield stack
    assert stack.cli("up", "spark-job").returncode == 0


def test_every_captured_user_arrives_with_every_field_as_avro(
    without_job: Stack,
    pipeline_file: Callable[..., Path],
    captured: list[dict[str, Any]],
    captured_api: str,
    tmp_path: Path,
    free_port: int,
) -> None:
    """PENSTOCK_WIRE_FORMAT=avro is all it takes; the values in Kafka are Avro, framed with a registered schema."""
    file = pipeline_file()
    rows = carry(without_job, file, "avro", captured_api, tmp_path, free_port)
    check_rows_against_api(rows, captured)
    spans = topics.spans(without_job.settings, file.stem)
    values = [message.value() for message in topics.records(without_job.settings, file.stem, spans)]
    assert len(values) == 30
    assert {Registry(without_job.settings).writer(unpack(value)).wire_format for value in values} == {"avro"}
