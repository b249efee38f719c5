import os
import re
import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from cassandra import Unauthorized
from pyspark.errors import StreamingQueryException

from penstock.broker.topics import OffsetRange
from penstock.config import read
from penstock.contract.batch import BatchSummary
from penstock.contract.evolution import Change, ChangeKind
from penstock.contract.failing import FailingBatch
from penstock.contract.order import ONE_LAYOUT, Order, TopicLayout
from penstock.contract.proofs import NOTHING_PROVEN, KeyProofs
from penstock.errors import (
    CassandraUnreachable,
    CheckpointRefused,
    JobRunning,
    KafkaUnreachable,
    PenstockError,
    StoreFailed,
    TopicRecreated,
    TransformFailed,
)
from penstock.pipeline import job
from penstock.pipeline.job import BatchRunner
from penstock.process.checkpoint import checkpoint_of
from tests.unit.fakes import FakeSession, created

ONE = BatchSummary(
    partition=0,
    first_offset=0,
    last_offset=4,
    records=5,
    stored=5,
    deleted=0,
    rejected=0,
    filtered=0,
    stored_at_ms=1,
    nulls={},
    latencies={},
)


FAILING = FailingBatch(
    checkpoint="/c/users_created",
    batch_id=7,
    first={0: 17},
    end={0: 20},
    failures=1,
    first_at=datetime(2026, 1, 1, tzinfo=UTC),
    last_at=datetime(2026, 1, 1, tzinfo=UTC),
    state="transform_failed",
    cause="orders.py, line 7: ValueError",
    message="orders.py, line 7: ValueError: no",
)


class FakeBook:
    """Stands for the ledger."""

    def __init__(self) -> None:
        self.written, self.lags_s = [], []

    def write(self, job_id, batch_id, summaries, sync_lag_s) -> None:
        self.written.append((job_id, batch_id, list(summaries)))
        self.lags_s.append(sync_lag_s)


def raw_of(query_id: str | None):
    """The argument of foreachBatch: a DataFrame that knows its query."""
    context = SimpleNamespace(getLocalProperty={"sql.streaming.queryId": query_id}.get)
    return SimpleNamespace(sparkSession=SimpleNamespace(sparkContext=context))


class FakeNoter:
    """Stands for the noter of a stream's progress."""

    def __init__(self, progress=None) -> None:
        self.looks, self.failures = 0, []

    def note(self, query) -> None:
        self.looks += 1

    def record_failure(self, error) -> None:
        self.failures.append(error)


class FakeRecorder:
    """Stands for the recorder of failing batches."""

    def __init__(self) -> None:
        self.recorded, self.looks = [], 0

    def record(self, error):
        self.recorded.append(error)
        return FAILING if isinstance(error, TransformFailed) else None

    def resolve_if_done(self) -> None:
        self.looks += 1


class FakeQuery:
    """A streaming query that ends as in `outcomes`, one per wait, and runs in between."""

    def __init__(self, *outcomes, busy: int = 0) -> None:
        self.outcomes, self.busy = list(outcomes), busy
        self.stopped = False

    isActive = True  # noqa: N815

    @property
    def status(self):
        self.busy -= 1
        return {"isTriggerActive": self.busy >= 0}

    def awaitTermination(self, timeout=None):  # noqa: N802
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if isinstance(outcome, Exception):
            raise outcome
        if outcome:
            outcome()

    def stop(self) -> None:
        self.stopped = True


@dataclass(frozen=True)
class FakePlan:
    """A plan that knows only the order, and the key formats of the topic."""

    order: Order = ONE_LAYOUT
    proofs: KeyProofs = NOTHING_PROVEN
    found: SimpleNamespace | None = None


@pytest.fixture
def stored(monkeypatch):
    """Return a stand-in for `store`; it returns one summary unless specified otherwise."""
    world = SimpleNamespace(calls=0, do=lambda: [ONE], with_plan=False)

    def store(_raw, plan):
        world.calls += 1
        world.order = plan.order
        return world.do(plan) if world.with_plan else world.do()

    monkeypatch.setattr(job, "store_batch", store)
    return world


