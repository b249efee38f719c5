"""The job on a topic that is recreated, and on a keyspace that is restored from an older snapshot."""

import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cassandra.cluster import Session

from penstock.broker import topics
from penstock.broker.kafka import create_admin
from penstock.broker.topics import NO_ID
from penstock.errors import CheckpointRefused, KafkaUnreachable, PenstockError, TopicRecreated, Unreachable
from penstock.pipeline import job
from penstock.pipelines import users
from penstock.process.checkpoint import Checkpoint, CheckpointOrigin, checkpoint_of
from penstock.process.session import kafka_stream
from penstock.reconcile.auditor import Auditor
from penstock.reconcile.verify import TopicReceipt, verify
from penstock.retry import wait_until
from penstock.sink import cassandra
from tests.integration.streaming import Topic

_STORED_S = 90.0
_STOPPED_S = 60.0
"""As long as the job may take to find that its topic is another one: it looks every 10 s."""


class Running:
    """The job of a separate topic, run in this process, and the users that are sent to it."""

    def __init__(self, topic: Topic, folder: Path, captured: list[dict[str, Any]]) -> None:
        self.topic = topic
        self.settings = topic.settings.model_copy(
            update={"spark_checkpoint": str(folder), "spark_trigger_ms": 100, "home": folder}
        )
        record = msgspec.convert(users.from_source(captured[0]), users.User)
        self._users = [msgspec.structs.replace(record, id=uuid.UUID(int=number + 1)) for number in range(40)]

    @property
    def checkpoint(self) -> Checkpoint:
        return checkpoint_of(self.settings, self.topic.pipeline.topic)

    def send(self, nationality: str, first: int, end: int) -> None:
        """Send a version of some users."""
        versions = [msgspec.structs.replace(user, nationality=nationality) for user in self._users[first:end]]
        self.topic.send_all((str(user.id).encode(), msgspec.json.encode(user), []) for user in versions)

    def run(self, meanwhile: Callable[[], None] | None = None) -> None:
        """Run the job until the ledger covers the topic, then stop it with SIGTERM.

        With `meanwhile` the job has to end by itself once that is done; it is stopped if it does not.
        """
        failed: list[PenstockError] = []
        ended = threading.Event()

        def stop() -> None:
            try:
                wait_until(lambda: self._check_stored(ended), timeout_s=_STORED_S, every_s=0.2, what="all to be stored")
                if meanwhile:
                    meanwhile()
                    ended.wait(_STOPPED_S)
            except PenstockError as error:
                failed.append(error)
            while not ended.wait(1):  # before the job has a handler of its own, the signal is ignored
                os.kill(os.getpid(), signal.SIGTERM)

        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stopper = threading.Thread(target=stop)
        stopper.start()
        with cassandra.open_session(self.settings) as session:
            try:
                job.run(self.topic.spark, self._read, session, self.settings)
            finally:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                ended.set()
                stopper.join(_STORED_S + _STOPPED_S)
        assert failed == []

    def _read(self, spark: Any) -> Any:
        return kafka_stream(spark, self.settings, self.topic.pipeline.topic)

    def _check_stored(self, ended: threading.Event) -> None:
        if ended.is_set():
            return
        with cassandra.open_session(self.settings) as session:
            waiting = Auditor(self.settings, session).waiting(
                topics.fetch_offset_ranges(self.settings, self.topic.pipeline.topic)
            )
        if waiting:
            raise Unreachable(f"{waiting} records wait")

    def verify(self) -> TopicReceipt:
        with cassandra.open_session(self.settings) as session:
            return verify(self.settings, session)

    def nationalities(self) -> list[str]:
        """Return the nationality of each user in the table, by number."""
        rows = self.topic.rows()
        return [rows[name]["nationality"] for name in sorted(rows)]

    def recreate(self) -> None:
        """Delete the topic and create it again."""
        client, name = create_admin(self.settings), self.topic.pipeline.topic
        client.delete_topics([name])[name].result(30)
        wait_until(self._check_gone, timeout_s=30, every_s=0.2, what="the topic to be deleted")
        topics.ensure_pipeline_topics(self.settings, self.topic.pipeline)

    def _check_gone(self) -> None:
        if topics.fetch_offset_ranges(self.settings, self.topic.pipeline.topic):
            raise Unreachable("the topic is still there")


