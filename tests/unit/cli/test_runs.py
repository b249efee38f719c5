import re
from contextlib import nullcontext
from dataclasses import replace

import msgspec
import pytest
from typer.testing import CliRunner

from penstock.cli import app
from penstock.cli import stack as stack_commands
from penstock.errors import KafkaUnreachable
from penstock.observe import receipt
from penstock.observe.receipt import PartitionBalance, RunReceipt, TopicReceipt
from penstock.sink import cassandra

LOST = {"partition": 2, "offset": 7, "id": "abc"}
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
TOPIC = TopicReceipt(
    topic="users_created",
    balanced=True,
    produced=9,
    stored=8,
    rejected=1,
    filtered=0,
    waiting=0,
    missing=0,
    rows=8,
    distinct_ids=8,
    partitions=[PartitionBalance(0, 0, 9, 9, 8, 1, 0, 0)],
    missing_records=[],
)


class World:
    """What the commands do, in order, and the receipts that they get."""

    def __init__(self) -> None:
        self.done: list = []
        self.run, self.topic = RUN, TOPIC

    def give(self, settings, session, parameters, report):
        self.done.append(parameters)
        report("on its way")
        if isinstance(self.run, Exception):
            raise self.run
        return self.run


@pytest.fixture
def world(monkeypatch):
    world = World()
    monkeypatch.setattr(cassandra, "connected", lambda _settings: nullcontext())
    monkeypatch.setattr(receipt, "run", world.give)
    monkeypatch.setattr(receipt, "verify", lambda *_: world.topic)
    monkeypatch.setattr(stack_commands, "up_for", lambda _settings: world.done.append("up"))
    monkeypatch.setattr(stack_commands, "down_all", lambda _settings: world.done.append("down"))
    monkeypatch.setattr("penstock.cli.data.print_rows", lambda _settings, limit: world.done.append(f"{limit} rows"))
    return world


def run(*words):
    return CliRunner().invoke(app, list(words))


def test_run_prints_the_receipt(world):
    """`run` carries 500 records unless told otherwise, and prints what became of them; talk goes to stderr."""
    result = run("run")
    assert (result.exit_code, result.stderr) == (0, "on its way\n")
    assert world.done == [{"records": 500, "source_url": None}]
    shown = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in result.stdout.splitlines()[2:])
    assert (shown["asked"], shown["stored"], shown["rejected"], shown["missing"]) == ("500", "498", "2", "0")
    assert shown["run"] == "r1 (success)"
    assert "p50 300 ms" in shown["latency"]


@pytest.mark.parametrize("command", ["run", "demo"])
def test_json_is_one_object_with_the_promised_keys(world, command):
    """With --json stdout is one object; scripts read these keys."""
    result = run(command, "--json")
    told = msgspec.json.decode(result.stdout)
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
    } <= told.keys()
    assert told["latency_ms"].keys() == {"p50", "p99"}


def test_records_and_source_reach_the_run(world):
    """How many, and from where, are the run's parameters."""
    run("run", "--records", "7", "--source", "http://api/")
    assert world.done == [{"records": 7, "source_url": "http://api/"}]


@pytest.mark.parametrize("command", ["run", "demo"])
@pytest.mark.parametrize(
    "found",
    [replace(RUN, missing=1, missing_records=[LOST]), replace(RUN, dag_run_state="failed")],
    ids=["missing", "failed"],
)
def test_a_run_that_is_not_whole_is_1(world, command, found):
    """When something is missing, or the run failed, the exit code says so, with JSON too."""
    world.run = found
    assert (run(command).exit_code, run(command, "--json").exit_code) == (1, 1)


def test_what_is_missing_is_named(world):
    """A missing record is shown with its place and id."""
    world.run = replace(RUN, missing=1, missing_records=[LOST])
    assert "missing: partition 2 offset 7 id abc" in run("run").stdout


def test_demo_starts_the_stack_and_leaves_it_up(world):
    """`demo` starts what is not running, runs once, shows ten rows, and leaves the stack up."""
    result = run("demo", "--records", "5")
    assert result.exit_code == 0
    assert world.done == ["up", {"records": 5, "source_url": None}, "10 rows"]
    assert "./penstock down" in result.output


def test_demo_stops_the_stack_when_told(world):
    """With --stop the stack is stopped afterwards, after a failure too."""
    run("demo", "--stop")
    assert world.done[-1] == "down"
    world.run = KafkaUnreachable("away")
    result = run("demo", "--stop")
    assert isinstance(result.exception, KafkaUnreachable)
    assert world.done[-1] == "down"


def test_verify_prints_the_balance(world):
    """`verify` shows each partition and the sums, and says whether anything is missing."""
    result = run("verify")
    assert result.exit_code == 0
    assert "balanced: nothing is missing" in result.stdout
    assert result.stdout.splitlines()[1].split() == ["0", "0", "9", "9", "8", "1", "0", "0"]


def test_verify_that_finds_a_loss_is_1(world):
    """A missing record is named, and the exit code is 1, with JSON too."""
    world.topic = replace(TOPIC, balanced=False, missing=1, missing_records=[LOST])
    result = run("verify")
    assert result.exit_code == 1
    assert "NOT balanced: 1 missing" in result.stdout
    assert "partition 2 offset 7 id abc" in result.stdout
    result = run("verify", "--json")
    assert (result.exit_code, msgspec.json.decode(result.stdout)["balanced"]) == (1, False)
