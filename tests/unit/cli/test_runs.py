import re
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import pytest
from typer.testing import CliRunner

from penstock.cli import app
from penstock.cli import spark as command_spark
from penstock.cli import stack as stack_commands
from penstock.errors import KafkaUnreachable, Unreachable, UsageError
from penstock.reconcile import receipt, trace, verify
from penstock.reconcile.acknowledged import Acknowledged
from penstock.reconcile.audit import Balance
from penstock.reconcile.engine import local_loader
from penstock.reconcile.nulls import Nulls
from penstock.reconcile.receipt import RunReceipt
from penstock.reconcile.trace import Passage, TraceStep
from penstock.reconcile.verify import Difference, TopicReceipt
from penstock.sink import cassandra

LOST = {"partition": 2, "offset": 7, "id": "abc", "why": "the ledger went past it"}
RUN = RunReceipt(
    run_id="r1",
    dag_run_state="success",
    asked=500,
    fetched=500,
    produced=499,
    stored=498,
    rejected=2,
    filtered=0,
    missing=0,
    latency_ms={"p50": 300, "p99": None},
    stages={"triggered": "2025-01-01T00:00:00Z", "stored": None},
    seconds=12.3,
    missing_records=[],
)
DIFFERENCE = Difference("missing", 2, 7, "abc", "the ledger went past it")
TOPIC = TopicReceipt(
    topic="users_created",
    at="2026-01-01T00:00:00.000+00:00",
    since=None,
    balanced=True,
    produced=9,
    stored=6,
    deleted=1,
    deleted_nothing=1,
    rejected=1,
    filtered=0,
    waiting=1,
    missing=0,
    doubled=0,
    reread=0,
    refused=2,
    queue={"waiting": 1, "redriven": 2, "discarded": 0},
    rows=6,
    distinct_ids=6,
    older_rows=0,
    acknowledged=Acknowledged(3, 9, 2),
    nulls={"id": Nulls(0.0, None, None), "title": Nulls(0.5, 0.75, 0.25), "age": Nulls(0.125, None, None)},
    counts={"": 6},
    counted={0: 9},
    generation_us=1,
    warnings=[],
    partitions=[Balance(0, 0, 9, produced=9, stored=6, deleted=1, rejected=1, waiting=1)],
    differences=[],
    differences_found=0,
    seconds=0.1,
)
UNBALANCED = replace(TOPIC, balanced=False, missing=1, differences=[DIFFERENCE], differences_found=130)
STORED = Passage(
    0, 5, "stored", [TraceStep("fetched", None, "run r1"), TraceStep("produced", "2026-01-01T00:00", "p 0")]
)


class World:
    """Records what the commands do, in order, and returns receipts."""

    def __init__(self) -> None:
        self.done: list = []
        self.run, self.topic = RUN, TOPIC
        self.passages = [STORED]
        self.of_row = None

    def give(self, settings, session, parameters, report):
        self.done.append(parameters)
        report("on its way")
        if isinstance(self.run, Exception):
            raise self.run
        return self.run

    def verify(self, settings, session, since=None, open_loader=None):
        self.open_loader = open_loader
        self.done.append(since)
        return self.topic

    def trace(self, settings, session, text):
        self.done.append(text)
        return self.passages


@pytest.fixture
def world(monkeypatch):
    world = World()
    monkeypatch.setattr(cassandra, "open_session", lambda _settings: nullcontext())
    monkeypatch.setattr(receipt, "run_and_reconcile", world.give)
    monkeypatch.setattr(verify, "verify", world.verify)
    monkeypatch.setattr(trace, "trace_record", world.trace)
    monkeypatch.setattr(trace, "trace_row", lambda *_: world.of_row)
    monkeypatch.setattr(stack_commands, "start_stack", lambda _settings: world.done.append("up"))
    monkeypatch.setattr(stack_commands, "stop_stack", lambda _settings: world.done.append("down"))
    monkeypatch.setattr("penstock.cli.data.print_rows", lambda _settings, limit: world.done.append(f"{limit} rows"))
    return world


def run(*words):
    return CliRunner().invoke(app, list(words))


def test_run_prints_the_receipt(world):
    """`run` requests 500 records by default and prints the receipt on stdout, progress on stderr."""
    result = run("run")
    assert (result.exit_code, result.stderr) == (0, "on its way\n")
    assert world.done == [{"records": 500, "source_url": None}]
    results = shown(result.stdout)
    assert (results["asked"], results["stored"], results["rejected"], results["missing"]) == ("500", "498", "2", "0")
    assert results["run"] == "r1 (success)"
    assert "p50 300 ms" in results["latency"]


