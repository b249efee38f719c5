"""replay and rebuild with fakes: offsets, confirmation, output, exit codes."""

from contextlib import contextmanager, nullcontext
from dataclasses import replace

import msgspec
import pytest
from typer.testing import CliRunner

from penstock.broker import topics
from penstock.broker.topics import OffsetRange
from penstock.cli import app
from penstock.cli import replay as commands
from penstock.contract.batch import BatchSummary
from penstock.errors import PenstockError, StackError, UsageError
from penstock.pipeline import replay as replaying
from penstock.pipeline.replay import Replay
from penstock.reconcile import verify
from penstock.sink import cassandra, table_orders
from tests.unit.cli.test_runs import TOPIC

WHOLE = [OffsetRange(0, 2, 10), OffsetRange(1, 0, 0), OffsetRange(2, 5, 9)]
DONE = Replay("replay-1", 8, 1.5, [BatchSummary(0, 2, 9, 8, 8, 0, 0, 0, 9, {}, {})])


class World:
    """Records what the commands do, in order."""

    def __init__(self) -> None:
        self.done: list = []
        self.receipt = replace(TOPIC, balanced=True)
        self.rows: int | PenstockError = 6
        self.has_other_order = False

    def replay(self, spark, session, settings, spans, report):
        self.done.append(("replay", spans))
        report(4, 8)
        return DONE

    def verify(self, settings, session, since=None, ranges=None):
        self.done.append(("verify", ranges))
        return self.receipt

    def rows_to_rebuild(self, settings, session):
        if isinstance(self.rows, PenstockError):
            raise self.rows
        return self.rows

    def fix_order(self, session, keyspace, pipeline):
        assert keyspace == "spark_streams"
        if self.has_other_order:
            raise PenstockError("the table is ordered by 'offset'")

    @contextmanager
    def spark(self, settings, name):
        self.done.append("spark")
        yield "spark"
        self.done.append("spark ends")


@pytest.fixture
def world(monkeypatch):
    world = World()
    monkeypatch.setattr(topics, "fetch_offset_ranges", lambda *_: WHOLE)
    monkeypatch.setattr(
        topics,
        "find_offset_ranges_since",
        lambda _settings, _topic, whole, at: [replace(item, first=min(item.end, at.year)) for item in whole],
    )
    monkeypatch.setattr(cassandra, "open_session", lambda _settings: nullcontext())
    monkeypatch.setattr(cassandra, "truncate_table", lambda *_: world.done.append("truncate"))
    monkeypatch.setattr(table_orders, "fix_order", world.fix_order)
    monkeypatch.setattr(replaying, "replay_ranges", world.replay)
    monkeypatch.setattr(verify, "verify", world.verify)
    monkeypatch.setattr(verify, "count_rows_to_rebuild", world.rows_to_rebuild)
    monkeypatch.setattr(commands, "open_local_spark", world.spark)
    return world


def run(*words, **more):
    return CliRunner().invoke(app, list(words), **more)


@pytest.mark.parametrize(
    ("start", "to", "found"),
    [
        (None, None, WHOLE),
        ("0:4", None, [OffsetRange(0, 4, 10)]),
        ("0:4,2:0", None, [OffsetRange(0, 4, 10), OffsetRange(2, 5, 9)]),
        (None, "0:4", [OffsetRange(0, 2, 4)]),
        ("0:4,2:6", "0:6,2:7", [OffsetRange(0, 4, 6), OffsetRange(2, 6, 7)]),
        ("0:4", "2:7", []),
        ("0:99", "0:100", [OffsetRange(0, 10, 10)]),
        ("0:6", "0:4", [OffsetRange(0, 6, 6)]),
        ("0:0", "0:99", [OffsetRange(0, 2, 10)]),
        ("0007-01-01", None, [OffsetRange(0, 7, 10), OffsetRange(1, 0, 0), OffsetRange(2, 7, 9)]),
        ("0:3", "0007-01-01", [OffsetRange(0, 3, 7)]),
    ],
    ids=str,
)
def test_a_range_is_clipped_to_the_topic(world, settings, start, to, found):
    """Ranges are clipped to the topic and never end before they start. Offsets select partitions, a time all."""
    assert commands.parse_ranges(settings, start, to) == found


@pytest.mark.parametrize("place", ["7:0", "0:1,7:0"])
def test_an_unknown_partition_is_a_usage_error(world, settings, place):
    """An unknown partition is a usage error that names it."""
    with pytest.raises(UsageError, match="no partition 7"):
        commands.parse_ranges(settings, place, None)


