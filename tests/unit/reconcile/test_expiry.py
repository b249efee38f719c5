"""Rows that expire by a field of their record: absences that are excused and counted apart, losses that are not."""

import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.codec.records import Decoder
from penstock.contract.expiry import NEVER_MS
from penstock.contract.order import Rank
from penstock.reconcile import trace
from penstock.reconcile.excuses import find_expired_from_ms
from tests.unit.carried import Carried
from tests.unit.fakes import FakeSchemas
from tests.unit.reconcile.facts import STORED_MS, Evidence, Facts, line, record, row
from tests.unit.reconcile.test_trace import FakeVersions
from tests.unit.records import READINGS, Session
from tests.unit.strategies import few_examples

NOW_MS = STORED_MS
PAST, FUTURE = {"expired_from_ms": NOW_MS}, {"expired_from_ms": NOW_MS + 1}


@pytest.fixture
def facts(tmp_path):
    return Facts(tmp_path, evidence=Evidence(now_ms=NOW_MS))


def outcomes(facts: Facts) -> tuple[dict[str, int], list[tuple[int, str]]]:
    """The counts that are not zero, which make up what was produced, and the missing records."""
    audit = facts.reconcile()
    names = ("stored", "deleted", "rejected", "filtered", "expired", "pruned", "waiting", "missing")
    counts = {name: audit.total(name) for name in names if audit.total(name)}
    assert sum(counts.values()) == audit.total("produced")
    return counts, [(entry["offset"], entry["id"]) for entry in audit.named["missing"]]


def test_an_absent_row_that_says_it_has_expired_is_excused(facts):
    """One that has not, and one that never does, is missing, on the same line of the ledger."""
    facts.records = [record(0, 0, "past", **PAST), record(0, 1, "future", **FUTURE), record(0, 2, "never")]
    facts.lines = [line(0, 0, 3)]
    assert outcomes(facts) == ({"expired": 1, "missing": 2}, [(1, "future"), (2, "never")])


def test_a_row_that_is_still_there_is_stored(facts):
    """Cassandra's clock may be behind, and a deletion that was lost would be none of the record's."""
    facts.records, facts.lines = [record(0, 0, "past", **PAST)], [line(0, 0, 1)]
    facts.table = [row("past", 0, 0)]
    assert outcomes(facts) == ({"stored": 1}, [])


def test_an_expired_row_is_no_longer_expected(facts):
    """The receipt's ids are those that should have a row."""
    facts.records, facts.lines = [record(0, 0, "past", **PAST), record(0, 1, "now")], [line(0, 0, 2)]
    facts.table = [row("now", 0, 1)]
    audit = facts.reconcile()
    assert (audit.known_ids, audit.expected_ids, audit.expected_rows) == (2, 1, 1)


def test_an_older_version_is_gone_with_the_newest(facts):
    """It was replaced, whenever it would have expired itself; an expired version does not excuse a newer one."""
    facts.records = [
        *(record(0, 0, "a"), record(0, 1, "a", **PAST)),
        *(record(0, 2, "b", **PAST), record(0, 3, "b", **FUTURE)),
    ]
    facts.lines = [line(0, 0, 4)]
    assert outcomes(facts) == ({"expired": 3, "missing": 1}, [(3, "b")])


def test_an_older_row_in_place_of_an_expired_one_is_a_loss(facts):
    """The newest version left none when it expired: a row that reverted was not deleted as it should be."""
    facts.records, facts.lines = [record(0, 0, "a"), record(0, 1, "a", **PAST)], [line(0, 0, 2)]
    facts.table = [row("a", 0, 0)]
    assert outcomes(facts) == ({"stored": 1, "missing": 1}, [(1, "a")])


def test_the_newest_is_that_of_the_order_not_of_the_topic(facts):
    """A redriven record keeps its place: it is older than the version that was stored in between."""
    first = Rank(0, -2, is_proven=True, is_kept=True)
    facts.records = [record(0, 1, "a", **PAST), record(0, 2, "a", rank=first)]
    facts.lines = [line(0, 1, 3)]
    assert outcomes(facts) == ({"expired": 2}, [])