@pytest.mark.parametrize("command", ["run", "demo"])
def test_json_is_one_object_with_the_promised_keys(world, command):
    """With --json stdout is one object with stable keys."""
    result = run(command, "--json")
    document = msgspec.json.decode(result.stdout)
    assert {
        "asked",
        "fetched",
        "produced",
        "stored",
        "rejected",
        "missing",
        "latency_ms",
        "dag_run_state",
        "seconds",
    } <= document.keys()
    assert document["latency_ms"].keys() == {"p50", "p99"}


def test_records_and_source_reach_the_run(world):
    """Number of records and source are the run's parameters."""
    run("run", "--records", "7", "--source", "http://api/")
    assert world.done == [{"records": 7, "source_url": "http://api/"}]


@pytest.mark.parametrize("command", ["run", "demo"])
@pytest.mark.parametrize(
    "found",
    [replace(RUN, missing=1, missing_records=[LOST]), replace(RUN, dag_run_state="failed")],
    ids=["missing", "failed"],
)
def test_an_incomplete_run_exits_with_1(world, command, found):
    """Missing records or a failed run exit with 1, also with JSON."""
    world.run = found
    assert (run(command).exit_code, run(command, "--json").exit_code) == (1, 1)


def test_missing_records_are_named(world):
    """A missing record is printed with position and id."""
    world.run = replace(RUN, missing=1, missing_records=[LOST])
    assert "missing: partition 2 offset 7 id abc: the ledger went past it" in run("run").stdout


def test_demo_starts_the_stack_and_leaves_it_up(world):
    """`demo` starts the stack, runs the pipeline once, shows ten rows, and keeps the stack running."""
    result = run("demo", "--records", "5")
    assert result.exit_code == 0
    assert world.done == ["up", {"records": 5, "source_url": None}, "10 rows"]
    assert "./penstock down" in result.output


def test_demo_stops_the_stack_on_request(world):
    """With --stop the stack is stopped afterwards, also after a failure."""
    run("demo", "--stop")
    assert world.done[-1] == "down"
    world.run = KafkaUnreachable("away")
    result = run("demo", "--stop")
    assert isinstance(result.exception, KafkaUnreachable)
    assert world.done[-1] == "down"


def shown(text: str) -> dict[str, str]:
    """Parse the lines of a table with two columns."""
    lines = [re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in text.splitlines()]
    return {item[0]: item[1] for item in lines if len(item) == 2}


def test_verify_prints_the_balance(world):
    """`verify` prints partitions, totals, the compared sources and the result."""
    result = run("verify")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "balanced: nothing is missing"
    assert result.stdout.splitlines()[1].split() == ["0", "0", "9", "9", "6", "1", "1", "0", "0", "0", "0", "1", "0"]
    results = shown(result.stdout)
    assert (results["refused"], results["rows"], results["distinct_ids"]) == ("2", "6", "6")
    assert results["deleted_nothing"] == "1"
    assert results["queue"] == "1 waiting, 2 redriven, 0 discarded"
    assert results["acknowledged"] == "9 records of 3 attempts, 2 runs"


def test_verify_shows_what_excuses_an_absence(world):
    """The counts, and the evidence."""
    world.topic = replace(TOPIC, expired=3, compacted=4, pruned=5, evidence=["log start of users.dlq: 0:5"])
    result = shown(run("verify").stdout)
    assert (result["expired"], result["compacted"], result["pruned"]) == ("3", "4", "5")
    assert result["evidence"] == "log start of users.dlq: 0:5"


def test_verify_shows_the_fields_that_are_null(world):
    """`verify` prints the share of nulls and its change, for fields with nulls only."""
    result = shown(run("verify").stdout)
    assert result["null: title"] == "50.00%, +25.00% since the last receipt"
    assert result["null: age"] == "12.50%"
    assert "null: id" not in result


def test_verify_prints_warnings(world):
    """A warning is printed and does not count as a difference."""
    world.topic = replace(TOPIC, warnings=["title was never null before"])
    result = run("verify")
    assert (result.exit_code, "warning: title was never null before" in result.stdout) == (0, True)