@pytest.mark.parametrize("place", ["0", "0:", ":0", "0:1,", "0:-1", "a:b", "soon"])
def test_an_invalid_position_is_a_usage_error(world, settings, place):
    """Text that is neither offsets nor a time is a usage error."""
    with pytest.raises(UsageError, match="invalid time"):
        commands.parse_ranges(settings, None, place)


def test_a_replay_processes_its_range_and_prints_its_receipt(world):
    """A replay prints ranges and progress on stderr and the receipt on stdout, and stops Spark."""
    result = run("replay", "--from", "0:4")
    assert result.exit_code == 0
    assert world.done == [
        "spark",
        ("replay", [OffsetRange(0, 4, 10)]),
        ("verify", [OffsetRange(0, 4, 10)]),
        "spark ends",
    ]
    assert "4 of 8 offsets" in result.stderr
    assert result.stdout.startswith("replay-1: 8 records in 1.5 s\n")
    assert result.stdout.splitlines()[-1] == "balanced: nothing is missing"


def test_a_replay_in_json_is_one_object(world):
    """JSON output is one object with the replay and the receipt."""
    document = msgspec.json.decode(run("replay", "--json").stdout)
    assert document.keys() == {"replay", "receipt"}
    assert (document["replay"]["records"], document["receipt"]["balanced"]) == (8, True)
    assert document["replay"]["partitions"][0]["last_offset"] == 9


@pytest.mark.parametrize("command", [["replay"], ["rebuild", "--yes"]], ids=lambda words: words[0])
def test_a_range_that_does_not_balance_exits_with_1(world, command):
    """A range that does not balance exits with 1, also with JSON."""
    world.receipt = replace(TOPIC, balanced=False)
    assert [run(*command).exit_code, run(*command, "--json").exit_code] == [1, 1]


def test_a_dry_run_changes_nothing(world):
    """A dry run prints what would be read, as a table or JSON, and does not start Spark."""
    result = run("replay", "--from", "0:4", "--dry-run")
    assert (result.exit_code, result.stdout, world.done) == (0, "", [])
    assert result.stderr.splitlines()[1].split() == ["0", "4", "10", "6"]
    result = run("replay", "--from", "0:4", "--dry-run", "--json")
    assert msgspec.json.decode(result.stdout) == [{"partition": 0, "first": 4, "end": 10}]


def test_rebuild_asks_and_does_nothing_unless_confirmed(world):
    """`rebuild` asks with table and number of rows, and does nothing without an answer."""
    for answer in ("n\n", ""):
        result = run("rebuild", input=answer)
        assert result.exit_code == 1
        assert "Delete the 6 rows of spark_streams.created_users" in result.stderr
    assert "truncate" not in world.done


@pytest.mark.parametrize("words", [["--yes"], []])
def test_rebuild_truncates_the_table_and_replays_everything(world, words):
    """`rebuild` truncates the table, then replays everything, with a Spark started before."""
    result = run("rebuild", *words, input="y\n")
    assert result.exit_code == 0
    assert world.done == ["spark", "truncate", ("replay", WHOLE), ("verify", WHOLE), "spark ends"]
    assert "spark_streams.created_users truncated; it had 6 rows" in result.stderr


def test_a_table_whose_records_are_gone_is_not_truncated(world):
    """A table whose records are no longer in the topic is rejected before the question."""
    world.rows = PenstockError("a rebuild would lose 2 rows")
    result = run("rebuild", "--yes")
    assert isinstance(result.exception, PenstockError)
    assert "truncate" not in world.done


def test_a_table_of_another_order_is_not_truncated(world):
    """The pipeline's current order cannot fill it: it is rejected before anything is lost."""
    world.has_other_order = True
    result = run("rebuild", "--yes")
    assert isinstance(result.exception, PenstockError)
    assert "truncate" not in world.done


def test_a_replay_without_the_stacks_spark_says_what_to_start(tmp_path, monkeypatch, settings):
    """Without the stack's Spark, whose configuration and jars `up` creates, the error says what to start."""
    monkeypatch.delenv("SPARK_CONF_DIR", raising=False)
    own = settings.model_copy(update={"home": tmp_path})
    with pytest.raises(StackError, match="never started") as failed, commands.open_local_spark(own, "replay"):
        pass
    assert "up spark-job" in failed.value.hint
