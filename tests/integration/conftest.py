"""Fixtures of the integration tests: a Spark session, and topics with pipelines of their own."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from penstock.config import Settings
from tests.conftest import Stack

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from tests.integration.streaming import Topic


@pytest.fixture(scope="module")
def spark(stack: Stack) -> "Iterator[SparkSession]":
    """A Spark session with two threads and the stack's configuration and jars."""
    from penstock.process.session import spark_session

    os.environ["SPARK_CONF_DIR"] = str(stack.settings.home / "run" / "spark-conf")
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    local = stack.settings.model_copy(update={"spark_master": "local[2]", "spark_job_ui_port": 0})
    with spark_session(local, "tests") as session:
        yield session
    del os.environ["SPARK_CONF_DIR"], os.environ["SPARK_LOCAL_IP"]


@pytest.fixture
def topic(settings: Settings, spark: "SparkSession", pipeline_file: Callable[..., Path]) -> "Callable[..., Topic]":
    """Return a factory of topics, each with its own pipeline; arguments go into the pipeline's file."""
    from tests.integration.streaming import Topic

    return lambda before="", more="": Topic(settings, pipeline_file(before, more), spark)