@pytest.fixture
def running(topic: Callable[..., Topic], tmp_path: Path, captured: list[dict[str, Any]], signals: None) -> Running:
    return Running(topic(), tmp_path / "home", captured)


@pytest.fixture
def signals() -> Iterator[None]:
    """The signal handlers of this process, restored afterwards; a late signal does nothing."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    interrupt = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGTERM, before)
    signal.signal(signal.SIGINT, interrupt)


@pytest.fixture(params=["ids", "no ids"])
def broker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Kafka as it is, and as it responds for topics without ids."""
    describe = topics.describe_topic
    if request.param == "no ids":
        monkeypatch.setattr(topics, "describe_topic", lambda *asked: describe(*asked)._replace(id=NO_ID))
    return str(request.param)


def test_a_topic_recreated_under_the_job_loses_nothing(running: Running, broker: str) -> None:
    """The job stops even if the new topic has more records than its predecessor, verify names it; after a reset all are
    stored.
    """
    running.send("AA", 0, 20)

    def recreate() -> None:
        running.recreate()
        running.send("BB", 10, 40)

    running.run()
    # a job that starts while there are two topics of this name may not find its offset in either: the next start tells
    with pytest.raises((TopicRecreated, CheckpointRefused, KafkaUnreachable)):
        running.run(meanwhile=recreate)
    assert [each.kind for each in running.verify().differences] == ["recreated"]
    with pytest.raises((TopicRecreated, CheckpointRefused)):
        running.run()
    topic_id = topics.fetch_topic_id(running.settings, running.topic.pipeline.topic)
    running.checkpoint.begin_at(CheckpointOrigin(topic_id=topic_id))
    running.run()
    receipt = running.verify()
    assert (receipt.balanced, receipt.produced, receipt.stored) == (True, 30, 30), receipt.differences
    assert running.nationalities() == ["AA"] * 10 + ["BB"] * 30


class Snapshot:
    """A keyspace's content for a topic: the ledger, and the rows with their write timestamps."""

    def __init__(self, session: Session, running: Running) -> None:
        keyspace, table = running.topic.pipeline.keyspace, running.topic.pipeline.table
        self._session, self._tables = session, (f"{keyspace}.ledger", f"{keyspace}.{table}")
        ledger, rows = (f"SELECT * FROM {name}" for name in self._tables)
        self._ledger = list(session.execute(ledger))
        written = session.execute(f"SELECT id, WRITETIME(kafka_offset) AS written_us FROM {self._tables[1]}")
        self._written_us = {row["id"]: row["written_us"] for row in written}
        self._rows = list(session.execute(rows))

    def restore(self) -> None:
        for name in self._tables:
            self._session.execute(f"TRUNCATE {name}", timeout=120)
        for line in self._ledger:
            self._insert(self._tables[0], line, "")
        for row in self._rows:
            self._insert(self._tables[1], row, f" USING TIMESTAMP {self._written_us[row['id']]}")

    def _insert(self, table: str, row: dict[str, Any], using: str) -> None:
        given = {name: value for name, value in row.items() if value is not None}
        marks = ", ".join(["%s"] * len(given))
        self._session.execute(
            f"INSERT INTO {table} ({', '.join(given)}) VALUES ({marks}){using}", tuple(given.values())
        )


def test_after_a_restore_the_job_resumes_where_the_ledger_ends(running: Running) -> None:
    """Not at its checkpoint, which is ahead: rows stored after the snapshot are stored again, and verify balances."""
    running.send("AA", 0, 20)
    running.run()
    with cassandra.open_session(running.settings) as session:
        snapshot = Snapshot(session, running)
        running.send("BB", 10, 40)
        running.run()
        snapshot.restore()
    assert running.nationalities() == ["AA"] * 20
    assert not running.verify().balanced or running.verify().waiting
    running.run()
    receipt = running.verify()
    assert (receipt.balanced, receipt.waiting, receipt.produced) == (True, 0, 50), receipt.differences
    assert running.nationalities() == ["AA"] * 10 + ["BB"] * 30
    note = running.checkpoint.origin().note
    assert "resumed from the ledger" in note
    running.run()
    assert running.checkpoint.origin().note == note
    assert len(list(Path(running.checkpoint.folder).parent.glob("*.before-*"))) == 1