def test_a_batch_is_in_the_ledger_once_it_is_stored(stored):
    """After a batch its entries are written, under the id of the query, which survives the process."""
    book = FakeBook()
    keeper = BatchRunner(FakePlan(), book, threading.Event())
    keeper.process_batch(raw_of("query-1"), 7)
    keeper.process_batch(raw_of(None), 8)
    assert book.written == [("query-1", 7, [ONE]), ("unknown", 8, [ONE])]
    assert keeper.batches == 2
    assert book.lags_s == [0, 0]


def test_proven_key_formats_are_kept_before_the_ledger_entries(stored):
    """A batch gets what is known so far and nothing that an earlier attempt found; a failed batch keeps nothing."""
    happened = []
    known = KeyProofs({"text": {}})
    formats = SimpleNamespace(known=known, note=lambda *what: happened.append(("note", *what)))
    book = SimpleNamespace(write=lambda *_: happened.append("ledger"))
    keeper = BatchRunner(FakePlan(found=SimpleNamespace(value=None)), book, threading.Event(), key_formats=formats)

    def do(plan):
        assert (plan.proofs, plan.found.value) == (known, {})
        plan.found.value["connect"] = {0: 4}
        if not happened:
            happened.append("failed")
            raise StoreFailed("no")
        return [ONE]

    stored.do, stored.with_plan = do, True
    with pytest.raises(StoreFailed):
        keeper.process_batch(raw_of("q"), 7)
    keeper.process_batch(raw_of("q"), 7)
    assert happened == ["failed", ("note", {"connect": {0: 4}}, [ONE]), "ledger"]


def test_a_batch_is_stored_in_the_current_order(stored):
    """The topic may have grown since the previous batch; if Kafka does not respond, nothing of the batch is stored."""
    grown = Order((TopicLayout(4), TopicLayout(6, 9)))
    BatchRunner(FakePlan(), FakeBook(), threading.Event(), order=lambda: grown).process_batch(raw_of("q"), 7)
    assert stored.order is grown

    def away():
        raise KafkaUnreachable("away")

    with pytest.raises(KafkaUnreachable):
        BatchRunner(FakePlan(), FakeBook(), threading.Event(), order=away).process_batch(raw_of("q"), 7)
    assert stored.calls == 1


def test_a_failed_batch_is_not_in_the_ledger(stored):
    """The error is raised, nothing is written, and the next batch can be recorded."""
    book = FakeBook()
    keeper = BatchRunner(FakePlan(), book, threading.Event())

    def fail():
        raise StoreFailed("no")

    stored.do = fail
    with pytest.raises(StoreFailed):
        keeper.process_batch(raw_of("q"), 1)
    stored.do = lambda: [ONE]
    keeper.process_batch(raw_of("q"), 1)
    assert len(book.written) == 1


def test_no_batch_starts_once_the_job_is_stopping(stored):
    """A batch that arrives after the stop is rejected before any of it is processed."""
    keeper = BatchRunner(FakePlan(), FakeBook(), threading.Event())
    keeper.stopping.set()
    with pytest.raises(InterruptedError, match="batch 7 was not started"):
        keeper.process_batch(raw_of("q"), 7)
    assert stored.calls == 0


def test_no_batch_starts_without_the_lease(stored):
    """Another job's checkpoint is left alone: the error is raised before any of the batch is processed."""

    def confirm():
        raise JobRunning("another job")

    with pytest.raises(JobRunning):
        BatchRunner(FakePlan(), FakeBook(), threading.Event(), confirm).process_batch(raw_of("q"), 7)
    assert stored.calls == 0


