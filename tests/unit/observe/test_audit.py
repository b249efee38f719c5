from itertools import pairwise
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.broker import dlq
from penstock.broker.topics import Span
from penstock.config import read
from penstock.contract.batch import Tally
from penstock.contract.reject import Fault, Reason, Reject, Stage
from penstock.observe import audit
from penstock.observe.audit import Audit, Auditor, Sent, spans_of, uncovered
from penstock.pipeline.ingest import RUN_HEADER
from penstock.sink.ledger import Line
from tests.unit.fakes import FakeProducer, FakeSchemas, FakeSession, message
from tests.unit.records import READINGS, Reading


def line(first: int, last: int, filtered: int = 0, at_ms: int = 1000, partition: int = 0, job: str = "j") -> Line:
    count = last - first + 1
    return Line(Tally(partition, first, last, count, count - filtered, 0, filtered, at_ms), 1, job)


EPOCH_US = 5


def dead_letter(
    offset: int, partition: int = 0, topic: str = "readings", run_id: str = "", generation_us: int = EPOCH_US
):
    """A message of the dead-letter topic, as `dlq` writes it."""
    producer = FakeProducer()
    headers = [(RUN_HEADER, run_id.encode())] if run_id else []
    stage = Stage.PRODUCE if partition == -1 else Stage.DECODE
    reject = Reject(Fault(Reason.JSON_MALFORMED, "no", stage), topic, partition, offset, None, b"x", headers)
    dlq.set_aside(producer, "readings.dlq", [reject], generation_us)
    return producer.sent[0]


class World:
    """What an auditor sees: the ledger's lines, the topic, the dead-letter topic, the table."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.letters: list = []
        self.messages: list = []
        self.rows: list[dict] = []
        self.session = FakeSession(self.answer)
        self.auditor: Auditor

    def answer(self, query, values):
        if "WHERE" in query:
            return [row for row in self.rows if row["sensor"] in values]
        return self.rows

    def records(self, _settings, topic, spans):
        return iter(self.letters if topic.endswith(".dlq") else self.messages)

    def ledger(self):
        def lines(span: Span):
            return [
                one
                for one in self.lines
                if one.tally.partition == span.partition
                and one.tally.first_offset < span.end
                and one.tally.last_offset >= span.first
            ]

        return SimpleNamespace(lines=lines, epoch_us=EPOCH_US)

    def audit(self, *sent: Sent, **rows: tuple[int, int]) -> Audit:
        return self.auditor.audit(list(sent), {int(name[1:]): place for name, place in rows.items()})


@pytest.fixture
def world(monkeypatch):
    world = World()
    monkeypatch.setattr(audit.pipelines, "of", lambda _settings: READINGS)
    monkeypatch.setattr(audit, "Registry", lambda _settings: FakeSchemas.of(Reading))
    monkeypatch.setattr(audit.topics, "records", world.records)
    monkeypatch.setattr(audit.topics, "spans", lambda _settings, _topic: [Span(0, 0, 100)])
    world.auditor = Auditor(read(), world.session)
    monkeypatch.setattr(world.auditor, "_open_ledger", world.ledger)
    return world


def sent(offset: int, key: int | None = None, partition: int = 0, timestamp_ms: int = 100) -> Sent:
    return Sent(partition, offset, timestamp_ms, offset if key is None else key)


def states(found: Audit) -> dict[str, int]:
    return {
        name: getattr(found, name)
        for name in ("stored", "rejected", "filtered", "waiting", "missing")
        if getattr(found, name)
    }


def test_a_record_with_its_row_is_stored(world):
    """A row of the record's id from its own offset says that it is stored, and how long that took."""
    world.lines = [line(0, 9, at_ms=1000)]
    found = world.audit(sent(5, timestamp_ms=400), _5=(0, 5))
    assert states(found) == {"stored": 1}
    assert (found.latencies_ms, found.first_produced_ms, found.last_stored_ms) == ([600], 400, 1000)


def test_a_record_with_a_later_row_is_stored(world):
    """A later record of the same id has taken its place: nothing is lost."""
    world.lines = [line(0, 9)]
    found = world.audit(sent(5, key=1), sent(8, key=1), _1=(0, 8))
    assert states(found) == {"stored": 2}
    assert (found.produced, found.distinct_ids) == (2, 1)


