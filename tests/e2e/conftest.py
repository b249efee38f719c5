"""A stack for pipelines of their own, each with a Spark job of its own."""

from collections.abc import Iterator

import pytest

from tests.conftest import Stack, fresh_stack


@pytest.fixture(scope="session")
def zookeeper_stack() -> Iterator[Stack]:
    """Kafka with ZooKeeper, and what the pipeline needs next to it; its own Spark job ran, and released its cores."""
    for stack in fresh_stack("test-zookeeper", 20_000, "--coordination", "zookeeper", "spark-job"):
        assert stack.cli("down", "spark-job").returncode == 0
        yield stack
