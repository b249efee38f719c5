"""The Spark job while a service is unavailable, and cqlsh on its table."""

import os
import subprocess
import sys

import pytest

from penstock.stack import catalog
from penstock.stack.environment import read_environment
from tests.conftest import ROOT, Stack


@pytest.mark.parametrize(
    ("setting", "service"), [("PENSTOCK_KAFKA_BOOTSTRAP", "Kafka"), ("PENSTOCK_CASSANDRA_PORT", "Cassandra")]
)
def test_the_job_exits_and_names_a_service_that_stays_unavailable(
    stack: Stack, free_port: int, setting: str, service: str
) -> None:
    """After a bounded wait: one message with the address, exit code 3, no traceback."""
    away = {setting: f"127.0.0.1:{free_port}" if service == "Kafka" else str(free_port), "PENSTOCK_SPARK_WAIT_S": "2"}
    done = subprocess.run(
        [sys.executable, "spark_stream.py"],
        env=os.environ | stack.environment | away,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    message = done.stderr[done.stderr.index("spark_stream: ") :]
    assert f"{service}: not ready after 2 s" in message
    assert str(free_port) in message
    assert "Traceback" not in done.stderr


def test_a_second_job_on_the_checkpoint_is_rejected(stack: Stack, free_port: int) -> None:
    """It waits for the lease to expire, names the process that holds it, exits with 1, and the first job continues."""
    first = stack.json("status", "spark-job")[0]["pid"]
    service = catalog.build_services(read_environment(stack.settings))["spark-job"]
    done = subprocess.run(
        [sys.executable, "spark_stream.py"],
        env=os.environ | dict(service.env) | {"PENSTOCK_SPARK_JOB_UI_PORT": str(free_port)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    message = done.stderr[done.stderr.index("spark_stream: ") :]
    assert f"another job owns the checkpoint {stack.settings.checkpoint}" in message
    assert f"process {first} on " in message
    assert "./penstock status spark-job" in message
    assert "Traceback" not in done.stderr
    assert stack.json("status", "spark-job")[0]["pid"] == first


def test_a_checkpoint_is_not_reset_under_a_running_job(stack: Stack) -> None:
    """The command exits with 1, and the checkpoint is unchanged."""
    before = stack.json("checkpoint", "show")
    refused = stack.cli("checkpoint", "reset", "--to", "latest", "--yes")
    assert refused.returncode == 1
    assert "another job owns the checkpoint" in refused.stderr
    after = stack.json("checkpoint", "show")
    assert (after["folder"], after["begun"], after["misfits"]) == (before["folder"], True, [])


def test_cqlsh_opens_the_keyspace(stack: Stack) -> None:
    """Arguments are passed to cqlsh; the table and the ledger exist."""
    done = stack.cli("cql", "-e", "DESCRIBE TABLES")
    assert done.returncode == 0, done.stderr
    assert {"created_users", "ledger", "generations"} <= set(done.stdout.split())


def test_an_id_without_a_row_exits_with_1(stack: Stack) -> None:
    """And an invalid id with 2."""
    assert stack.cli("row", "00000000-0000-4000-8000-00000000dead").returncode == 1
    assert stack.cli("row", "nobody").returncode == 2
