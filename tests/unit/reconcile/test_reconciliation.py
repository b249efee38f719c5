"""Every kind of difference is found, with any facts: compared with an oracle, and with each statement removed."""

import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.broker.topics import OffsetRange
from penstock.produce.delivery_log import Acknowledgement
from penstock.reconcile import queries
from penstock.reconcile.audit import Sent
from penstock.reconcile.engine import Engine
from penstock.reconcile.fact_loading import LocalLoader, Tables
from penstock.reconcile.queries import Statement
from tests.unit.carried import settings_in
from tests.unit.reconcile.facts import Facts, letter, line, record, row
from tests.unit.reconcile.planted import Planted, compacted, plain, reconcile_planted
from tests.unit.strategies import few_examples

PARTITIONS = 2
LENGTH = 8
Difference = tuple[str, int | None, int | None, str | None]


class Oracle:
    """The expected result: the definitions, word by word, one record at a time; no excuse but filters."""

    def __init__(self, facts: Facts, deliveries: list[Acknowledgement]) -> None:
        self._facts, self._deliveries = facts, deliveries
        self._records = {(item.partition, item.offset): item for item in facts.records}
        self._rows = {item.id: item.place for item in facts.table if item.place is not None}
        self._letters = {(item.origin.partition, item.origin.offset) for item in facts.letters}
        self._filtered: Counter[int] = Counter()
        self.outcomes = {place: self._outcome(self._records[place]) for place in sorted(self._records)}

    def _covering(self, partition: int, offset: int) -> list[Any]:
        return [
            item
            for item in self._facts.lines
            if item.summary.partition == partition and item.summary.first_offset <= offset <= item.summary.last_offset
        ]

    def _reached(self, partition: int) -> int:
        return max(
            (item.summary.last_offset + 1 for item in self._facts.lines if item.summary.partition == partition),
            default=0,
        )

    def _outcome(self, item: Sent) -> str:
        place, lines = (item.partition, item.offset), self._covering(item.partition, item.offset)
        if place in self._letters:
            return "rejected"
        if not lines and item.offset >= self._reached(item.partition):
            return "waiting"
        results = self._rows.get(item.id)
        if item.is_deletion:
            return "deleted" if results is None or results.order_us > item.order_us else "missing"
        if results is not None and results.order_us >= item.order_us:
            return "stored"
        deletions = [two for two in self._facts.records if two.is_deletion and two.id == item.id]
        if results is None and any(two.order_us > item.order_us for two in deletions):
            return "stored"
        if item.id is not None and lines and self._filtered[id(lines[0])] < lines[0].summary.filtered:
            self._filtered[id(lines[0])] += 1
            return "filtered"
        return "missing"

    def differences(self) -> set[Difference]:
        """Return kind, partition, offset and id of each."""
        results: set[Difference] = set()
        for (partition, offset), outcome in self.outcomes.items():
            record_id = self._records[partition, offset].id
            is_behind = offset < self._reached(partition) and not self._covering(partition, offset)
            if outcome == "missing":
                results.add(("missing", partition, offset, record_id))
            elif is_behind and outcome != "waiting":
                results.add(("gap", partition, offset, record_id))
        return results | self._miscounted() | self._lost() | self._foreign() | self._unordered()

    def _miscounted(self) -> set[Difference]:
        results: set[Difference] = set()
        for item in self._facts.lines:
            summary = item.summary
            offsets = range(summary.first_offset, summary.last_offset + 1)
            held = sum((summary.partition, offset) in self._records for offset in offsets)
            letters = sum((summary.partition, offset) in self._letters for offset in offsets)
            if (summary.records, summary.rejected) != (held, letters):
                results.add(("miscounted", summary.partition, summary.first_offset, None))
        return results

    def _lost(self) -> set[Difference]:
        output = {(delivery.partition, delivery.offset): delivery.key for delivery in self._deliveries}
        lying = {place: (value.key or b"").decode() for place, value in self._records.items()}
        return {("lost", *place, key) for place, key in output.items() if lying.get(place) != key}

    def _foreign(self) -> set[Difference]:
        known = {
            self._records[place].id
            for place, outcome in self.outcomes.items()
            if outcome != "rejected" or getattr(self._rows.get(self._records[place].id), "place", None) == place
        }
        lengths = {span.partition: span.end for span in self._facts.spans()}
        return {
            ("foreign", place.partition, place.offset, record_id)
            for record_id, place in self._rows.items()
            if place.partition not in lengths or (record_id not in known and place.offset < lengths[place.partition])
        }

    def _unordered(self) -> set[Difference]:
        homes: dict[str, set[tuple[int, int]]] = defaultdict(set)
        for place, outcome in self.outcomes.items():
            record_id = self._records[place].id
            if record_id is not None and outcome not in ("rejected", "waiting"):
                homes[record_id].add(place)
        return {
            ("unordered", *max(places), record_id)
            for record_id, places in homes.items()
            if len({partition for partition, _ in places}) > 1
        }


