"""The whole path, as a user runs it: API, Airflow, Kafka, Spark, Cassandra."""

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil

from penstock.broker import topics
from penstock.broker.kafka import create_producer
from penstock.errors import Unreachable
from penstock.pipelines import users
from penstock.retry import wait_until
from penstock.sink import cassandra
from penstock.sink.progress import Batch, Progress
from tests.conftest import ROOT, Stack

RECEIPT_KEYS = {
    "asked",
    "fetched",
    "produced",
    "stored",
    "rejected",
    "missing",
    "latency_ms",
    "dag_run_state",
    "seconds",
}


def check_rows_against_api(rows: dict[str, dict[str, Any]], captured: list[dict[str, Any]]) -> None:
    """Every column of every row is the API's value."""
    assert len(captured) == 30
    for entry in captured:
        row, place = rows[entry["login"]["uuid"]], entry["location"]
        street = f"{place['street']['number']} {place['street']['name']}"
        expected = {
            "first_name": entry["name"]["first"],
            "last_name": entry["name"]["last"],
            "gender": entry["gender"],
            "address": f"{street}, {place['city']}, {place['state']}, {place['country']}",
            "post_code": str(place["postcode"]),
            "email": entry["email"],
            "username": entry["login"]["username"],
            "dob": _cql_time(entry["dob"]["date"]),
            "registered_date": _cql_time(entry["registered"]["date"]),
            "phone": entry["phone"],
            "picture": entry["picture"]["large"],
            "nationality": entry["nat"],
        }
        assert {name: row[name] for name in expected} == expected
        assert set(row) == {"id", *expected, "ingested_at", "kafka_partition", "kafka_offset"}
        secrets = {entry["login"][name] for name in ("password", "salt", "md5", "sha1", "sha256")}
        assert not secrets & {str(value) for value in row.values()}


def _cql_time(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=None)


def read_rows(stack: Stack, keyspace: str, table: str) -> dict[str, dict[str, Any]]:
    with cassandra.open_session(stack.settings) as session:
        return {str(row["id"]): row for row in session.execute(f"SELECT * FROM {keyspace}.{table}")}


def batches(stack: Stack) -> list[Batch]:
    """The stream's newest batches, once one was recorded in the last minute."""

    def kept() -> None:
        with cassandra.open_session(stack.settings) as session:
            result[:] = Progress(session, "spark_streams", "users_created").batches(20)
        if not result or datetime.now(UTC) - result[0].began_at > timedelta(minutes=1):
            raise Unreachable("no batch was kept lately")

    result: list[Batch] = []
    wait_until(kept, timeout_s=20, every_s=0.5, what="batches")
    return result


def test_each_batch_is_recorded_with_its_phases(stack: Stack) -> None:
    """Rows, phases and end offsets of each micro-batch are kept; the ledger has the latency of each stored row."""
    stack.json("run", "--records", "20")
    newest = batches(stack)[0]
    assert newest.rows > 0
    assert newest.durations_ms["addBatch"] <= newest.durations_ms["triggerExecution"]
    assert sum(newest.positions.values()) >= 20
    with cassandra.open_session(stack.settings) as session:
        lines = list(session.execute("SELECT stored, latencies FROM spark_streams.ledger"))
    assert all(sum((line["latencies"] or {}).values()) == line["stored"] for line in lines)


def test_the_job_keeps_the_proven_key_formats(stack: Stack) -> None:
    """Our producer writes ids as text: the first batch proves that format for all later tombstones."""
    stack.json("run", "--records", "20")
    with cassandra.open_session(stack.settings) as session:
        rows = session.execute("SELECT topic, shape FROM spark_streams.key_formats")
        assert {row["shape"] for row in rows if row["topic"] == "users_created"} == {"assumed", "text"}


def test_a_run_stores_every_record_and_reports_it(stack: Stack) -> None:
    """`run --json` returns the receipt of a run in which nothing is missing, with the times of each stage in order."""
    result = stack.json("run", "--records", "300")
    assert set(result) >= RECEIPT_KEYS
    assert {name: result[name] for name in ("asked", "fetched", "produced", "stored")} == dict.fromkeys(
        ("asked", "fetched", "produced", "stored"), 300
    )
    assert (result["rejected"], result["missing"], result["dag_run_state"]) == (0, 0, "success")
    assert 0 < result["latency_ms"]["p50"] <= result["latency_ms"]["p99"]
    moments = [
        datetime.fromisoformat(result["stages"][name]) for name in ("triggered", "started", "produced", "stored")
    ]
    assert moments == sorted(moments)