@pytest.mark.parametrize("at", ["waiting", "gap"])
def test_what_the_ledger_does_not_cover_is_not_excused(facts, at):
    """Nothing says that it was ever written."""
    facts.records = [record(0, 0, "a", **PAST), record(0, 1, "b")]
    facts.lines = [line(0, 1, 2)] if at == "gap" else []
    facts.table = [row("b", 0, 1)] if at == "gap" else []
    counts, missing = outcomes(facts)
    assert (counts, missing) == (({"stored": 1, "missing": 1}, [(0, "a")]) if at == "gap" else ({"waiting": 2}, []))


def test_a_tombstone_needs_no_excuse_and_gives_its_own(facts):
    """A version that a later tombstone deleted is stored, whether it has expired since or not."""
    facts.records = [record(0, 0, "a", **PAST), record(0, 1, "a", is_deletion=True)]
    facts.lines = [line(0, 0, 2, deleted=1)]
    assert outcomes(facts) == ({"stored": 1, "deleted": 1}, [])


@pytest.mark.parametrize("first", ["expired", "replaced", "dropped"])
def test_an_expired_record_is_not_taken_for_one_that_the_transform_dropped(facts, first):
    """What a line counts as filtered goes to the records that have no other excuse, wherever they lie."""
    expired = [[PAST], [{}, PAST]][first == "replaced"]
    ids = [("a", each) for each in expired]
    facts.records = [
        record(0, at, record_id, **more)
        for at, (record_id, more) in enumerate([("x", {}), *ids] if first == "dropped" else [*ids, ("x", {})])
    ]
    facts.lines = [line(0, 0, len(facts.records), filtered=1)]
    assert outcomes(facts) == ({"filtered": 1, "expired": len(ids)}, [])


def test_the_own_expiry_and_the_ttl_of_the_table_excuse_side_by_side(facts):
    """Rows of a line that was written under a TTL, and a row that had one of its own; a loss beside them."""
    facts.evidence.expiries = [(0, 6)]
    facts.records = [record(0, 0, "old"), record(0, 1, "past", **PAST), record(0, 2, "lost")]
    facts.lines = [line(0, 0, 1, stored_at_ms=5), line(0, 1, 3)]
    assert outcomes(facts) == ({"expired": 2, "missing": 1}, [(2, "lost")])


VERSIONS = {"past": PAST, "future": FUTURE, "never": {}, "tombstone": {"is_deletion": True}}


@few_examples
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(sorted(VERSIONS))), min_size=1, max_size=10),
    st.sets(st.sampled_from("abc")),
)
def test_exactly_the_versions_of_lost_rows_are_missing(versions, lost):
    """Whatever happened to an id before. Only what has expired by its own time is excused beside a lost row."""
    with tempfile.TemporaryDirectory() as home:
        facts = Facts(Path(home), evidence=Evidence(now_ms=NOW_MS))
        facts.records = [record(0, at, name, **VERSIONS[kind]) for at, (name, kind) in enumerate(versions)]
        deleted = sum(kind == "tombstone" for _, kind in versions)
        facts.lines = [line(0, 0, len(versions), deleted=deleted)]
        newest = {name: (at, kind) for at, (name, kind) in enumerate(versions)}
        rows = {name: at for name, (at, kind) in newest.items() if kind in ("future", "never")}
        facts.table = [row(name, 0, at) for name, at in rows.items() if name not in lost]
        counts, missing = outcomes(facts)
    deleted_until = {name: at for at, (name, kind) in enumerate(versions) if kind == "tombstone"}
    expected = [
        (at, name)
        for at, (name, kind) in enumerate(versions)
        if name in lost & rows.keys() and kind in ("future", "never") and at > deleted_until.get(name, -1)
    ]
    assert missing == expected
    assert counts.get("deleted", 0) == deleted


@given(st.integers(0, 2**42), st.integers(-(10**9), 10**12))
def test_the_slack_is_a_tenth_of_a_life_and_at_most_a_minute(sent_ms, life_ms):
    """As for the TTL of a table: clocks differ by less. A row that had expired when it was sent has none."""
    slack_ms = sent_ms + life_ms - find_expired_from_ms(sent_ms + life_ms, sent_ms)
    assert 0 <= slack_ms <= 60_000
    assert slack_ms <= max(0, life_ms) / 10