def test_the_batch_in_flight_is_finished_before_a_stop(stored):
    """`wait_idle` returns when the started batch is stored and in the ledger, not before."""
    happened = []
    begun, may_end = threading.Event(), threading.Event()
    book = SimpleNamespace(write=lambda *_: happened.append("written"))
    keeper = BatchRunner(FakePlan(), book, threading.Event())

    def slow():
        begun.set()
        assert may_end.wait(10)
        return [ONE]

    def wait_idle():
        keeper.wait_idle()
        happened.append("idle")

    stored.do = slow
    batch = threading.Thread(target=keeper.process_batch, args=(raw_of("q"), 1))
    idle = threading.Thread(target=wait_idle)
    batch.start()
    assert begun.wait(10)
    keeper.stopping.set()
    idle.start()
    may_end.set()
    for thread in (batch, idle):
        thread.join(10)
    assert happened == ["written", "idle"]


def test_a_stop_waits_for_the_commit(clock):
    """Once stopping is set, the query is stopped after the current trigger has committed."""
    keeper = BatchRunner(FakePlan(), FakeBook(), threading.Event())
    query, noter = FakeQuery(None, keeper.stopping.set, busy=3), FakeNoter()
    recorder = FakeRecorder()
    job._watch_query(query, keeper, noter, recorder)
    assert query.stopped
    assert (noter.looks, recorder.looks) == (2, 3)
    assert clock.slept_s == [0.05] * 3


def test_the_wait_for_a_commit_is_bounded(clock):
    """A trigger that never ends does not keep the job from stopping."""
    keeper = BatchRunner(FakePlan(), FakeBook(), threading.Event())
    keeper.stopping.set()
    query = FakeQuery(busy=10**9)
    job._watch_query(query, keeper, FakeNoter(), FakeRecorder())
    assert query.stopped
    assert sum(clock.slept_s) == pytest.approx(10, abs=0.1)


def test_a_query_that_fails_is_an_error():
    """Spark's error is raised if the job is not stopping."""
    query = FakeQuery(None, StreamingQueryException("StoreFailed"))
    with pytest.raises(StreamingQueryException):
        job._watch_query(query, BatchRunner(FakePlan(), FakeBook(), threading.Event()), FakeNoter(), FakeRecorder())


def test_a_batch_rejected_by_the_stop_is_no_error(clock):
    """The stop prevents the next batch on purpose; any other error of a stopping query is one."""
    keeper = BatchRunner(FakePlan(), FakeBook(), threading.Event())
    keeper.stopping.set()
    for refusal in ("InterruptedError: batch 7 was not started", "JobRunning: another job owns the checkpoint"):
        job._watch_query(FakeQuery(StreamingQueryException(refusal)), keeper, FakeNoter(), FakeRecorder())
    with pytest.raises(StreamingQueryException):
        job._watch_query(FakeQuery(StreamingQueryException("StoreFailed")), keeper, FakeNoter(), FakeRecorder())