def test_every_captured_user_arrives_with_every_field(
    stack: Stack, captured: list[dict[str, Any]], captured_api: str
) -> None:
    """The real API's response passes through Airflow's DAG, Kafka and Spark into Cassandra unchanged, as JSON."""
    result = stack.json("run", "--records", "30", "--source", captured_api)
    assert (result["produced"], result["stored"], result["missing"]) == (30, 30, 0)
    check_rows_against_api(read_rows(stack, "spark_streams", "created_users"), captured)
    shown = stack.json("row", captured[0]["login"]["uuid"])
    assert shown["post_code"] == str(captured[0]["location"]["postcode"])


def test_a_plain_json_record_of_another_producer_is_stored_and_a_bad_one_dead_lettered(
    stack: Stack, captured: list[dict[str, Any]]
) -> None:
    """Values without a wire-format header are read; those that break the contract are counted as rejected."""
    before = stack.json("verify")
    fields = users.from_source(captured[0]) | {"id": "00000000-0000-4000-8000-000000000001", "first_name": "Foreign"}
    client = create_producer(stack.settings)
    client.produce("users_created", value=json.dumps(fields).encode(), key=fields["id"].encode())
    client.produce("users_created", value=b'{"id": "no uuid"}', key=b"bad")
    assert client.flush(30) == 0
    after = balanced(stack)
    assert after["stored"] == before["stored"] + 1
    assert after["rejected"] == before["rejected"] + 1
    assert stack.json("row", fields["id"])["first_name"] == "Foreign"


def balanced(stack: Stack) -> dict[str, Any]:
    """The whole topic's receipt, once nothing is in flight."""
    from penstock.errors import Unreachable

    def probe() -> dict[str, Any]:
        result: dict[str, Any] = stack.json("verify")
        if result["waiting"]:
            raise Unreachable(f"{result['waiting']} waiting")
        return result

    receipt = wait_until(probe, timeout_s=120, what="every record to be stored")
    assert receipt["balanced"]
    assert receipt["produced"] == receipt["stored"] + receipt["rejected"]
    assert receipt["rows"] == receipt["distinct_ids"]
    for partition in receipt["partitions"]:
        assert partition["produced"] == partition["end"] - partition["first"]
    return receipt


def test_the_job_resumes_after_a_stop_in_the_middle(stack: Stack) -> None:
    """Records sent while the job stops and restarts are all stored, once, and the job stopped gracefully."""
    before = balanced(stack)
    run = subprocess.Popen(
        [sys.executable, "-m", "penstock.cli", "run", "--records", "3000", "--json"],
        env=os.environ | stack.environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    stop = stack.cli("restart", "spark-job")
    assert stop.returncode == 0, stop.stderr
    output, _ = run.communicate(timeout=300)
    assert run.returncode == 0, output
    assert json.loads(output)["stored"] == 3000
    after = balanced(stack)
    assert after["produced"] - before["produced"] == 3000
    assert after["rows"] - before["rows"] == 3000
    assert "stopped" in stack.cli("logs", "spark-job", "-n", "400").stdout


def test_the_job_resumes_after_a_kill_in_the_middle(stack: Stack) -> None:
    """kill -9 of the driver: the supervisor restarts it, and nothing is missing or duplicated."""
    before = balanced(stack)
    (job,) = [service for service in stack.json("status") if service["name"] == "spark-job"]
    run = subprocess.Popen(
        [sys.executable, "-m", "penstock.cli", "run", "--records", "3000", "--json"],
        env=os.environ | stack.environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: _sent_some(stack, before["produced"]), timeout_s=120, what="the first record of the run")
    psutil.Process(job["pid"]).send_signal(signal.SIGKILL)
    output, _ = run.communicate(timeout=300)
    assert run.returncode == 0, output
    after = balanced(stack)
    assert after["rows"] - before["rows"] == 3000


def _sent_some(stack: Stack, before: int) -> None:
    from penstock.errors import Unreachable

    if sum(span.end for span in topics.fetch_offset_ranges(stack.settings, "users_created")) <= before:
        raise Unreachable("nothing was sent yet")


def test_demo_on_a_running_stack_shows_rows_pages_and_receipt(stack: Stack) -> None:
    """The command is the README's, unchanged."""
    done = stack.cli("demo", "--records", "20")
    assert done.returncode == 0, done.stderr
    for text in ("receipt", "missing", "first_name", "web page", "Airflow", "./penstock down"):
        assert text in done.stdout + done.stderr
