"""Versions of stored data: what was written without them is read, what a newer penstock wrote is rejected.

`tests/data/unversioned` was written by the code of commit 01f13c7.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from confluent_kafka import Message

from penstock import __version__, formats
from penstock.config import read
from penstock.dead_letters.message import PREFIX, DeadLetter, parse_message
from penstock.errors import FormatTooNew
from penstock.formats import Format
from penstock.monitoring.alerts import AlertChange
from penstock.monitoring.history import History
from penstock.pipeline import job
from penstock.process.checkpoint import Checkpoint, CheckpointOrigin
from penstock.process.checkpoint_files import LocalFiles
from penstock.produce import delivery_log
from penstock.produce.delivery_log import Acknowledgement, AttemptProgress, DeliveryLog
from penstock.sink import cassandra, receipts
from penstock.source.entries import Unreadable
from penstock.source.landing import Staging
from penstock.web.audit_log import AuditLog
from tests.unit.fakes import FakeSession, created

UNVERSIONED = Path(__file__).parents[1] / "data" / "unversioned"
KEYSPACE, TOPIC, RUN = "unversioned", "users_created", "manual__2026-06-01"
TOPIC_ID = "Xk3Z9q1wTmS0yB7dVhJ2Lg"


def copied(name: str, target: Path) -> Path:
    """A file of commit 01f13c7 at the path where penstock expects it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(UNVERSIONED / name, target)
    return target


def test_a_delivery_log_without_a_version_is_read(tmp_path: Path) -> None:
    """Its acknowledgements count in receipts, and its progress on the page, like current ones."""
    copied("delivery-log.journal", tmp_path / f"20260601T000000.000000Z{delivery_log._build_suffix(RUN)}")
    (attempt,) = delivery_log.list_attempts(tmp_path)
    assert (attempt.run_id, attempt.topic, attempt.topic_id, attempt.finished) == (RUN, TOPIC, TOPIC_ID, True)
    assert list(attempt.entries) == [Acknowledgement(0, 0, "id-1"), Acknowledgement(0, 1, "id-2")]
    assert delivery_log.read_progress(tmp_path, RUN) == AttemptProgress(fetched=2, acknowledged=2)


def test_a_staged_response_without_a_version_is_sent_again(tmp_path: Path) -> None:
    """A run that a newer penstock retries sends what the older one fetched."""
    copied("staging.json", Staging(tmp_path, RUN).folder / "000000.json")
    ((answer, _),) = Staging(tmp_path, RUN).read_responses()
    assert answer == [{"name": "Ann"}, {"name": "Bob"}]


def test_a_checkpoint_without_a_version_is_read(tmp_path: Path) -> None:
    """The query starts where the older penstock was to start."""
    copied("checkpoint.json", tmp_path / "penstock.json")
    assert Checkpoint(LocalFiles(), str(tmp_path), TOPIC).origin() == CheckpointOrigin(topic_id=TOPIC_ID, start={0: 3})


def test_alerts_and_audit_log_without_a_version_are_read(tmp_path: Path) -> None:
    """An alert that fired before stays open, and earlier actions are still listed; new lines follow."""
    settings = read(home=tmp_path)
    for name in ("alerts.jsonl", "audit.jsonl"):
        copied(name, tmp_path / "data" / name)
    (alert,) = History(settings).open()
    assert (alert.key, alert.number) == (("service_down", "kafka"), 1)
    AuditLog(settings).record("bob", "act", "t", "done")
    assert [(entry.who, entry.action) for entry in AuditLog(settings).read_newest()] == [
        ("bob", "act"),
        ("ann@127.0.0.1", "restart service"),
    ]


def letter(**changes: str) -> DeadLetter | None:
    """The dead letter in a message with the headers of commit 01f13c7, and these current ones."""
    headers = [(name, value.encode()) for name, value in json.loads((UNVERSIONED / "dead-letter.json").read_text())]
    headers += [(PREFIX + name, value.encode()) for name, value in changes.items()]
    return parse_message(Message(topic=f"{TOPIC}.dlq", partition=0, offset=7, value=b"v", key=b"k", headers=headers))