IDS = st.sampled_from(["a", "b", "c", "é"])
PLACES = st.tuples(st.integers(0, PARTITIONS - 1), st.integers(0, LENGTH - 1))


@st.composite
def any_facts(draw: st.DrawFn) -> tuple[Facts, list[Acknowledgement]]:
    """A topic, and a ledger, a table, dead letters and a delivery log that may be unrelated to it."""
    facts = Facts(Path())
    for place in sorted(draw(st.sets(PLACES, min_size=1, max_size=2 * LENGTH))):
        record_id = draw(st.one_of(IDS, st.none()))
        is_deletion = record_id is not None and draw(st.booleans())
        facts.records.append(record(*place, record_id, is_deletion=is_deletion))
    for partition in range(PARTITIONS):
        bounds = sorted(draw(st.sets(st.integers(0, LENGTH), max_size=4)))
        length = max((item.offset + 1 for item in facts.records if item.partition == partition), default=0)
        for first, end in pairwise(bounds):
            if draw(st.booleans()) and end <= length:
                counts = {"rejected": draw(st.integers(0, 1)), "filtered": draw(st.integers(0, 1))}
                facts.lines.append(line(partition, first, end, **counts))
    facts.table = [row(record_id, *draw(PLACES)) for record_id in draw(st.sets(IDS))]
    facts.letters = [letter(*place) for place in draw(st.sets(PLACES, max_size=3))]
    deliveries = [Acknowledgement(*place, draw(IDS)) for place in draw(st.sets(PLACES, max_size=3))]
    return facts, deliveries


@few_examples
@given(any_facts())
def test_outcomes_and_differences_match_their_definitions_for_any_facts(given_facts):
    """Records, entries, rows, dead letters and deliveries that contradict each other in any way."""
    facts, deliveries = given_facts
    oracle = Oracle(facts, deliveries)
    with tempfile.TemporaryDirectory() as home:
        audit = replace(facts, home=Path(home)).reconcile(deliveries=deliveries)
    results = {(kind, *place_and_id(item)) for kind, named in audit.named.items() for item in named}
    assert results == oracle.differences()
    assert audit.differences.total() == len(results)
    counts = Counter(oracle.outcomes.values())
    kinds = ("stored", "deleted", "rejected", "waiting", "filtered", "missing")
    assert {kind: audit.total(kind) for kind in kinds} == {kind: counts[kind] for kind in kinds}
    assert audit.total("produced") == len(facts.records)


def test_each_planted_kind_is_named(tmp_path):
    """In a topic with all of them at once; and each outcome is counted."""
    facts, deliveries = plain(tmp_path)
    audit = facts.reconcile(deliveries=deliveries)
    named = {
        kind: [(item["partition"], item["offset"], item["id"]) for item in value] for kind, value in audit.named.items()
    }
    assert named["gap"] == [(0, 10, "gap")]
    assert named["repeated"] == [(2, 8, "repeated")]
    assert named["miscounted"] == [(1, 5, None), (5, 2, None)]
    assert named["doubled"] == [(1, None, None)]
    assert named["lost"] == [(0, 7, "another"), (0, 99, "lost")]
    assert [item[2] for item in named["foreign"]] == ["foreign", "gone", "hand", "three", "unknown"]
    reasons = {item["id"]: item["why"] for item in audit.named["unordered"]}
    assert sorted(reasons) == ["contradicted", "one layout", "one place", "q1", "q3", "tied", "two layouts", "unproven"]
    assert len(set(reasons.values())) == 6
    assert {"missing", "later"} < {item["id"] for item in audit.named["missing"]}
    counts = {name: audit.total(name) for name in ("filtered", "expired", "pruned", "rejected", "waiting", "doubled")}
    assert counts == {"filtered": 2, "expired": 6, "pruned": 1, "rejected": 3, "waiting": 1, "doubled": 1}
    assert (audit.total("deleted_nothing"), audit.refused, audit.runs) == (1, 1, {"r1": 8, "r2": 5})
    facts, deliveries = compacted(tmp_path)
    audit = facts.reconcile(deliveries=deliveries)
    assert list(map(place_and_id, audit.named["lost"])) == [(1, 0, "e")]
    assert (audit.total("compacted"), audit.differences) == (4, {"lost": 1})