@pytest.fixture
def signals():
    """The signal handlers of this process, restored afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_job(signals, number):
    """SIGTERM and SIGINT set stopping, and nothing else happens to the process."""
    stopping = threading.Event()
    job._stop_on_signal(stopping)
    os.kill(os.getpid(), number)
    assert stopping.wait(10)


class FakeLease:
    """Stands for the lease; `lost_to` gives it to another job."""

    def __init__(self, on_lost) -> None:
        self.on_lost, self.lost_to, self.happened = on_lost, "", []

    def lose(self) -> None:
        self.lost_to = "process 7 on elsewhere"
        self.on_lost()

    def confirm(self) -> None:
        self.check_kept()

    def check_kept(self) -> None:
        if self.lost_to:
            raise JobRunning(self.lost_to)


@pytest.fixture
def around(monkeypatch, signals, stored, clock, tmp_path):
    """A job with these queries, one after the other, in the order of `happened`."""
    around = SimpleNamespace(
        queries=[], keeper=None, waited_s=[], starts=0, happened=[], fits=lambda: "id-1", lease=None
    )
    around.settings = read(spark_checkpoint=str(tmp_path / "c"))
    around.book = FakeBook()

    def start(_records, _settings, checkpoint, keeper):
        around.starts += 1
        around.happened.append("start")
        around.keeper = keeper
        if not around.queries:
            keeper.stopping.set()
            return FakeQuery()
        return FakeQuery(around.queries.pop(0))

    def wait(self, seconds=None):
        around.waited_s.append(seconds)
        return self.is_set()

    def make_fit(checkpoint, _settings):
        around.happened.append("fit")
        around.folder = checkpoint.folder
        return around.fits()

    def new_lease(_session, _keyspace, name, on_lost):
        around.lease = FakeLease(on_lost)
        around.lease.name = name
        return around.lease

    @contextmanager
    def held(_lease):
        around.happened.append("take")
        try:
            yield
        finally:
            around.happened.append("give back")

    monkeypatch.setattr(job.cassandra, "find_table_problems", lambda *_: [])
    monkeypatch.setattr(job.cassandra, "sync_lag_s", lambda _session: 0.01)
    monkeypatch.setattr(job.lease, "Lease", new_lease)
    monkeypatch.setattr(job.lease, "hold_lease", held)
    monkeypatch.setattr(job, "prepare_checkpoint", make_fit)
    around.changes = []
    around.guard = SimpleNamespace(
        watch=lambda: around.changes and around.changes.pop(0)(), check=lambda: around.happened.append("check")
    )
    around.incarnation = SimpleNamespace(
        begin_generation=lambda topic_id, **_: around.happened.append(("begin", topic_id)) or 5,
        find_change=lambda topic_id: "",
        find_cut=lambda topic_id: "",
        find_other_log=lambda topic_id: "",
    )
    monkeypatch.setattr(job, "Incarnation", lambda *_: around.incarnation)
    monkeypatch.setattr(job, "TopicGuard", lambda *_: around.guard)
    monkeypatch.setattr(job.ledger, "Ledger", lambda *_: around.book)
    monkeypatch.setattr(job, "build_observer", lambda *_: lambda: ONE_LAYOUT)
    monkeypatch.setattr(job, "KeyFormats", lambda *_: None)
    monkeypatch.setattr(job, "build_plan", lambda *_: FakePlan())
    around.noter = FakeNoter()
    monkeypatch.setattr(job, "ProgressRecorder", lambda progress: around.noter)
    around.recorder = FakeRecorder()
    monkeypatch.setattr(job, "create_recorder", lambda *_: around.recorder)
    monkeypatch.setattr(job, "_silence_tracebacks", lambda: None)
    monkeypatch.setattr(job, "warm_up", lambda *_: None)
    monkeypatch.setattr(job, "raw_records", lambda records, _order_by: records)
    monkeypatch.setattr(job.table_orders, "fix_order", lambda *_: None)
    monkeypatch.setattr(job, "_start_query", start)
    monkeypatch.setattr(threading.Event, "wait", wait)
    around.run = lambda: job.run(None, lambda _spark: None, None, around.settings)
    return around


def failed() -> StreamingQueryException:
    return StreamingQueryException("StoreFailed: no\nand a long trace")


def test_a_failed_query_is_restarted(around):
    """A failed batch is retried with increasing delay; each failure is recorded."""
    around.queries = [failed(), failed(), failed()]
    around.run()
    assert [str(failure).partition(":")[0] for failure in around.noter.failures] == ["StoreFailed"] * 3
    assert around.starts == 4
    assert around.waited_s == [2, 4, 8]


def test_a_batch_is_recorded_with_the_commit_log_lag(around):
    """The ledger gets the time after which Cassandra has in its commit log what it acknowledged."""

    def batch():
        around.keeper.process_batch(raw_of("q"), 7)
        around.keeper.stopping.set()

    around.queries = [batch]
    around.run()
    assert (around.book.written, around.book.lags_s) == ([("q", 7, [ONE])], [0.01])


def test_a_query_that_always_fails_fails_the_job(around):
    """Five failures in a row without a completed batch end the job with Spark's error."""
    around.queries = [failed() for _ in range(9)]
    with pytest.raises(StreamingQueryException):
        around.run()
    assert around.starts == 5