def test_verify_says_that_airflow_is_unavailable(world):
    """If Airflow is unavailable, `verify` says that runs were not compared."""
    world.topic = replace(TOPIC, acknowledged=Acknowledged(3, 9, None, "no answer"))
    assert shown(run("verify").stdout)["acknowledged"] == "9 records of 3 attempts, no run compared: no answer"


def test_a_difference_exits_with_1(world):
    """A difference is printed and exits with 1, also with JSON."""
    world.topic = UNBALANCED
    result = run("verify")
    assert result.exit_code == 1
    assert "missing: partition 2 offset 7 id abc: the ledger went past it" in result.stdout
    assert result.stdout.splitlines()[-1] == "NOT balanced: 130 differences"
    result = run("verify", "--json")
    document = msgspec.json.decode(result.stdout)
    assert (result.exit_code, document["balanced"], document["differences_found"]) == (1, False, 130)


def test_verify_in_json_has_the_promised_keys(world):
    """JSON output is one object with stable keys."""
    document = msgspec.json.decode(run("verify", "--json").stdout)
    assert {
        "produced",
        "stored",
        "rejected",
        "missing",
        "queue",
        "differences",
        "partitions",
        "nulls",
    } <= document.keys()
    assert document["partitions"][0]["produced"] == 9
    assert document["queue"] == {"waiting": 1, "redriven": 2, "discarded": 0}


def test_verify_accepts_a_start_time(world):
    """--since limits the time, default is everything, and an invalid time is a usage error."""
    run("verify", "--since", "2026-01-02T03:04:05Z")
    run("verify")
    assert world.done == [datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), None]
    assert isinstance(run("verify", "--since", "soon").exception, UsageError)
    assert len(world.done) == 2


def test_trace_shows_each_stage_and_the_outcome(world):
    """`trace` prints each stage, and the outcome as the last line of each trace."""
    result = run("trace", "abc")
    assert (result.exit_code, world.done) == (0, ["abc"])
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["stage", "fetched", "produced", "outcome"]
    assert result.stdout.splitlines()[-1].split() == ["outcome", "-", "stored"]


def test_trace_in_json_is_a_list(world):
    """JSON output is a list of traces with their stages."""
    (output,) = msgspec.json.decode(run("trace", "abc", "--json").stdout)
    assert (output["offset"], output["outcome"], output["hops"][0]["name"]) == (5, "stored", "fetched")


@pytest.mark.parametrize(
    ("found", "code"),
    [([], 1), ([STORED, replace(STORED, outcome="missing")], 1), ([STORED, replace(STORED, outcome="waiting")], 0)],
    ids=["nobody sent it", "missing", "waiting"],
)
def test_a_lost_or_unknown_record_exits_with_1(world, found, code):
    """A lost or unknown record exits with 1, also with JSON. An unknown one is reported on stderr."""
    world.passages = found
    result = run("trace", "abc")
    assert (result.exit_code, run("trace", "abc", "--json").exit_code) == (code, code)
    assert ("with id abc" in result.stderr) == (found == [])
    assert (result.stdout == "") == (found == [])


def test_trace_shows_a_row_whose_record_has_expired(world):
    """A row whose record expired in the topic is traced from the row."""
    world.passages, world.of_row = [], STORED
    result = run("trace", "abc")
    assert (result.exit_code, "stored" in result.stdout) == (0, True)


def test_verify_compares_in_this_process_by_default(world, monkeypatch):
    """DuckDB by default; `--engine spark` starts Spark, which ends with the command."""
    assert run("verify").exit_code == 0
    assert world.open_loader is local_loader
    monkeypatch.setattr(command_spark, "open_cluster_spark", lambda _settings, name: nullcontext(name))
    monkeypatch.setattr("penstock.reconcile.spark_loading.open_on", lambda spark: f"on {spark}")
    assert run("verify", "--engine", "spark").exit_code == 0
    assert world.open_loader == "on penstock verify"
    assert run("verify", "--engine", "flink").exit_code == 2


def test_the_wait_for_free_cores_is_bounded(settings, monkeypatch):
    """The error names the master, and what to set lower."""
    monkeypatch.setattr(command_spark, "count_executors", lambda _spark: 0)
    own = settings.model_copy(update={"spark_master": "spark://far:7077", "spark_wait_s": 0.01})
    with pytest.raises(Unreachable, match="spark://far:7077 has no free cores") as failed:
        command_spark.wait_for_executor(None, own)
    assert "PENSTOCK_SPARK_CORES" in failed.value.hint
