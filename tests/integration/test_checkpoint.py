"""A real checkpoint of a real Spark: corrupt, inconsistent with the real Kafka, owned through the real Cassandra."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cassandra.cluster import Session
from confluent_kafka import TopicPartition
from pyspark.sql import DataFrame, SparkSession

from penstock import pipelines
from penstock.broker import topics
from penstock.broker.kafka import create_admin, create_producer
from penstock.config import Settings
from penstock.contract.failing import FailingBatch
from penstock.errors import CheckpointRefused, JobRunning, Unreachable
from penstock.pipeline import job
from penstock.pipeline.failures import FailureRecorder
from penstock.pipeline.progress_recorder import ProgressRecorder
from penstock.pipelines import Pipeline
from penstock.process.checkpoint import CheckpointOrigin, checkpoint_of
from penstock.process.checkpoint_files import CorruptFile, HadoopFiles, LocalFiles
from penstock.process.session import kafka_stream, spark_session
from penstock.retry import wait_until
from penstock.sink import cassandra, lease
from penstock.sink.failing_batches import FailingBatches
from penstock.sink.progress import Batch, Progress
from tests.conftest import Stack


@pytest.fixture(scope="module")
def spark(stack: Stack) -> Iterator[SparkSession]:
    """A Spark session with two threads and the stack's configuration and jars."""
    os.environ["SPARK_CONF_DIR"] = str(stack.settings.home / "run" / "spark-conf")
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    local = stack.settings.model_copy(update={"spark_master": "local[2]", "spark_job_ui_port": 0})
    with spark_session(local, "tests") as session:
        yield session
    del os.environ["SPARK_CONF_DIR"], os.environ["SPARK_LOCAL_IP"]


class Counted(job.BatchRunner):
    """A batch runner that records the offsets it is given, and stops the job after `wanted` of them."""

    def __init__(self, wanted: int) -> None:
        super().__init__(None, None, threading.Event())  # type: ignore[arg-type]
        self._wanted = wanted
        self.seen: list[int] = []

    def process_batch(self, raw: DataFrame, batch_id: int) -> None:
        with self._working:
            if self.stopping.is_set():
                raise InterruptedError(f"batch {batch_id} was not started")
            self.seen += [row["offset"] for row in raw.select("offset").collect()]
            self.batches += 1
            if len(set(self.seen)) >= self._wanted:
                self.stopping.set()


class Forgetful(Progress):
    """Record nothing of a stream's progress."""

    def __init__(self) -> None:
        pass

    def keep(self, batches: Iterable[Batch]) -> None:
        pass

    def failed(self, error: str, trace: str) -> None:
        pass


class NothingFailing(FailingBatches):
    """Record nothing of a failing batch."""

    def __init__(self) -> None:
        pass

    def read(self) -> list[FailingBatch]:
        return []

    def write(self, batch: FailingBatch) -> None:
        pass

    def resolve(self, checkpoint: str) -> None:
        pass


class Query:
    """A topic with one partition, and a query on it with its own checkpoint."""

    def __init__(self, settings: Settings, spark: SparkSession, pipeline: Pipeline, folder: Path) -> None:
        self.settings = settings.model_copy(
            update={"spark_checkpoint": str(folder), "spark_trigger_ms": 0, "kafka_partitions": 1}
        )
        self._spark = spark
        self.topic = pipeline.topic
        topics.ensure_topic(self.settings, self.topic)
        self.checkpoint = checkpoint_of(self.settings, self.topic)
        self.folder = Path(self.checkpoint.folder)

    def send(self, count: int) -> None:
        client = create_producer(self.settings)
        for _ in range(count):
            client.produce(self.topic, value=b"{}", key=b"key")
        assert client.flush(30) == 0

    def read(self, wanted: int) -> list[int]:
        """Return the sorted offsets that the query read, once there are `wanted` of them; the query runs as in the
        job.
        """
        keeper = Counted(wanted)
        job.prepare_checkpoint(self.checkpoint, self.settings)
        stream = kafka_stream(self._spark, self.settings, self.topic)
        recorder = FailureRecorder(NothingFailing(), self.checkpoint, "")
        job._run_query(stream, self.settings, self.checkpoint, keeper, ProgressRecorder(Forgetful()), recorder)
        return sorted(set(keeper.seen))

    def delete_until(self, offset: int) -> None:
        """Delete records as retention does."""
        place = TopicPartition(self.topic, 0, offset)
        client = create_admin(self.settings)
        client.delete_records([place])[place].result(30)

    def recreate(self) -> None:
        client = create_admin(self.settings)
        client.delete_topics([self.topic])[self.topic].result(30)

        def gone() -> None:
            if topics.fetch_offset_ranges(self.settings, self.topic):
                raise Unreachable("still there")

        wait_until(gone, timeout_s=30, what="the topic to be deleted")
        topics.ensure_topic(self.settings, self.topic)

    def newest(self, kind: str) -> Path:
        return max(
            (path for path in (self.folder / kind).iterdir() if path.name.isdecimal()), key=lambda p: int(p.name)
        )


