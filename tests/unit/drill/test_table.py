"""The list of drills."""

import re

import pytest

from penstock.drill import table
from penstock.drill.away import AWAY_S
from penstock.errors import UsageError

FAULTS = [
    "kill-driver",
    "kill-executor",
    "kill-worker",
    "kill-kafka",
    "kill-cassandra",
    "kill-registry",
    "kill-scheduler",
    "kill-task",
    "kafka-away",
    "cassandra-away",
    "cassandra-frozen",
    "power-cut",
    "disk-full-cassandra",
    "disk-full-checkpoint",
    "torn-checkpoint",
    "second-job",
    "clock-back",
    "hostile-source",
    "add-partitions",
    "redrive-order",
    "poison-record",
    "stuck-transform",
    "recreate-topic",
    "backlog",
    "soak",
]


def test_every_required_fault_is_a_drill() -> None:
    """Each by its name, once; `--all` runs every one but the soak and the one that deletes the topic."""
    assert list(table.WHAT) == FAULTS
    assert table.list_of_all() == [name for name in FAULTS if name not in ("recreate-topic", "soak")]


def test_every_drill_says_what_it_does_and_what_a_log_must_name() -> None:
    """A fault without evidence could be hidden; a wrong clock is not visible in a log, nor is a redrive."""
    for drill in table.DRILLS:
        assert drill.what
        assert drill.evidence or drill.name in ("clock-back", "redrive-order")
        for line in drill.evidence:
            re.compile(line.pattern)


def test_an_outage_lasts_a_minute() -> None:
    """Kafka and Cassandra are unavailable for 60 s."""
    away = {drill.name: drill.hold_s for drill in table.DRILLS if drill.name.endswith("-away")}
    assert away == {"kafka-away": AWAY_S, "cassandra-away": AWAY_S}
    assert AWAY_S == 60


def test_an_unknown_drill_is_named_with_the_known_ones() -> None:
    """It is a usage error, before anything is started."""
    with pytest.raises(UsageError, match=r"'kill-all'.*kill-kafka"):
        table.check_names(["kill-kafka", "kill-all"])
