"""What a poll reads from Kafka and Cassandra."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from cassandra import OperationTimedOut
from confluent_kafka import KafkaError

from penstock.broker.topics import NO_ID, OffsetRange
from penstock.config import Settings
from penstock.monitoring import poller
from penstock.monitoring.poller import (
    CassandraState,
    Count,
    KafkaState,
    Poll,
    Poller,
    TopicState,
    Window,
    build_snapshot,
    parse_receipt,
    read_topic,
)
from penstock.monitoring.snapshot import Growth, Receipt
from tests.unit.fakes import Clock, FakeSession, kafka_error

RECEIPT = {"at": "2025-01-01T00:00:00+00:00", "balanced": False, "missing": 2, "warnings": ["email: null"]}


def answer(value: Any) -> "Future[Any]":
    future: Future[Any] = Future()
    if isinstance(value, Exception):
        future.set_exception(value)
    else:
        future.set_result(value)
    return future


class FakeAdmin:
    """Kafka's admin of some topics: per partition the first offset, the end, and the newest record's time in ms."""

    def __init__(self, topics: dict[str, list[tuple[int, int, int]]]) -> None:
        self.topics = topics
        self.asked: list[str] = []

    def describe_topics(self, names: Any, request_timeout: float) -> dict[str, Any]:
        (name,) = names.topic_names
        if name not in self.topics:
            return {name: answer(kafka_error(KafkaError.UNKNOWN_TOPIC_OR_PART))}
        partitions = [SimpleNamespace(id=number) for number in range(len(self.topics[name]))]
        return {name: answer(SimpleNamespace(topic_id=f"id-of-{name}", partitions=partitions))}

    def list_offsets(self, wanted: Any, request_timeout: float) -> dict[Any, Any]:
        def one(place: Any, spec: Any) -> Any:
            first, end, time_ms = self.topics[place.topic][place.partition]
            kind = type(spec).__name__
            self.asked.append(kind)
            if kind == "MaxTimestampSpec":
                return answer(SimpleNamespace(offset=end - 1, timestamp=time_ms))
            return answer(SimpleNamespace(offset=first if kind == "EarliestSpec" else end, timestamp=-1))

        return {place: one(place, spec) for place, spec in wanted.items()}


class FakeConnections:
    """Cached clients of available services."""

    def __init__(self, admin: FakeAdmin, session: FakeSession) -> None:
        self.kafka, self._session, self.dropped = admin, session, 0

    def session(self) -> FakeSession:
        return self._session

    def drop_session(self) -> None:
        self.dropped += 1


def rows(reached: dict[int, int], epoch: int | None = 7) -> Any:
    """Answer the ledger's queries: per partition the last offset of its newest entry."""

    def give(query: str, values: tuple[Any, ...]) -> list[dict[str, Any]]:
        if "generations" in query:
            return [{"epoch_us": epoch, "topic_id": "id-of-users_created"}] if epoch else []
        if "receipts" in query:
            return [{"receipt": '{"balanced": true, "missing": 0, "warnings": []}'}]
        return [{"job": "stream", "last_offset": reached[values[2]]}] if values[2] in reached and values[3] == 0 else []

    return give