@pytest.fixture
def query(settings: Settings, spark: SparkSession, pipeline_file: Callable[..., Path], tmp_path: Path) -> Query:
    """A query that has read five records, then five more."""
    pipeline = pipelines.of(settings.model_copy(update={"pipeline": str(pipeline_file())}))
    running_query = Query(settings, spark, pipeline, tmp_path / "check points")
    running_query.send(5)
    assert running_query.read(5) == [0, 1, 2, 3, 4]
    running_query.send(5)
    assert running_query.read(5) == [5, 6, 7, 8, 9]
    return running_query


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])


def spoilt(file: Path) -> None:
    file.write_bytes(file.read_bytes().translate(bytes.maketrans(b"0123456789", b"1234567890")))


@pytest.mark.parametrize(
    "torn",
    [
        {"offsets": emptied, "metadata": cut},
        {"offsets": spoilt, "sources/0/0": emptied, "penstock.json": cut},
        {"commits": cut},
        {"offsets": emptied, "commits": emptied},
    ],
    ids=["plan and metadata", "checksum, start and ours", "commit", "plan and commit"],
)
def test_a_corrupt_end_is_repaired(query: Query, torn: dict[str, Callable[[Path], None]]) -> None:
    """As after a power failure: the query resumes, skips nothing, and the corrupt files are kept."""
    known = query.checkpoint.origin()
    for name, tear in torn.items():
        tear(query.newest(name) if name in {"offsets", "commits"} else query.folder / name)
    query.send(1)
    assert query.read(6) == [5, 6, 7, 8, 9, 10]
    assert len(torn) <= len([kept for kept in (query.folder / "torn").iterdir() if not kept.name.startswith(".")])
    assert query.checkpoint.origin().query_id == known.query_id
    assert query.checkpoint.repair() == []


def test_a_corrupt_file_that_is_not_the_newest_is_an_error(query: Query) -> None:
    """Nothing is guessed: the message names the file and the three options."""
    newest = query.newest("offsets")
    before = newest.with_name(str(int(newest.name) - 1))
    emptied(before)
    with pytest.raises(CheckpointRefused, match=f"offsets/{before.name}, which is not the newest") as caught:
        query.read(1)
    assert "checkpoint reset --to earliest" in caught.value.message


def test_records_deleted_before_they_were_read_stop_the_job(query: Query) -> None:
    """The message says how many in which partition; then each of the two resets works as documented."""
    query.send(5)
    query.delete_until(12)
    with pytest.raises(
        CheckpointRefused, match="at 10, Kafka has 12 to 15: 2 records were deleted before they were read"
    ):
        query.read(1)
    topic_id = topics.fetch_topic_id(query.settings, query.topic)
    kept = query.checkpoint.begin_at(CheckpointOrigin(topic_id=topic_id))
    assert kept is not None
    assert (Path(kept) / "offsets").is_dir()
    assert query.read(3) == [12, 13, 14]
    query.send(2)
    query.checkpoint.begin_at(CheckpointOrigin(topic_id=topic_id, start={0: 16}))
    assert query.read(1) == [16]


