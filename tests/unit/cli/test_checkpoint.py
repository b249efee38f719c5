import json

import pytest
from typer.testing import CliRunner

from penstock.broker import topics
from penstock.broker.topics import OffsetRange
from penstock.cli import app
from penstock.config import read
from penstock.errors import JobRunning, PenstockError, UsageError
from penstock.process.checkpoint import CheckpointOrigin, checkpoint_of
from penstock.sink import cassandra, lease
from tests.unit.fakes import FakeSession

TOPIC = "users_created"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The checkpoint folder, and a Kafka with offsets 5 to 20 of one partition."""
    monkeypatch.setenv("PENSTOCK_SPARK_CHECKPOINT", str(tmp_path / "c"))
    monkeypatch.setattr(topics, "fetch_offset_ranges", lambda *_: [OffsetRange(0, 5, 20)])
    monkeypatch.setattr(topics, "fetch_topic_id", lambda *_: "id-1")
    return tmp_path / "c" / TOPIC


@pytest.fixture
def session(monkeypatch):
    """A Cassandra with a free lease."""
    session = FakeSession(lambda query, _values: [] if "system_schema" in query else [{"[applied]": True}])
    monkeypatch.setattr(cassandra, "connect", lambda _settings: session)
    return session


def begun(place, offset: int):
    (place / "offsets").mkdir(parents=True)
    (place / "commits").mkdir()
    (place / "offsets" / "0").write_text(f'v1\n{{}}\n{{"{TOPIC}":{{"0":{offset}}}}}')
    (place / "commits" / "0").write_text("v1\n{}")


def run(*words, answer=""):
    return CliRunner().invoke(app, ["checkpoint", *words], input=answer)


def test_show_compares_the_checkpoint_with_kafka(place):
    """`show` prints the job's next offsets and those available in Kafka."""
    begun(place, 12)
    result = run("show")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == str(place)
    assert result.stdout.splitlines()[-1].split() == ["0", "12", "12", "5", "20"]
    assert json.loads(run("show", "--json").stdout) == {
        "folder": str(place),
        "topic": TOPIC,
        "begun": True,
        "partitions": [{"partition": 0, "checkpoint": 12, "planned": 12, "first": 5, "end": 20}],
        "misfits": [],
        "note": "",
    }


def test_show_names_what_does_not_match(place):
    """If the checkpoint does not match Kafka, `show` exits with 1 and prints the partition and the command to run."""
    begun(place, 3)
    result = run("show")
    assert result.exit_code == 1
    assert "2 records were deleted before they were read" in result.stderr
    assert "./penstock checkpoint reset --to earliest" in result.stderr


def test_show_says_why_the_job_started_where_it_did(place):
    """A resume from the ledger happens without a request."""
    checkpoint_of(read(), TOPIC).begin_at(
        CheckpointOrigin(topic_id="id-1", start={0: 20}, note="resumed from the ledger")
    )
    assert "resumed from the ledger" in run("show").stderr
    assert json.loads(run("show", "--json").stdout)["note"] == "resumed from the ledger"


def test_show_works_without_a_checkpoint(place):
    """Or with only a start position."""
    assert "starts with the earliest offsets" in run("show").stderr
    checkpoint_of(read(), TOPIC).begin_at(CheckpointOrigin(topic_id="id-1", start={0: 20}))
    result = run("show")
    assert "has not started from this checkpoint yet" in result.stderr
    assert result.stdout.splitlines()[-1].split() == ["0", "20", "20", "5", "20"]


@pytest.mark.parametrize(("to", "start"), [("earliest", None), ("latest", {0: 20})])
def test_reset_keeps_the_old_checkpoint_and_starts_elsewhere(place, session, to, start):
    """`reset` renames the old folder, and the next query starts at the given position of this topic."""
    begun(place, 12)
    result = run("reset", "--to", to, "--yes")
    assert result.exit_code == 0, result.output
    (kept,) = place.parent.glob(f"{TOPIC}.before-*")
    assert (kept / "offsets" / "0").exists()
    assert str(kept) in result.stderr
    assert "./penstock restart spark-job" in result.stderr
    assert checkpoint_of(read(), TOPIC).origin() == CheckpointOrigin(topic_id="id-1", start=start)


def test_reset_asks_for_confirmation(place, session):
    """`reset` changes nothing without it."""
    begun(place, 12)
    result = run("reset", "--to", "latest", answer="n\n")
    assert result.exit_code == 1
    assert f"Move the checkpoint {place} aside" in result.stderr
    assert checkpoint_of(read(), TOPIC).read_position().first == {0: 12}
    assert run("reset", "--to", "latest", answer="y\n").exit_code == 0


def test_reset_is_rejected_while_a_job_runs(place, session, monkeypatch):
    """While a job runs, `reset` fails at once with the owner's name and changes nothing."""
    begun(place, 12)

    def take(self, wait_s):
        assert (self.name, wait_s) == (str(place), 0)
        raise JobRunning("process 7 on elsewhere")

    monkeypatch.setattr(lease.Lease, "take", take)
    failed = run("reset", "--to", "latest", "--yes").exception
    assert isinstance(failed, JobRunning)
    assert failed.hint == "./penstock down spark-job, then run the command again"
    assert checkpoint_of(read(), TOPIC).read_position().first == {0: 12}


def test_reset_works_before_any_job_ran(place, session):
    """Before the first job, `reset` creates keyspace and leases, and has no folder to rename."""
    result = run("reset", "--to", "latest", "--yes")
    assert "there was no checkpoint" in result.stderr
    assert any("CREATE TABLE IF NOT EXISTS spark_streams.leases" in query for query, _ in session.executed)


def test_a_url_is_left_to_spark(place, session, monkeypatch):
    """For a URL, `reset` only prints the folder to rename and the file to create."""
    monkeypatch.setenv("PENSTOCK_SPARK_CHECKPOINT", "hdfs://name/c")
    assert isinstance(run("show").exception, UsageError)
    failed = run("reset", "--to", "latest", "--yes").exception
    assert type(failed) is PenstockError
    assert f"hdfs://name/c/{TOPIC}" in failed.message
    assert f"create hdfs://name/c/{TOPIC}/penstock.json with: " in failed.hint
    text = failed.hint.partition("penstock.json with: ")[2]
    assert json.loads(text).items() >= {"topic_id": "id-1", "start": {"0": 20}, "query_id": ""}.items()


def test_a_position_is_required(place):
    """`reset` without `--to`, or with an invalid value, is a usage error."""
    assert run("reset").exit_code == 2
    assert run("reset", "--to", "yesterday").exit_code == 2