@pytest.fixture
def make(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A poller over fakes; `away` names the unavailable services."""

    def build(topics: Any, session: FakeSession, away: tuple[str, ...] = ()) -> tuple[Poller, FakeConnections]:
        connections = FakeConnections(FakeAdmin(topics), session)
        answers = {name: "refused" if name in away else "" for name in ("kafka", "cassandra")}
        monkeypatch.setattr(poller, "Connections", lambda _: connections)
        monkeypatch.setattr(poller, "Services", lambda *_: SimpleNamespace(read=lambda: answers))
        return Poller(settings), connections

    return build


def with_tables(session: FakeSession) -> FakeSession:
    session.cluster.metadata.keyspaces = {
        "spark_streams": SimpleNamespace(tables={"ledger": 1, "generations": 1, "receipts": 1})
    }
    return session


def test_a_missing_topic_is_empty() -> None:
    """Polling does not create it, and is no error."""
    assert read_topic(FakeAdmin({}), "nothing") == TopicState("", [])  # type: ignore[arg-type]


def test_everything_is_read(make: Any) -> None:
    """Pending records are those beyond the ledger, per partition; times and receipt are included."""
    topics = {"users_created": [(0, 10, 5_000), (3, 20, 9_000)], "users_created.dlq": [(0, 4, 1)]}
    reader, _ = make(topics, with_tables(FakeSession(rows({0: 9, 1: 14}))))
    snapshot = reader.read_snapshot()
    assert (snapshot.lag_records, snapshot.topic_records, snapshot.newest_record_s) == (5, 27, 9.0)
    assert snapshot.growth == Growth(received=0, rejected=0, over_s=0.0)
    assert snapshot.receipt == Receipt(balanced=True, missing=0)


@pytest.mark.parametrize("epoch", [None, 7])
def test_before_the_first_job_everything_is_pending(make: Any, epoch: int | None) -> None:
    """Neither a missing incarnation nor a missing entry hides pending records; records that Kafka deleted are not
    pending.
    """
    reader, _ = make({"users_created": [(3, 10, 1)]}, with_tables(FakeSession(rows({}, epoch))))
    assert reader.read_snapshot().lag_records == 7


def test_missing_tables_are_not_queried(make: Any) -> None:
    """Before the first run there is neither a ledger nor a receipt."""
    session = FakeSession()
    reader, _ = make({"users_created": [(0, 5, 1)]}, session)
    snapshot = reader.read_snapshot()
    assert (snapshot.lag_records, snapshot.receipt) == (5, None)
    assert all("system_schema.tables" in query for query, _ in session.executed)


@pytest.mark.parametrize(
    ("away", "lag", "growth", "receipt"),
    [
        (("kafka",), None, None, Receipt(True, 0)),
        (("cassandra",), None, Growth(0, 0, 0), None),
        (("kafka", "cassandra"), None, None, None),
    ],
)
def test_an_unavailable_service_has_unknown_counts(make: Any, away: Any, lag: Any, growth: Any, receipt: Any) -> None:
    """The other service is polled nevertheless."""
    reader, _ = make({"users_created": [(0, 5, 1)]}, with_tables(FakeSession(rows({0: 4}))), away)
    snapshot = reader.read_snapshot()
    assert (snapshot.lag_records, snapshot.growth, snapshot.receipt) == (lag, growth, receipt)
    assert snapshot.services == {name: "refused" if name in away else "" for name in ("kafka", "cassandra")}


def test_a_cassandra_that_fails_in_between_is_unknown(make: Any) -> None:
    """A timeout does not crash: the session is dropped."""
    reader, connections = make({"users_created": [(0, 5, 1)]}, with_tables(FakeSession(error=OperationTimedOut())))
    assert (reader.read_snapshot().lag_records, connections.dropped) == (None, 1)


def test_a_keyspace_of_a_newer_penstock_is_a_problem_of_cassandra(make: Any) -> None:
    """Watcher and page continue, and say what is wrong with it."""
    newer = [{"table_name": "ledger", "comment": "penstock 9.1, format 9"}]
    snapshot = make({"users_created": [(0, 5, 1)]}, FakeSession(lambda *_: newer))[0].read_snapshot()
    assert "the table ledger has format 9, written by penstock 9.1" in snapshot.services["cassandra"]
    assert (snapshot.lag_records, snapshot.topic_records) == (None, 5)


def test_a_recreated_topic_that_the_job_has_not_read_is_reported(make: Any) -> None:
    """Its id differs from that of each incarnation; before the first incarnation nothing is wrong."""

    def recreated(query: str, values: tuple[Any, ...]) -> list[dict[str, Any]]:
        return [{"epoch_us": 7, "topic_id": "id-0"}] if "generations" in query else rows({})(query, values)

    topics = {"users_created": [(0, 5, 1)]}
    change = make(topics, with_tables(FakeSession(recreated)))[0].read_snapshot().change
    assert change == "its id is id-of-users_created, the ledger's topic has the id id-0"
    assert make(topics, with_tables(FakeSession(rows({0: 4}))))[0].read_snapshot().change == ""
    assert make(topics, with_tables(FakeSession(rows({}, None))))[0].read_snapshot().change == ""
    assert make(topics, FakeSession())[0].read_snapshot().change == ""
    assert make(topics, FakeSession(), ("cassandra",))[0].read_snapshot().change is None


def test_without_ids_a_new_incarnation_is_found_within_a_minute(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recreated topic has the same id; marked records are read once a minute, not at every poll."""
    clock, epochs, asked = Clock(), [7], []
    monkeypatch.setattr(poller.time, "monotonic", clock.monotonic)
    monkeypatch.setattr(poller, "read_topic", lambda *_: TopicState(NO_ID, [OffsetRange(0, 0, 5)]))

    class FakeIncarnation:
        def __init__(self, *_: Any) -> None:
            pass

        def find_change(self, topic_id: str) -> str:
            asked.append(topic_id)
            return ""

    def give(query: str, values: tuple[Any, ...]) -> list[dict[str, Any]]:
        result = [{"epoch_us": epoch, "topic_id": NO_ID} for epoch in epochs]
        return result if "generations" in query else rows({0: 4})(query, values)

    monkeypatch.setattr(poller, "Incarnation", FakeIncarnation)
    reader, _ = make({"users_created": [(0, 5, 1)]}, with_tables(FakeSession(give)))
    assert [reader.poll().cassandra.ledger.epoch_us for _ in range(3)] == [7, 7, 7]
    epochs.append(9)
    clock.now_s += 60
    reader.poll()
    assert reader.poll().cassandra.ledger.epoch_us == 9
    assert len(asked) == 2


def test_a_kafka_that_fails_in_between_is_unknown(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition without a leader does not crash."""
    reader, connections = make({"users_created": [(0, 5, 1)]}, with_tables(FakeSession(rows({0: 4}))))
    error = answer(kafka_error(KafkaError.LEADER_NOT_AVAILABLE))
    monkeypatch.setattr(connections.kafka, "list_offsets", lambda wanted, **_: dict.fromkeys(wanted, error))
    assert (reader.read_snapshot().lag_records, reader.read_snapshot().topic_records) == (None, None)


def test_the_newest_time_is_only_requested_for_new_records(make: Any) -> None:
    """An idle topic needs no search for its newest record."""
    reader, connections = make({"users_created": [(0, 5, 1000)]}, FakeSession())
    assert (reader.read_snapshot().newest_record_s, reader.read_snapshot().newest_record_s) == (1.0, 1.0)
    assert connections.kafka.asked.count("MaxTimestampSpec") == 1
    connections.kafka.topics["users_created"] = [(0, 6, 2000)]
    assert reader.read_snapshot().newest_record_s == 2.0


def test_statements_of_the_ledger_are_prepared_once(make: Any) -> None:
    """A topic of the same incarnation is queried with the existing statements."""
    session = with_tables(FakeSession(rows({0: 4})))
    reader, _ = make({"users_created": [(0, 5, 1)]}, session)
    reader.read_snapshot()
    reader.read_snapshot()
    assert len([1 for query, _ in session.executed if "generations" in query]) == 1


def test_the_window_moves() -> None:
    """Growth is counted over the last minutes; the first poll has none."""
    window, same = Window(length_s=300), ("a", "b")
    assert window.add(same, Count(0, 100, 10, 90)) == (0, 0, 0)
    assert window.add(same, Count(200, 150, 12, 90)) == (50, 2, 200)
    assert window.add(same, Count(400, 160, 12, 95)) == (60, 2, 400)
    assert window.add(same, Count(500, 160, 12, 95)) == (10, 0, 300)


def test_processed_records_count_too() -> None:
    """Dead letters of a backlog are compared with what was processed, not with what arrived meanwhile."""
    window, same = Window(), ("a", "b")
    window.add(same, Count(0, 1000, 0, 0))
    assert window.add(same, Count(10, 1000, 20, 800)) == (800, 20, 10)
    assert window.add(same, Count(20, 1005, 20, None)) == (5, 20, 20)


def test_a_recreated_topic_starts_a_new_window() -> None:
    """Its offsets start at 0 again: a fall is no growth."""
    window = Window()
    window.add(("a", "b"), Count(0, 1000, 10, 1000))
    assert window.add(("c", "b"), Count(10, 5, 10, 0)) == (0, 0, 0)


def test_a_receipt_is_read_as_it_was_stored() -> None:
    """One from before warnings existed has none."""
    assert parse_receipt(RECEIPT) == Receipt(balanced=False, missing=2, warnings=("email: null",))
    assert parse_receipt({"balanced": True, "missing": 0}) == Receipt(balanced=True, missing=0)


def test_a_ledger_ahead_of_the_offsets_is_no_negative_lag() -> None:
    """The job may store rows during a poll."""
    kafka = KafkaState(TopicState("a", [OffsetRange(0, 0, 5), OffsetRange(1, 0, 5)]), TopicState("b", []), None)
    assert build_snapshot("t", Poll({}, kafka, CassandraState({0: 9, 1: 3})), Window()).lag_records == 2
