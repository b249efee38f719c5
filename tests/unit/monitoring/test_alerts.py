"""Rules over snapshots, and which alerts are active from one to the next."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import config
from penstock.config import Settings
from penstock.contract.failing import FailingBatch
from penstock.monitoring.alerts import RULES, AlertChange, Board
from penstock.monitoring.snapshot import Growth, Receipt, Snapshot

HOUR_S = 3600.0
FINE = Snapshot(
    at_s=1_000_000.0,
    topic="users_created",
    services={"kafka": "", "cassandra": ""},
    lag_records=0,
    topic_records=1000,
    newest_record_s=999_000.0,
    growth=Growth(1000, 0, 300),
    receipt=Receipt(balanced=True, missing=0),
    change="",
    stuck=(),
)
STUCK = FailingBatch(
    checkpoint="/c/users_created",
    batch_id=7,
    first={0: 17},
    end={0: 20},
    failures=5,
    first_at=datetime.fromtimestamp(FINE.at_s - 70, tz=UTC),
    last_at=datetime.fromtimestamp(FINE.at_s - 10, tz=UTC),
    state="transform_failed",
    cause="orders.py, line 7: ValueError",
    message="/p/orders.py, line 7: ValueError: no order of ada@example.org",
)
WRONG = {
    "stuck": replace(FINE, stuck=(STUCK,)),
    "lag": replace(FINE, lag_records=10_001),
    "rejected": replace(FINE, growth=Growth(1000, 51, 300)),
    "no_data": replace(FINE, newest_record_s=FINE.at_s - 26.1 * HOUR_S),
    "service_down": replace(FINE, services={"kafka": "refused", "cassandra": ""}),
    "not_balanced": replace(FINE, receipt=Receipt(balanced=False, missing=3)),
    "field_nulls": replace(FINE, receipt=Receipt(True, 0, ("email: 2 % null, never before",))),
    "topic_recreated": replace(FINE, change="its id is id-2, the ledger's topic has the id id-1"),
}
BLIND = Snapshot(at_s=FINE.at_s, topic=FINE.topic)


def later(snapshot: Snapshot, by_s: float) -> Snapshot:
    """The same findings again after `by_s` seconds."""
    newest_s = snapshot.newest_record_s and snapshot.newest_record_s + by_s
    return replace(snapshot, at_s=snapshot.at_s + by_s, newest_record_s=newest_s)


def summarize(changes: list[AlertChange]) -> list[tuple[str, str]]:
    return [(change.change, change.name) for change in changes]


def test_a_healthy_pipeline_has_no_alert(settings: Settings) -> None:
    """Whatever the patience."""
    assert Board().take(FINE, settings, patient=False) == []


@pytest.mark.parametrize("name", RULES)
def test_each_rule_fires_alone_and_is_resolved(settings: Settings, name: str) -> None:
    """A problem fires its own alert and no other, once, and is resolved once when it is over."""
    board = Board()
    assert summarize(board.take(WRONG[name], settings, patient=False)) == [("firing", name)]
    assert board.take(later(WRONG[name], 10), settings, patient=False) == []
    assert [alert.name for alert in board.open] == [name]
    assert summarize(board.take(later(FINE, 20), settings)) == [("resolved", name)]
    assert (board.open, board.take(later(FINE, 30), settings)) == ([], [])


@pytest.mark.parametrize("name", RULES)
def test_each_alert_names_a_command(settings: Settings, name: str) -> None:
    """An operator sees what to type, what it is about, and what is wrong with it."""
    (change,) = Board().take(WRONG[name], settings, patient=False)
    assert change.command.startswith("./penstock ")
    assert change.subject == ("kafka" if name == "service_down" else "users_created")
    assert len(change.message) > 20 or name == "field_nulls"


@pytest.mark.parametrize(
    ("name", "edge"),
    [
        ("lag", {"lag_records": 10_000}),
        ("rejected", {"growth": Growth(1000, 50, 300)}),
        ("rejected", {"growth": Growth(9, 9, 300)}),
        ("no_data", {"newest_record_s": FINE.at_s - 26 * HOUR_S}),
        ("no_data", {"newest_record_s": FINE.at_s + HOUR_S}),
    ],
)
def test_no_alert_fires_at_the_limit(settings: Settings, name: str, edge: dict[str, Any]) -> None:
    """An alert needs more than its limit, and a share of a few records means nothing."""
    assert RULES[name].find(replace(FINE, **edge), settings) == []


@pytest.mark.parametrize(
    ("name", "patience_s", "setting"),
    [
        ("lag", 300.0, "alert_lag_s"),
        ("service_down", 120.0, "alert_down_s"),
        ("topic_recreated", 120.0, "alert_down_s"),
    ],
)
def test_a_short_problem_is_no_alert(settings: Settings, name: str, patience_s: float, setting: str) -> None:
    """It has to last for the configured time, without interruption."""
    assert getattr(settings, setting) == patience_s
    board = Board()
    assert board.take(WRONG[name], settings) == []
    assert board.take(later(FINE, patience_s - 1), settings) == []
    assert board.take(later(WRONG[name], patience_s), settings) == []
    assert board.take(later(WRONG[name], 2 * patience_s - 1), settings) == []
    (change,) = board.take(later(WRONG[name], 2 * patience_s), settings)
    assert (change.change, change.since) == ("firing", board.open[0].since)
    assert change.since < change.at


def test_a_starting_stack_is_no_alert(settings: Settings) -> None:
    """Services that start one after another within the patience fire nothing."""
    board, away = Board(), {"kafka": "refused", "cassandra": "refused"}
    assert board.take(replace(FINE, services=away), settings) == []
    assert board.take(later(replace(FINE, services=away | {"kafka": ""}), 60), settings) == []
    assert board.take(later(FINE, 119), settings) == []


@pytest.mark.parametrize("name", sorted(RULES.keys() - {"service_down"}))
def test_an_alert_that_cannot_be_evaluated_stays_as_it_is(settings: Settings, name: str) -> None:
    """While the service to ask is unavailable an alert neither fires nor is resolved."""
    board = Board()
    board.take(WRONG[name], settings, patient=False)
    assert board.take(later(BLIND, 10), settings, patient=False) == []
    assert [alert.name for alert in board.open] == [name]
    assert Board().take(BLIND, settings, patient=False) == []


def test_a_short_window_does_not_end_an_alert(settings: Settings) -> None:
    """After a restart, the alert on rejected records is only resolved once the whole window was seen."""
    board = Board()
    board.take(WRONG["rejected"], settings)
    assert board.take(replace(FINE, growth=Growth(0, 0, 10)), settings) == []
    assert summarize(board.take(replace(FINE, growth=Growth(0, 0, 300)), settings)) == [("resolved", "rejected")]


def test_records_rejected_at_the_source_count(settings: Settings) -> None:
    """Entries that the task dead-lettered never reached the topic, but are part of the share."""
    result = RULES["rejected"].find(replace(FINE, growth=Growth(0, 10, 300)), settings)
    assert result
    assert "10 of 10" in result[0].message


def test_a_topic_that_stays_empty_is_no_data(settings: Settings) -> None:
    """A topic without a record gets as long as one whose last record ages."""
    board, empty = Board(), replace(FINE, topic_records=0, newest_record_s=None)
    assert board.take(empty, settings) == []
    assert board.take(later(empty, 25.9 * HOUR_S), settings) == []
    assert summarize(board.take(later(empty, 26 * HOUR_S), settings)) == [("firing", "no_data")]


def test_each_service_has_its_own_alert(settings: Settings) -> None:
    """One that recovers resolves its own alert and leaves the other's."""
    board = Board()
    board.take(replace(FINE, services={"kafka": "x", "cassandra": "y"}), settings, patient=False)
    (change,) = board.take(replace(FINE, services={"kafka": "", "cassandra": "y"}), settings)
    assert (change.change, change.subject) == ("resolved", "kafka")
    assert [alert.subject for alert in board.open] == ["cassandra"]