def test_a_recreated_topic_stops_the_job(query: Query) -> None:
    """Even if it has as many records as its predecessor."""
    query.recreate()
    query.send(10)
    with pytest.raises(CheckpointRefused, match="belongs to another topic of this name"):
        query.read(1)
    query.checkpoint.begin_at(CheckpointOrigin(topic_id=topics.fetch_topic_id(query.settings, query.topic)))
    assert query.read(10) == list(range(10))


def test_hadoop_and_local_files_are_the_same(query: Query, spark: SparkSession) -> None:
    """Names, bytes, checksums and renames are the same through the JVM and through the local folder."""
    ours, sparks, url = LocalFiles(), HadoopFiles(spark), query.checkpoint.url
    shown = {name for name in ours.names(query.checkpoint.folder) if not name.startswith(".")}
    assert {name for name in sparks.names(url) if not name.startswith(".")} == shown
    assert sparks.names(f"{url}/nothing") == []
    assert sparks.read(f"{url}/metadata") == ours.read(f"{query.folder}/metadata")
    with pytest.raises(FileNotFoundError):
        sparks.read(f"{url}/nothing")
    for data in (b"older", b"some bytes"):
        sparks.write(f"{url}/new/file", data)
    assert ours.read(f"{query.folder}/new/file") == b"some bytes"
    sparks.move(f"{url}/new/file", f"{url}/newer/file")
    assert sorted(ours.names(f"{query.folder}/newer")) == [".file.crc", "file"]
    spoilt(query.folder / "metadata")
    for files, folder in ((ours, query.checkpoint.folder), (sparks, url)):
        with pytest.raises(CorruptFile):
            files.read(f"{folder}/metadata")


@pytest.fixture
def session(settings: Settings, pipeline_file: Callable[..., Path]) -> Iterator[tuple[Session, str]]:
    """A session, and a separate keyspace with the lease table."""
    own = settings.model_copy(update={"pipeline": str(pipeline_file())})
    keyspace = pipelines.of(own).keyspace
    with cassandra.open_session(own) as connected:
        cassandra.create_keyspace(connected, own, pipelines.of(own))
        lease.create_table(connected, keyspace)
        yield connected, keyspace


def owner_of(session: tuple[Session, str]) -> Any:
    row = session[0].execute(f"SELECT owner, ttl(owner) AS ttl_s FROM {session[1]}.leases WHERE name = 'c'").one()
    return row and (msgspec.json.decode(row["owner"], type=lease.Owner), row["ttl_s"])


def test_a_lease_has_one_owner(session: tuple[Session, str]) -> None:
    """A second owner is rejected; the owner renews the lease, and releases it."""
    mine = lease.Lease(*session, "c")
    other = lease.Lease(*session, "c")
    other.me = msgspec.structs.replace(mine.me, host="elsewhere")
    with lease.hold_lease(mine):
        with pytest.raises(JobRunning, match=f"process {os.getpid()} on"):
            other.take(wait_s=0)
        mine.renew()
        mine.confirm()
        owner, ttl_s = owner_of(session)
        assert owner == mine.me
        assert 0 < ttl_s <= lease.TTL_S
    assert owner_of(session) is None
    other.take(wait_s=0)
    mine.renew()
    with pytest.raises(JobRunning, match="elsewhere"):
        mine.confirm()


def test_the_lease_of_a_dead_process_is_taken_over_at_once(session: tuple[Session, str]) -> None:
    """A job that is restarted after kill -9 does not wait for the lease to expire."""
    mine = lease.Lease(*session, "c")
    dead = lease.Lease(*session, "c")
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    dead.me = msgspec.structs.replace(mine.me, pid=process.pid, started="1")
    dead.take(wait_s=0)
    mine.take(wait_s=0)
    assert owner_of(session)[0] == mine.me


def test_an_expired_lease_is_reacquired(session: tuple[Session, str]) -> None:
    """The job keeps it if nobody else took it, for example after Cassandra was unavailable."""
    mine = lease.Lease(*session, "c")
    mine.take(wait_s=0)
    session[0].execute(f"DELETE FROM {session[1]}.leases WHERE name = 'c' IF EXISTS")
    mine.renew()
    mine.confirm()
    assert owner_of(session)[0] == mine.me