def test_a_failing_transform_leaves_the_job_idle(around, stored, capsys):
    """The query is not restarted, the process neither ends nor fails, and one event says where and what to do."""

    def fail():
        raise TransformFailed("/p/orders.py, line 7: ValueError: no\n  transform fails", hint="correct it", kind="k")

    def batch():
        with pytest.raises(TransformFailed):
            around.keeper.process_batch(raw_of("q"), 7)
        raise failed()

    stored.do, around.queries = fail, [batch]
    around.run()
    assert (around.starts, around.waited_s) == (1, [None])
    (error,) = around.recorder.recorded
    assert isinstance(error, TransformFailed)
    assert around.happened[-1] == "give back"


def test_the_python_error_is_recorded_instead_of_sparks_message(around, stored):
    """An error of an earlier query is not taken for that of one that failed before its first batch."""

    def fail():
        raise StoreFailed("no")

    def batch():
        with pytest.raises(StoreFailed):
            around.keeper.process_batch(raw_of("q"), 7)
        raise failed()

    stored.do, around.queries = fail, [batch, failed()]
    around.run()
    assert [type(error) for error in around.recorder.recorded] == [StoreFailed, StreamingQueryException]


def test_the_checkpoint_is_owned_and_checked_first(around):
    """First the folder's lease is acquired, then the checkpoint is checked, then the incarnation starts, then the
    query.
    """
    around.run()
    begin = ("begin", "id-1")
    assert around.happened == ["take", "fit", begin, "start", "give back"]
    assert around.lease.name == around.folder == str(around.settings.checkpoint) + "/users_created"


def test_each_start_of_the_query_checks_the_checkpoint(around):
    """Corrupt files, and records deleted from Kafka while the job ran, are found before the query resumes."""
    around.queries = [failed()]
    around.run()
    looked = [item for item in around.happened if item in {"fit", "check", "start"}]
    assert looked == ["fit", "start", "fit", "check", "start"]


def test_a_checkpoint_that_does_not_fit_stops_the_job(around):
    """No query and no incarnation starts."""

    def refuse():
        raise CheckpointRefused("no")

    around.fits = refuse
    with pytest.raises(CheckpointRefused):
        around.run()
    assert around.happened == ["take", "fit", "give back"]


def test_an_unavailable_kafka_between_two_starts_is_retried(around):
    """It counts as a failure of the query, with the same back-off."""
    answers = iter(["id-1", KafkaUnreachable("away"), "id-1"])

    def fits():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    around.queries, around.fits = [failed()], fits
    around.run()
    assert (around.starts, around.waited_s) == (2, [2, 4])


def test_a_topic_recreated_while_the_job_waits_stops_it(around):
    """The query is stopped, the failure is recorded, and the job does not retry by itself."""

    def recreate():
        raise TopicRecreated("recreated")

    around.queries, around.changes = [None, failed()], [lambda: None, recreate]
    with pytest.raises(TopicRecreated):
        around.run()
    assert [str(failure) for failure in around.noter.failures] == ["recreated"]
    assert around.happened[-2:] == ["start", "give back"]


def test_a_query_on_a_recreated_topic_is_stopped():
    """None of its batches runs after the error."""

    def watch():
        raise TopicRecreated("recreated")

    query, guard = FakeQuery(), SimpleNamespace(watch=watch)
    keeper = BatchRunner(FakePlan(), FakeBook(), threading.Event(), guard=guard)
    with pytest.raises(TopicRecreated):
        job._watch_query(query, keeper, FakeNoter(), FakeRecorder())
    assert query.stopped