def test_a_dead_letter_without_a_version_is_read() -> None:
    """It can be listed and redriven."""
    dead_letter = letter()
    assert dead_letter is not None
    assert dead_letter.identity == f"{TOPIC}/1780272000000000/0/4"
    assert (dead_letter.reason, dead_letter.rules, dead_letter.run, dead_letter.left_out) == (
        "contract_broken",
        ("email:pattern",),
        RUN,
        None,
    )


def receipt_session(receipt: str) -> FakeSession:
    session = FakeSession(lambda *_: [{"receipt": receipt}])
    session.cluster.metadata.keyspaces = {KEYSPACE: SimpleNamespace(tables={"receipts"})}
    return session


def test_a_receipt_without_a_version_is_compared_with_the_next_one() -> None:
    """It has its counts."""
    rows = json.loads((UNVERSIONED / "rows.json").read_text())
    (text,) = [values[2] for query, values in rows if ".receipts " in query]
    receipt = receipts.read_latest_receipt(receipt_session(text), KEYSPACE, TOPIC)
    assert receipt is not None
    assert (receipt["counts"], receipt["counted"]) == ({"": 3, "state": 2}, {"0": 5})


def renumbered(text: str, version: int) -> str:
    """JSON objects, one per line or a single one, as a penstock 9.1 with this version of their format writes them."""
    changed = re.sub(r'"format":\d+', f'"format":{version}', text)
    assert changed != text
    return changed.replace(f'"penstock":"{__version__}"', '"penstock":"9.1"')


Reading = Callable[[], Any]


def a_delivery_log(home: Path) -> tuple[Path, Reading]:
    with DeliveryLog(home, RUN, TOPIC, TOPIC_ID) as attempt:
        attempt.note(0, 0, b"id-1")
    (path,) = home.glob("*.journal")
    return path, lambda: list(delivery_log.list_attempts(home))


def a_progress(home: Path) -> tuple[Path, Reading]:
    return a_delivery_log(home)[0], lambda: delivery_log.read_progress(home, RUN)


def a_staged_answer(home: Path) -> tuple[Path, Reading]:
    landing = Staging(home, RUN)
    landing.write_response([{"a": 1}, Unreadable(b"{", "it ends")])
    return landing.folder / "000000.json", lambda: list(landing.read_responses())


def a_checkpoint(home: Path) -> tuple[Path, Reading]:
    checkpoint = Checkpoint(LocalFiles(), str(home / "c"), TOPIC)
    checkpoint.begin_at(CheckpointOrigin(topic_id=TOPIC_ID, start={0: 3}))
    return home / "c" / "penstock.json", checkpoint.origin


def an_alert_history(home: Path) -> tuple[Path, Reading]:
    history = History(read(home=home))
    history.append([AlertChange("lag", "warning", "t", "m", "c", 1, "2026-01-01", "firing", "2026-01-01")])
    return history.path, history.read


def an_audit_log(home: Path) -> tuple[Path, Reading]:
    audit_log = AuditLog(read(home=home))
    audit_log.record("ann", "act", "t", "done")
    return audit_log.path, audit_log.read_newest


FILES = [
    (formats.DELIVERY_LOG, a_delivery_log),
    (formats.DELIVERY_LOG, a_progress),
    (formats.STAGING, a_staged_answer),
    (formats.CHECKPOINT, a_checkpoint),
    (formats.ALERTS, an_alert_history),
    (formats.AUDIT_LOG, an_audit_log),
]


@pytest.mark.parametrize(("stored", "write"), FILES)
def test_a_file_has_its_version(stored: Format, write: Any, tmp_path: Path) -> None:
    """It contains number and writer, and is read as it was written."""
    path, reading = write(tmp_path)
    head = json.loads(path.read_text().splitlines()[0])
    assert (head["format"], head["penstock"]) == (stored.version, __version__)
    assert reading()


@pytest.mark.parametrize(("stored", "write"), FILES)
def test_a_file_of_a_newer_penstock_is_rejected(stored: Format, write: Any, tmp_path: Path) -> None:
    """None of it is read, or moved aside as corrupt: the error names the file, both versions and the way out."""
    path, reading = write(tmp_path)
    path.write_text(renumbered(path.read_text(), stored.version + 1))
    before = path.read_bytes()
    with pytest.raises(FormatTooNew) as failed:
        reading()
    assert str(path) in failed.value.message
    assert f"the {stored.name} has format {stored.version + 1}, written by penstock 9.1" in failed.value.message
    assert f"this version, {__version__}, reads formats up to {stored.version}" in failed.value.message
    assert failed.value.hint == f"install penstock 9.1 or newer, or {stored.workaround}"
    assert path.read_bytes() == before