def test_a_record_whose_row_is_older_is_missing(world):
    """A row from an earlier offset was not written by this record."""
    world.lines = [line(0, 9)]
    found = world.audit(sent(8, key=1), _1=(0, 5))
    assert states(found) == {"missing": 1}
    assert found.missing_records == [{"partition": 0, "offset": 8, "id": "1"}]


def test_a_record_stored_before_its_line_has_no_latency(world):
    """A row may be there before the ledger says so: it is stored, and nobody knows when."""
    found = world.audit(sent(5), _5=(0, 5))
    assert (states(found), found.latencies_ms, found.last_stored_ms) == ({"stored": 1}, [], 0)


def test_a_record_in_the_dead_letter_topic_is_rejected(world):
    """A dead letter from the record's place says that it is rejected; from another place or topic it says nothing."""
    world.lines = [line(0, 9), line(0, 9, partition=1)]
    world.letters = [dead_letter(5), dead_letter(6, topic="other"), dead_letter(-1, -1), message(1)]
    assert states(world.audit(Sent(0, 5, 1, None))) == {"rejected": 1}
    assert states(world.audit(Sent(0, 6, 1, None))) == {"missing": 1}
    assert states(world.audit(Sent(1, 5, 1, None))) == {"missing": 1}


def test_a_record_that_the_ledger_does_not_cover_is_waiting(world):
    """What no line covers yet has still to be stored: behind the lines, before them, and between."""
    world.lines = [line(2, 3), line(6, 7)]
    assert states(world.audit(sent(0), sent(4), sent(5), sent(8))) == {"waiting": 4}


def test_a_record_that_is_nowhere_is_missing(world):
    """What the ledger covers and nobody has is missing, with its place, and its id if that can be read."""
    world.lines = [line(0, 9)]
    found = world.audit(sent(4), Sent(0, 5, 1, None), sent(6), _6=(0, 6))
    assert states(found) == {"stored": 1, "missing": 2}
    assert found.missing_records == [
        {"partition": 0, "offset": 4, "id": "4"},
        {"partition": 0, "offset": 5, "id": None},
    ]


def test_only_the_first_hundred_missing_are_named(world):
    """A receipt stays readable when much is missing; the count is whole."""
    world.lines = [line(0, 999)]
    found = world.audit(*map(sent, range(150)))
    assert (found.missing, len(found.missing_records)) == (150, 100)


def test_as_many_absent_records_are_filtered_as_the_line_says(world):
    """A line's count of filtered records is believed for so many absent ones, and no more; line by line."""
    world.lines = [line(0, 4, filtered=2), line(5, 9)]
    found = world.audit(*map(sent, range(4)), sent(7), _0=(0, 0))
    assert states(found) == {"stored": 1, "filtered": 2, "missing": 2}
    assert [one["offset"] for one in found.missing_records] == [3, 7]


def test_every_state_at_once(world):
    """Each record has one state: their counts make up what was produced."""
    world.lines = [line(0, 4, filtered=1), line(0, 1, partition=1)]
    world.letters = [dead_letter(1)]
    records = [sent(0), sent(1), sent(2), sent(3), sent(9), sent(0, key=50, partition=1)]
    found = world.audit(*records, _0=(0, 0), _50=(1, 0))
    assert states(found) == {"stored": 2, "rejected": 1, "filtered": 1, "missing": 1, "waiting": 1}
    assert found.produced == sum(states(found).values()) == 6


def test_lines_that_overlap_hide_nothing(world):
    """When a second job wrote shorter lines over the first one's, what those cover is not waiting but missing."""
    world.lines = [line(0, 99, job="a"), line(0, 49, job="b"), line(20, 30, job="b")]
    assert states(world.audit(sent(25), sent(70))) == {"missing": 2}
    assert states(world.audit(sent(100))) == {"waiting": 1}


def test_nothing_sent_is_nothing_to_tell(world):
    """An empty topic has an empty audit."""
    assert world.audit() == Audit()


def test_records_of_a_run_are_found_by_their_header(world):
    """With a run's id only records of that run count; ids that cannot be read are None."""
    good = msgspec.json.encode(Reading(sensor=7, celsius=1.0))
    mine, other = [(RUN_HEADER, b"r1")], [("x", b"r1"), (RUN_HEADER, None), (RUN_HEADER, b"r2")]
    world.messages = [
        message(0, good, headers=mine, timestamp_ms=11),
        message(1, b"junk", headers=mine),
        message(2, good, headers=other),
        message(3, good),
    ]
    assert world.auditor.sent([Span(0, 0, 4)], "r1") == [Sent(0, 0, 11, 7), Sent(0, 1, 0, None)]
    assert [one.offset for one in world.auditor.sent([Span(0, 0, 4)])] == [0, 1, 2, 3]