def test_a_checkpoint_of_another_log_stops_the_job_where_topics_have_no_id(around):
    """No incarnation and no query starts."""
    around.incarnation.find_other_log = lambda topic_id: "the record at 0:3 is not the one that was read before"
    folder = checkpoint_of(around.settings, "users_created").folder
    (Path(folder) / "offsets").mkdir(parents=True)
    (Path(folder) / "offsets" / "0").write_text('v1\n{}\n{"users_created":{"0":7}}')
    with pytest.raises(TopicRecreated, match="the record at 0:3 is not the one") as failed:
        around.run()
    assert "./penstock checkpoint reset --to earliest" in failed.value.message
    assert around.happened == ["take", "fit", "give back"]


def test_a_job_that_lost_its_lease_ends_with_an_error(around):
    """It stops as after a signal, and then names the new owner."""
    around.queries = [lambda: around.lease.lose()]  # noqa: PLW0108 - the lease is made later
    with pytest.raises(JobRunning, match="process 7 on elsewhere"):
        around.run()
    assert around.happened[-2:] == ["start", "give back"]


def test_a_table_that_does_not_fit_stops_the_job(around, monkeypatch):
    """The error names each problem and the commands that show and solve it; the lease is not acquired."""
    monkeypatch.setattr(job.cassandra, "find_table_problems", lambda *_: ["column `email` text is new", "the key is"])
    with pytest.raises(PenstockError, match=r"rows do not fit the table .*created_users") as caught:
        around.run()
    assert caught.value.message.splitlines()[1:] == ["  column `email` text is new", "  the key is"]
    assert caught.value.hint == "./penstock schema plan, ./penstock schema apply"
    assert around.happened == []


def test_a_table_with_another_ttl_stops_the_job(around, monkeypatch):
    """Rows would expire earlier or later than the pipeline declares; `schema apply` alters the table."""
    monkeypatch.setattr(job.cassandra, "find_ttl_change", lambda *_: Change.of("", ChangeKind.TTL_CHANGED, "60 s"))
    with pytest.raises(PenstockError, match=r"the table spark_streams.created_users: 60 s") as caught:
        around.run()
    assert caught.value.hint == "./penstock schema plan, ./penstock schema apply"
    assert around.happened == []


def test_a_checkpoint_is_prepared(monkeypatch, tmp_path):
    """Its corrupt end is repaired first, then it is compared with Kafka, and then the topic's id is stored in it."""
    checkpoint = checkpoint_of(read(spark_checkpoint=str(tmp_path)), "t")
    (tmp_path / "t" / "offsets").mkdir(parents=True)
    (tmp_path / "t" / "offsets" / "0").write_text('v1\n{}\n{"t":{"0":7}}')
    (tmp_path / "t" / "offsets" / "1").write_text("")
    held = {"span": OffsetRange(0, 0, 7)}
    monkeypatch.setattr(job.topics, "fetch_topic_id", lambda *_: "id-1")
    monkeypatch.setattr(job.topics, "fetch_offset_ranges", lambda *_: [held["span"]])
    assert job.prepare_checkpoint(checkpoint, read()) == "id-1"
    assert checkpoint.origin().topic_id == "id-1"
    assert not (tmp_path / "t" / "offsets" / "1").exists()
    held["span"] = OffsetRange(0, 0, 6)
    with pytest.raises(CheckpointRefused):
        job.prepare_checkpoint(checkpoint, read())