def test_a_newer_checkpoint_does_not_count_as_corrupt(tmp_path: Path) -> None:
    """The repair at the job's start leaves it where it is."""
    path, _ = a_checkpoint(tmp_path)
    path.write_text(renumbered(path.read_text(), 9))
    with pytest.raises(FormatTooNew):
        Checkpoint(LocalFiles(), str(path.parent), TOPIC).repair()
    assert path.exists()


def test_a_staged_response_of_another_shape_is_rejected_for_its_version(tmp_path: Path) -> None:
    """Its version is checked before its content."""
    path, reading = a_staged_answer(tmp_path)
    path.write_text('{"format":9,"entries":{"no":"list"}}')
    with pytest.raises(FormatTooNew, match="the staged response has format 9; this version"):
        reading()
    path.write_text('{"format":1,"entries":{"no":"list"}}')
    with pytest.raises(msgspec.ValidationError):
        reading()


def test_a_dead_letter_of_a_newer_penstock_is_rejected() -> None:
    """It is named by its position; a message whose version is not a number is not a dead letter."""
    assert letter(format="2") is not None
    with pytest.raises(FormatTooNew, match=rf"{TOPIC}.dlq 0:7: the dead letter has format 3, written by penstock 9.1"):
        letter(format="3", version="9.1")
    assert letter(format="x") is None


def test_a_receipt_of_a_newer_penstock_is_rejected() -> None:
    """It is neither compared with, nor overwritten."""
    text = renumbered(formats.encode_marked(formats.RECEIPT, {"produced": 1}).decode(), 2)
    with pytest.raises(FormatTooNew, match=r"the receipt has format 2, written by penstock 9\.1"):
        receipts.read_latest_receipt(receipt_session(text), KEYSPACE, TOPIC)


def test_every_table_of_penstock_is_created_with_its_version() -> None:
    """As a comment, which needs no column and no query; the pipeline's table, which is its owner's, has none."""
    session = FakeSession()
    settings = read()
    job.create_tables(session, settings)
    keyspace = "spark_streams"
    cassandra.create_missing(session, keyspace, job._tables_of_others(keyspace))
    statements = {re.search(r"EXISTS \w+\.(\w+)", query)[1]: query for query in created(session)}  # type: ignore[index]
    assert "comment" not in statements.pop("created_users")
    assert statements.keys() == formats.TABLES.keys()
    for name, statement in statements.items():
        comment = f"penstock {__version__}, format {formats.TABLES[name].version}"
        assert statement.rstrip().endswith(f" comment = '{comment}'")
        assert statement.count(" WITH ") == 1


def tables(**comments: str | None) -> FakeSession:
    answer = [{"table_name": name, "comment": comment} for name, comment in comments.items()]
    return FakeSession(lambda query, _: answer if "system_schema.tables" in query else [])


def test_a_keyspace_of_a_newer_penstock_is_rejected() -> None:
    """By the job before it creates anything, and by every reader of a table, whichever table is newer."""
    session = tables(ledger="penstock 9.1, format 2", receipts="penstock 0.1.0, format 1")
    with pytest.raises(FormatTooNew, match="keyspace ks: the table ledger has format 2") as failed:
        cassandra.has_table(session, "ks", "receipts")
    assert "PENSTOCK_CASSANDRA_KEYSPACE" in failed.value.hint
    with pytest.raises(FormatTooNew):
        job.create_tables(session, read())
    assert created(session) == []


def test_a_table_without_a_version_is_used() -> None:
    """Whoever created it: an administrator, another program, or a penstock before versions."""
    session = tables(ledger="", receipts="ours, format 9", leases=None, users="penstock 9.1, format 9")
    assert cassandra.table_names(session, "ks") == {"ledger", "receipts", "leases", "users"}


def test_one_schema_query_covers_all_tables() -> None:
    """Versions need no query of their own: the one that finds missing tables reads them."""
    columns = [{"column_name": "partitioners"}]
    session = FakeSession(lambda query, _: columns if "system_schema.columns" in query else [])
    job.create_tables(session, read())
    assert sum("system_schema.tables" in query for query, _ in session.executed) == 1
