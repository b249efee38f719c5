"""Open the Spark sessions of commands."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from penstock.config import Settings


@contextmanager
def open_local_spark(settings: "Settings", name: str, cores: int = 1) -> Iterator["SparkSession"]:
    """Start a local Spark in this process, because the cluster's cores are used by the stream."""
    with _open_session(settings.model_copy(update={"spark_master": f"local[{cores}]"}), name) as spark:
        yield spark


@contextmanager
def open_cluster_spark(settings: "Settings", name: str) -> Iterator["SparkSession"]:
    """Start an application on `settings.spark_master`; in this process where that is the local stack's master."""
    from penstock.config import LOOPBACK

    if f"//{LOOPBACK}" in settings.spark_master:
        with open_local_spark(settings, name, settings.spark_cores) as spark:
            yield spark
    else:
        with _open_session(settings, name) as spark:
            wait_for_executor(spark, settings)
            yield spark


def wait_for_executor(spark: "SparkSession", settings: "Settings") -> None:
    """Return once the application has an executor. Raises `Unreachable` if it has none after the wait."""
    from penstock.errors import Unreachable
    from penstock.retry import wait_until

    def check() -> None:
        if not count_executors(spark):
            raise Unreachable(
                f"the cluster at {settings.spark_master} has no free cores or memory",
                hint="set PENSTOCK_SPARK_CORES and PENSTOCK_SPARK_EXECUTOR_MEMORY_MIB lower, or add a worker",
            )

    wait_until(check, timeout_s=settings.spark_wait_s, what="an executor")


def count_executors(spark: "SparkSession") -> int:
    """Return how many executors the application has, without its driver."""
    return len(spark.sparkContext._jsc.sc().statusTracker().getExecutorInfos()) - 1


@contextmanager
def _open_session(settings: "Settings", name: str) -> Iterator["SparkSession"]:
    from penstock.stack.services.spark import build_env_from_settings

    if "SPARK_CONF_DIR" not in os.environ:
        os.environ.update(build_env_from_settings(settings))
    from penstock.process.session import spark_session

    with spark_session(settings.model_copy(update={"spark_job_ui_port": 0}), name) as spark:
        yield spark