def test_spark_uses_the_checked_folder(tmp_path):
    """The query's checkpoint is ours, as a URL that does not depend on Hadoop's default file system."""
    asked = {}

    class Writer:
        def queryName(self, name):  # noqa: N802
            asked["name"] = name
            return self

        def option(self, key, value):
            asked[key] = value
            return self

        def trigger(self, processingTime):  # noqa: N803
            asked["trigger"] = processingTime
            return self

        def foreachBatch(self, keep):  # noqa: N802
            return self

        def start(self):
            return "query"

    checkpoint = checkpoint_of(read(spark_checkpoint=str(tmp_path)), "t")
    keeper = BatchRunner(FakePlan(), FakeBook(), threading.Event())
    assert (
        job._start_query(SimpleNamespace(writeStream=Writer()), read(spark_trigger_ms=70), checkpoint, keeper)
        == "query"
    )
    assert asked == {"name": "t", "checkpointLocation": f"file://{tmp_path}/t", "trigger": "70 milliseconds"}


def test_every_table_is_created(settings):
    """The pipeline's, the ledger's and the leases'."""
    session = FakeSession()
    job.create_tables(session, settings)
    made = [re.search(r"spark_streams\.(\w+)", query)[1] for query in created(session)]
    assert made[0] == "created_users"
    assert {"ledger", "generations", "leases"} <= set(made)


def test_a_role_without_create_gets_everything_that_is_missing(settings):
    """Keyspace and each table that any command needs, in one message; nothing if an administrator created them."""

    def denied(query, _values):
        if query.lstrip().startswith("CREATE"):
            raise Unauthorized("User app has no CREATE permission on <all keyspaces> or any of its parents")
        return []

    with pytest.raises(PenstockError) as failed:
        job.create_keyspace(FakeSession(denied), settings)
    made = re.findall(r"CREATE (?:KEYSPACE|TABLE) IF NOT EXISTS (\S+)", failed.value.message)
    assert made[:2] == ["spark_streams", "spark_streams.created_users"]
    own = ("ledger", "generations", "layouts", "batches", "failures", "failing_batches", "leases", "marks")
    others = (*own, "key_formats", "settled", "receipts", "accepted", "table_orders")
    assert made[2:] == [f"spark_streams.{name}" for name in others]
    with pytest.raises(PenstockError) as failed:
        job.create_tables(FakeSession(denied), settings)
    assert re.findall(r"EXISTS (\S+)", failed.value.message) == made[1:]
    tables = [{"table_name": name.rpartition(".")[2]} for name in made]
    there = FakeSession(lambda query, values: denied(query, values) or tables)
    job.create_keyspace(there, settings)
    job.create_tables(there, settings)
    assert created(there) == []


def test_the_job_waits_for_services(monkeypatch, clock):
    """For Kafka and then for Cassandra."""
    asked = []

    def ensure(settings, pipeline):
        asked.append(pipeline.topic)
        if len(asked) < 3:
            raise KafkaUnreachable("away")

    monkeypatch.setattr(job.topics, "ensure_pipeline_topics", ensure)
    monkeypatch.setattr(job.cassandra, "connect", lambda settings: settings)
    monkeypatch.setattr(job.cassandra, "close", lambda session: asked.append("closed"))
    job.wait_for_services(read())
    assert asked == ["users_created"] * 3 + ["closed"]
    assert clock.slept_s == [1, 1]


def test_a_service_that_stays_unavailable_ends_the_wait(monkeypatch, clock):
    """After the configured limit, the error names the service and the time."""
    monkeypatch.setattr(job.topics, "ensure_pipeline_topics", lambda *_: None)

    def connect(settings):
        raise CassandraUnreachable("away")

    monkeypatch.setattr(job.cassandra, "connect", connect)
    with pytest.raises(CassandraUnreachable, match="Cassandra: not ready after 7 s; last error: away"):
        job.wait_for_services(read(spark_wait_s=7))


def test_a_repaired_checkpoint_writes_entries_of_its_own(stored):
    """A batch that is planned again may overlap older entries: it must not be taken for the same job's."""
    book = FakeBook()
    keeper = BatchRunner(FakePlan(), book, threading.Event())
    keeper.process_batch(raw_of("q"), 7)
    keeper.repairs = 2
    keeper.process_batch(raw_of("q"), 7)
    assert [job_id for job_id, _, _ in book.written] == ["q", "q+2"]