def place_and_id(named: dict[str, Any]) -> tuple[Any, ...]:
    return named["partition"], named["offset"], named["id"]


SECTIONS = queries.sections()
STATEMENTS = [statement for section, statements in SECTIONS.items() if section != "inputs" for statement in statements]


class Continued(Tables):
    """A reconciliation repeated from a section on, with an empty statement. What it read before that is known."""

    def __init__(self, engine: "MutatedEngine", section: str, empty: Statement) -> None:
        self._engine, self._section, self._empty = engine, section, empty
        self._is_reached = False

    def run(self, section: str) -> None:
        self._is_reached = self._is_reached or section == self._section
        for statement in SECTIONS[section] if self._is_reached else ():
            self._engine.create(self._empty if statement.name == self._empty.name else statement)

    def append(self, table: str, rows: Iterable[Sequence[Any]]) -> None:
        loaded = list(rows)
        if self._is_reached:
            self._engine.append(table, loaded)

    def append_columns(self, table: str, columns: Iterable[Sequence[Any]]) -> None:
        if self._is_reached:
            self._engine.append_columns(table, columns)

    def rows(self, query: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        return self._engine.rows(query, *values) if self._is_reached else iter(self._engine.known[query, values])


class MutatedEngine(Engine):
    """An engine that, before each section, finds out what comes out if one of its `candidates` yields nothing."""

    def __init__(self, made: Planted, candidates: set[str]) -> None:
        super().__init__(settings_in(made[0].home))
        self._made, self._candidates = made, candidates
        self._is_repeated = False
        self.known: dict[tuple[str, tuple[Any, ...]], list[tuple[Any, ...]]] = {}
        self.results: dict[str, Any] = {}

    def run(self, section: str) -> None:
        self.results |= {
            statement.name: self._continue_without(section, statement)
            for statement in SECTIONS[section]
            if statement.name in self._candidates
        }
        super().run(section)

    def _continue_without(self, section: str, statement: Statement) -> Any:
        """Return the result, or None if there is none at all. The engine is then as it was."""
        empty = replace(statement, body=f"SELECT * FROM ({statement.body}\n) taken_away WHERE FALSE")
        self._is_repeated = True
        self._connection.begin()
        try:
            return reconcile_planted(self._made, LocalLoader(Continued(self, section, empty), self._made[0]))
        except (duckdb.Error, ValueError):
            return None
        finally:
            self._connection.rollback()
            self._is_repeated = False

    def rows(self, query: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        rows = self._connection.execute(query, values).fetchall()  # a cursor would not see the transaction
        if not self._is_repeated:
            self.known[query, values] = rows
        return iter(rows)


@pytest.fixture(scope="module")
def unneeded(tmp_path_factory) -> set[str]:
    """The statements without which each topic has the same result."""
    names = {statement.name for statement in STATEMENTS}
    for make in (plain, compacted):
        made = make(tmp_path_factory.mktemp(make.__name__))
        with MutatedEngine(made, names) as engine:
            whole = reconcile_planted(made, LocalLoader(engine, made[0]))
        assert engine.results.keys() == names
        names = {name for name, changed in engine.results.items() if changed == whole}
    return names


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda statement: statement.name)
def test_every_statement_is_needed(unneeded, statement):
    """If it yields nothing, something that was planted is not named, or is named wrongly."""
    assert statement.name not in unneeded


def test_the_verified_range_bounds_what_is_compared(tmp_path):
    """A ledger entry that is not completely within it is not compared."""
    facts, _ = plain(tmp_path)
    audit = facts.reconcile(spans=[OffsetRange(1, 0, 7)])
    assert "miscounted" not in audit.named


def test_records_deleted_by_retention_during_verification_are_not_missing(tmp_path):
    """Records, deliveries and entries below the current log start are not compared; what is above it still is."""
    facts = Facts(tmp_path, starts={0: 3})
    facts.records = [record(0, 3, "d"), record(0, 4, "e")]
    facts.lines = [line(0, 0, 2), line(0, 2, 4), line(0, 4, 5)]
    facts.table = [row(name, 0, offset) for offset, name in enumerate("abcd")]
    deliveries = [Acknowledgement(0, 1, "b"), Acknowledgement(0, 3, "d")]
    audit = facts.reconcile(deliveries=deliveries, spans=[OffsetRange(0, 0, 5)])
    assert audit.differences == {"missing": 1}
    assert [item["id"] for item in audit.named["missing"]] == ["e"]
    assert (audit.balances[0].first, audit.balances[0].produced, audit.delivered) == (3, 2, 1)