@pytest.mark.parametrize("name", RULES)
def test_after_a_restart_nothing_fires_again(settings: Settings, name: str) -> None:
    """A board that knows the active alerts does not repeat them, and resolves them when they are over."""
    before = Board()
    before.take(WRONG[name], settings, patient=False)
    after = Board(before.open, number=1)
    assert after.take(later(WRONG[name], 10), settings) == []
    (change,) = after.take(later(FINE, 20), settings)
    assert (change.change, change.name, change.number) == ("resolved", name, 2)


def test_the_documentation_has_the_table_of_rules(settings: Settings) -> None:
    """docs/operations.md has a row for each rule, with its severity and its command."""
    text = (Path(__file__).parents[3] / "docs" / "operations.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \|( (?:critical|warning) \|.*)$", text, re.MULTILINE))
    assert rows.keys() == RULES.keys()
    for name, rule in RULES.items():
        (change,) = Board().take(WRONG[name], settings, patient=False)
        assert rows[name].startswith(f" {rule.severity} |")
        assert change.command.replace("kafka", "SERVICE") in rows[name]


MOMENTS = st.lists(st.sampled_from([FINE, BLIND, *WRONG.values()]), max_size=30)


@given(MOMENTS, st.booleans())
def test_firing_and_resolved_alternate(moments: list[Snapshot], patient: bool) -> None:
    """Whatever happens, an alert fires, is resolved, fires again: never the same twice, and numbers only grow."""
    board, last, numbers = Board(), {}, []
    for at, moment in enumerate(moments):
        for change in board.take(later(moment, at * 100), config.read(), patient=patient):
            assert last.get(change.key, "resolved") != change.change
            last[change.key] = change.change
            numbers.append(change.number)
    assert numbers == list(range(1, len(numbers) + 1))
    assert {alert.key for alert in board.open} == {key for key, change in last.items() if change == "firing"}


def test_changed_settings_apply(make: Callable[..., Settings]) -> None:
    """Each limit is a setting."""
    calm = make(
        alert_lag_records=20_000,
        alert_rejected_share=0.5,
        alert_no_data_hours=100,
        alert_down_s=0,
    )
    for name in ("lag", "rejected", "no_data"):
        assert RULES[name].find(WRONG[name], calm) == []
    assert summarize(Board().take(WRONG["service_down"], calm)) == [("firing", "service_down")]


@pytest.fixture
def make() -> Callable[..., Settings]:
    return config.read


def test_a_stuck_stream_is_reported_with_position_cause_and_remedy(settings: Settings) -> None:
    """The message has all that an operator needs, and quotes no record, because it goes to chat services."""
    (change,) = Board().take(WRONG["stuck"], settings)
    for part in ("batch 7", "0:17 to 0:19", "5 failures", "orders.py, line 7: ValueError", "./penstock restart"):
        assert part in change.message
    assert "ada" not in change.message