AT = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
AT_MS = 1_700_000_000_000
HOUR_MS = 3_600_000


class Sessions(Carried):
    """A topic of sessions, each sent at `AT`, whose rows expire by a field."""

    def __init__(self, home, ttl: str) -> None:
        super().__init__(home)
        self.pipeline = replace(READINGS, record=Session, ttl=ttl)
        self.decoder = Decoder(Session, FakeSchemas.of(Session))
        self.now_ms = AT_MS + HOUR_MS

    def put(self, sensor: int, **fields) -> None:
        value = msgspec.json.encode(Session(sensor=sensor, celsius=1.0, **fields))
        self.send(sensor, value, at_ms=AT_MS)


@pytest.fixture(params=["expires_at", "lasts"])
def sessions(request, tmp_path, monkeypatch):
    """Sensor 1 has expired a minute ago, 2 will in an hour, 3 never does; all are stored, and gone since."""
    made = Sessions(tmp_path, request.param)
    for sensor, minutes in ((1, 59), (2, 120), (3, None)):
        lasts = None if minutes is None else timedelta(minutes=minutes)
        made.put(sensor, **{request.param: lasts if lasts is None or request.param == "lasts" else AT + lasts})
    made.carry_out()
    made.tables.rows.clear()
    monkeypatch.setattr(trace, "Registry", lambda _settings: FakeVersions())
    return made


def test_a_verification_computes_expiries_from_the_records(sessions):
    """One by one or in columns, by a moment or from Kafka's timestamp; the receipt has the field as its evidence."""
    receipt = sessions.verify()
    assert (receipt.expired, receipt.missing, receipt.distinct_ids) == (1, 2, 2)
    assert receipt.evidence == [f"rows of readings expire by the field {sessions.pipeline.ttl} of their records"]
    with sessions.in_place():
        singly = [sent.expired_from_ms for sent in sessions.sent()]
    assert singly == [AT_MS + 59 * 60_000 - 60_000, AT_MS + 2 * HOUR_MS - 60_000, NEVER_MS]
    sessions.now_ms += 2 * HOUR_MS
    assert (sessions.verify().expired, sessions.verify().missing) == (2, 1)


def test_a_trace_names_the_expiry_of_a_record_or_of_the_version_that_replaced_it(sessions):
    """A record that has not expired, and has no row, is missing."""
    with sessions.in_place():
        for sensor, outcome in ((1, "expired"), (2, "missing"), (3, "missing")):
            (passage,) = trace.trace_record(sessions.settings, sessions.tables.session, str(sensor))
            assert passage.outcome == outcome
    is_duration = sessions.pipeline.ttl == "lasts"
    sessions.put(3, **{sessions.pipeline.ttl: timedelta(seconds=1) if is_duration else AT})
    sessions.carry_out()
    sessions.tables.rows.clear()
    with sessions.in_place():
        passages = trace.trace_record(sessions.settings, sessions.tables.session, "3")
    assert [passage.outcome for passage in passages] == ["expired", "expired"]


def test_a_trace_says_when_a_row_expires(tmp_path, monkeypatch):
    """As Cassandra has it, by whichever TTL; a row that does not is a row and no more."""
    topic = Carried(tmp_path)
    monkeypatch.setattr(trace, "Registry", lambda _settings: FakeVersions())
    for sensor in (4, 5):
        topic.send(sensor)
    topic.carry_out()
    topic.tables.rows[4]["ttl_s"] = 60
    with topic.in_place():
        (passage,), (other,) = (trace.trace_record(topic.settings, topic.tables.session, sensor) for sensor in "45")
    table, _, expires_at = passage.hops[-1].detail.partition(", expires at ")
    assert table == other.hops[-1].detail == "row in lab.readings"
    assert 50 < (datetime.fromisoformat(expires_at) - datetime.now(UTC)).total_seconds() <= 60