def test_rows_are_found_by_scan_and_by_id(world):
    """Where rows came from is known of the whole table, or of some ids."""
    world.rows = [{"sensor": key, "kafka_partition": 1, "kafka_offset": key * 10} for key in range(5)]
    assert world.auditor.rows() == {key: (1, key * 10) for key in range(5)}
    assert world.auditor.rows_of({1, 3, 9}) == {1: (1, 10), 3: (1, 30)}
    assert world.auditor.rows_of(set()) == {}
    assert all("FROM lab.readings" in query for query, _ in world.session.executed)


def test_refused_entries_of_a_run_are_counted(world):
    """What a run set aside before the topic counts for that run alone, and not as a record of the topic."""
    world.letters = [dead_letter(-1, -1, run_id="r1"), dead_letter(-1, -1, run_id="r2"), dead_letter(3, run_id="r1")]
    assert world.auditor.refused("r1") == 1
    assert world.auditor.rejected_places() == {(0, 3)}


def test_a_dead_letter_of_an_earlier_generation_hides_no_loss(world):
    """A topic made anew has the same offsets again: what was set aside before says nothing of the records there now."""
    world.lines = [line(0, 9)]
    world.letters = [dead_letter(3, generation_us=EPOCH_US - 1)]
    assert world.auditor.rejected_places() == set()
    assert states(world.audit(sent(3))) == {"missing": 1}


def test_waiting_counts_uncovered_offsets_of_all_spans(world):
    """How much is still to be stored is the sum over partitions."""
    world.lines = [line(0, 4), line(5, 9, partition=1)]
    assert world.auditor.waiting([Span(0, 0, 10), Span(1, 5, 10), Span(2, 3, 4)]) == 6


@pytest.mark.parametrize("known", ["nothing", "keyspace", "ledger"])
def test_without_a_ledger_all_is_waiting(monkeypatch, known):
    """Before any job has read the topic there are no lines, whether the keyspace, the table or the topic lacks."""
    session = FakeSession()
    if known != "nothing":
        tables = {"ledger"} if known == "ledger" else set()
        session.cluster.metadata.keyspaces = {"spark_streams": SimpleNamespace(tables=tables)}
    monkeypatch.setattr(audit, "Registry", lambda _settings: FakeSchemas())
    monkeypatch.setattr(audit.topics, "topic_id", lambda *_: "id-1")
    auditor = Auditor(read(), session)
    assert auditor.lines(Span(0, 0, 5)) == []
    assert auditor.waiting([Span(0, 0, 5)]) == 5


def test_the_ledger_of_the_present_generation_is_opened(monkeypatch):
    """Lines are those of the generation that the topic's id names."""
    session = FakeSession(lambda *_: [{"topic_id": "id-1", "epoch_us": 5}])
    session.cluster.metadata.keyspaces = {"spark_streams": SimpleNamespace(tables={"ledger"})}
    monkeypatch.setattr(audit, "Registry", lambda _settings: FakeSchemas())
    monkeypatch.setattr(audit.topics, "topic_id", lambda *_: "id-1")
    opened = Auditor(read(), session)._open_ledger()
    assert opened.epoch_us == 5


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 15)), max_size=8),
    st.integers(0, 40),
    st.integers(0, 40),
)
def test_uncovered_counts_offsets_that_no_line_holds(stretches, first, more):
    """However lines lie and overlap, the uncovered offsets are those in the span and in no line."""
    lines = [line(start, start + length) for start, length in sorted(stretches)]
    span = Span(0, first, first + more)
    covered = {offset for start, length in stretches for offset in range(start, start + length + 1)}
    assert uncovered(span, lines) == len(set(range(span.first, span.end)) - covered)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50)), max_size=20))
def test_spans_hold_what_was_sent(places):
    """The spans of some records are one per partition, from the first to behind the last."""
    spans = spans_of([Sent(partition, offset, 0, None) for partition, offset in places])
    assert {span.partition for span in spans} == {partition for partition, _ in places}
    assert all(one.partition != other.partition for one, other in pairwise(spans))
    for span in spans:
        mine = [offset for partition, offset in places if partition == span.partition]
        assert (span.first, span.end) == (min(mine), max(mine) + 1)
