from datetime import UTC, datetime, timedelta

import pytest
from cassandra import OperationTimedOut

from penstock.config import read as settings
from penstock.contract.failing import FailingBatch
from penstock.errors import CassandraUnreachable
from penstock.sink.lease import Holder, Owner
from penstock.sink.progress import Batch, Failure
from penstock.web.stream import query
from penstock.web.stream.query import OTHER, PHASES, StreamFacts, describe_query, phase_shares, phases_ms
from tests.unit.fakes import FakeSession

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OWNER = Holder(Owner("vm", 7, "1", "s"), NOW - timedelta(hours=1), is_dead=False)
DEAD = Holder(Owner("vm", 7, "1", "s"), NOW - timedelta(hours=1), is_dead=True)


def batch(ago_s=60.0, **durations_ms):
    """A batch that started this many seconds ago."""
    return Batch(1, NOW - timedelta(seconds=ago_s), 5, 1.0, 2.0, durations_ms, {0: 5})


def failure(ago_s):
    """A failure of this many seconds ago."""
    return Failure(NOW - timedelta(seconds=ago_s), "StoreFailed: no", "trace")


@pytest.mark.parametrize(
    ("found", "process", "state"),
    [
        (StreamFacts(OWNER, [], []), "", "running"),
        (StreamFacts(OWNER, [batch(60)], [failure(500)]), "", "running"),
        (StreamFacts(OWNER, [batch(60)], [failure(3)]), "", "waiting"),
        (StreamFacts(OWNER, [], [failure(3)]), "", "waiting"),
        (StreamFacts(OWNER, [batch(1)], [failure(3)]), "", "running"),
        (StreamFacts(OWNER, [], []), "stopping", "running"),
        (StreamFacts(None, [batch(1)], []), "stopped", "stopped"),
        (StreamFacts(None, [], []), "", "stopped"),
        (StreamFacts(DEAD, [batch(1)], []), "", "stopped"),
        (StreamFacts(None, [], []), "starting", "starting"),
        (StreamFacts(DEAD, [], []), "restarting", "waiting"),
        (StreamFacts(None, [], []), "dead", "stopped"),
        (StreamFacts(None, [], [], ["/other/t"]), "", "unknown"),
        (StreamFacts(DEAD, [], [], ["/other/t"]), "", "stopped"),
    ],
)
def test_the_state_of_the_query_is_derived(found, process, state):
    """From the owner of the checkpoint, from the last event, batch or failure, and from the process if it is known."""
    output = describe_query(found, "/checkpoint", process, NOW)
    assert output.state == state
    assert output.checkpoint == "/checkpoint"
    assert (output.owner is not None) == (found.holder is OWNER)


STUCK = FailingBatch("/c", 7, {0: 17}, {0: 20}, 4, NOW, NOW, "transform_failed", "my.py, line 7: ValueError", "words")


def test_a_stuck_query_is_shown_as_stuck_with_its_remedy():
    """Neither its last batch nor its owner make it a running one; a job that stopped is stopped."""
    output = describe_query(StreamFacts(OWNER, [batch(1)], [failure(3)], stuck=[STUCK]), "/c", "", NOW)
    assert (output.state, output.owner) == ("stuck", "process 7 on vm")
    assert "0:17 to 0:19" in output.told
    assert "my.py, line 7: ValueError" in output.told
    assert "./penstock restart spark-job" in output.told
    assert describe_query(StreamFacts(None, [], [], stuck=[STUCK]), "/c", "stopped", NOW).state == "stopped"


def test_the_owner_is_named():
    """The process and its machine, and since when."""
    output = describe_query(StreamFacts(OWNER, [], []), "/checkpoint", "", NOW)
    assert (output.owner, output.since) == ("process 7 on vm", OWNER.since)


def test_a_stop_loses_nothing_and_says_so():
    """So does a killed process."""
    assert "none are lost" in describe_query(StreamFacts(None, [], []), "c").told
    assert "killed" in describe_query(StreamFacts(DEAD, [], []), "c").told


def test_a_job_on_another_checkpoint_is_named():
    """With other settings than the job's, the state is unknown, not stopped."""
    output = describe_query(StreamFacts(None, [], [], ["/other/t"]), "/here/t").told
    assert "/other/t" in output
    assert "PENSTOCK_SPARK_CHECKPOINT" in output


def test_the_phases_add_up_to_the_total():
    """What Spark does not name is other."""
    result = phases_ms(batch(addBatch=70, walCommit=10, triggerExecution=100))
    assert (result["addBatch"], result["walCommit"], result["getBatch"], result[OTHER]) == (70, 10, 0, 20)
    assert list(result) == [*PHASES, OTHER]


def test_phases_have_shares_of_the_time():
    """Over all batches; none without any."""
    result = phase_shares([batch(addBatch=70, triggerExecution=100), batch(addBatch=100, triggerExecution=100)])
    assert (result["addBatch"], result[OTHER]) == (0.85, 0.15)
    assert phase_shares([]) == {}


def test_an_unavailable_cassandra_is_an_error():
    """The driver's error becomes one with a command."""
    gone = FakeSession(error=OperationTimedOut("late"))
    with pytest.raises(CassandraUnreachable, match="late") as failed:
        query.read_facts(settings(), "ks", "t", lambda: gone, 5)
    assert "./penstock status cassandra" in failed.value.hint


def test_before_the_first_job_nothing_is_recorded():
    """Until a job has created its tables there is no owner, and nothing was read."""
    assert query.read_facts(settings(), "ks", "t", FakeSession, 5) == StreamFacts(None, [], [])
