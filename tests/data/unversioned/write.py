"""Write what penstock stored before formats had versions, by the code of commit 01f13c7 itself.

git worktree add /tmp/unversioned 01f13c7
pip install --no-deps -e /tmp/unversioned
cd /tmp/unversioned && PYTHONPATH=. python PATH_TO_THIS_FILE
"""

import base64
import json
import os
import shutil
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import Message

from penstock.broker import dlq
from penstock.config import read
from penstock.contract.batch import Tally
from penstock.contract.reject import Fault, Reason, Reject
from penstock.control.trail import Trail
from penstock.observe.alerts import Change
from penstock.observe.audit import Balance
from penstock.observe.history import History
from penstock.observe.verify import Acknowledged, Difference, Nulls, TopicReceipt
from penstock.process.checkpoint import Checkpoint, Origin
from penstock.process.files import LocalFiles
from penstock.produce.journal import Journal
from penstock.sink import lease, ledger, progress, receipts, settled
from penstock.source.landing import Landing
from tests.unit.fakes import FakeProducer, FakeSession

HERE = Path(__file__).parent
KEYSPACE, TOPIC, TOPIC_ID, RUN = "unversioned", "users_created", "Xk3Z9q1wTmS0yB7dVhJ2Lg", "manual__2026-06-01"
EPOCH_US = 1_780_272_000_000_000
AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
TALLY = Tally(0, 0, 4, 5, 3, 1, 1, 0, 1_780_272_001_000, {"state": 2}, {12: 3})


def write_home() -> None:
    settings = read(home=HERE / "home")
    with Journal(HERE, RUN, TOPIC, TOPIC_ID) as attempt:
        attempt.fetched(2)
        attempt.note(0, 0, b"id-1")
        attempt.note(0, 1, b"id-2")
    for path in HERE.glob("*.journal"):
        path.replace(HERE / "delivery-log.journal")
    Landing(HERE / "home", RUN).keep([{"name": "Ann"}, {"name": "Bob"}])
    for path in (HERE / "home").rglob("000000.json"):
        shutil.copyfile(path, HERE / "staging.json")
    alert = ("service_down", "critical", "kafka", "kafka is away: refused", "./penstock status kafka")
    History(settings).append([Change(*alert, 1, AT.isoformat(), "firing", AT.isoformat())])
    Trail(settings).note("ann@127.0.0.1", "restart service", "kafka", "done")
    for name in ("alerts.jsonl", "audit.jsonl"):
        shutil.copyfile(HERE / "home" / "data" / name, HERE / name)
    checkpoint = Checkpoint(LocalFiles(), str(HERE / "home" / "checkpoint"), TOPIC)
    checkpoint.begin_at(Origin(topic_id=TOPIC_ID, start={0: 3}))
    shutil.copyfile(HERE / "home" / "checkpoint" / "penstock.json", HERE / "checkpoint.json")
    shutil.rmtree(HERE / "home")


def write_dead_letter() -> None:
    producer = FakeProducer()
    fault = Fault(Reason.CONTRACT_BROKEN, "email: must match", rules=("email:pattern",))
    reject = Reject(fault, TOPIC, 0, 4, b"id-5", b'{"email": 1}', [("penstock.run", RUN.encode())])
    dlq.set_aside(producer, f"{TOPIC}.dlq", [reject], EPOCH_US)
    (message,) = producer.sent
    save("dead-letter.json", [[name, value.decode()] for name, value in headers_of(message)])


def headers_of(message: Message) -> list[tuple[str, bytes]]:
    return list(message.headers() or [])


def write_tables() -> None:
    """The statements that create the tables and fill them, as CQL and values."""
    session = FakeSession()
    for module in (ledger, progress):
        module.create_tables(session, KEYSPACE)
    for module in (lease, settled, receipts):
        module.create_table(session, KEYSPACE)
    created = [query for query, _ in session.executed]
    (HERE / "tables.cql").write_text(";\n".join(query.strip() for query in created) + ";\n")
    session = FakeSession(lambda query, _: [{"[applied]": True}] if "IF " in query else [])
    ledger.time.time_ns = lambda: EPOCH_US * 1000
    ledger.begin_generation(session, KEYSPACE, TOPIC, TOPIC_ID)
    ledger.Ledger(session, KEYSPACE, TOPIC, EPOCH_US).write("query-1", 0, [TALLY])
    receipts.keep(session, KEYSPACE, TOPIC, AT, msgspec.json.encode(receipt()))
    stream = progress.Progress(session, KEYSPACE, TOPIC)
    stream.keep([progress.Batch(0, AT, 5, 5.0, 5.0, {"addBatch": 90}, {0: 5})])
    stream.failed("StreamingQueryException: refused", "trace")
    claim = uuid.UUID(int=1)
    settled.Book(session, KEYSPACE, TOPIC).discard({f"{TOPIC}/{EPOCH_US}/0/4": None}, claim, "ann", "spam")
    inserts = [(query, [plain(value) for value in values]) for query, values in session.executed if "INSERT" in query]
    save("rows.json", inserts)


def receipt() -> TopicReceipt:
    balance = Balance(partition=0, **dict.fromkeys(Balance.__dataclass_fields__.keys() - {"partition"}, 0))
    return TopicReceipt(
        topic=TOPIC, at=AT.isoformat(), since=None, balanced=False, produced=5, stored=3, deleted=1, rejected=1,
        filtered=0, waiting=0, missing=0, doubled=0, reread=0, refused=0, queue={"waiting": 1}, rows=2, distinct_ids=3,
        older_rows=0, acknowledged=Acknowledged(1, 2, 1), nulls={"state": Nulls(0.5, None, None)},
        counts={"": 3, "state": 2}, counted={0: 5}, generation_us=EPOCH_US, warnings=["state was never null before"],
        partitions=[balance], differences=[Difference("lost", 0, 1, "id-2", "gone")], differences_found=1, seconds=0.1,
    )  # fmt: skip


def plain(value: Any) -> Any:
    """A bound value as JSON: what JSON lacks as an object of its kind."""
    if isinstance(value, datetime):
        return {"time": value.astimezone(UTC).isoformat()}
    if isinstance(value, uuid.UUID):
        return {"uuid": str(value)}
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    return [list(pair) for pair in value.items()] if isinstance(value, dict) else value


def save(name: str, content: Any) -> None:
    (HERE / name).write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    os.umask(0o022)
    write_home()
    write_dead_letter()
    write_tables()
