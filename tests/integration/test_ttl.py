"""Rows that expire, by the table's TTL or a field of their record, in the real Kafka, Spark and Cassandra."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cassandra.concurrent import execute_concurrent_with_args
from pyspark.sql import SparkSession

from penstock.contract.expiry import MAX_TTL_S
from penstock.dead_letters.message import read_error_headers
from penstock.errors import KafkaUnreachable, PenstockError, TransformFailed
from penstock.pipeline import job
from penstock.reconcile.verify import TopicReceipt
from penstock.retry import wait_until
from penstock.sink import cassandra
from penstock.sink.expiring import read_last_expiration
from penstock.sink.scan import scan_rows
from tests.conftest import Stack
from tests.integration.test_receipts import Lab, list_differences, replayed

RECORD = """
from datetime import datetime, timedelta
from typing import Annotated

from msgspec import Meta

from penstock.contract.record import KEY, Record


class Login(Record, frozen=True, kw_only=True):
    id: Annotated[str, Meta(min_length=1, max_length=20, extra=KEY)]
    name: str | None = None
    expires_at: Annotated[datetime, Meta(tz=True)] | None = None
    lasts: timedelta | None = None

"""
IDENTITY = "def transform(df):\n    return df\n"
PROLONGS = """
def transform(df):
    from pyspark.sql import functions

    return df.withColumn("expires_at", functions.expr("expires_at + INTERVAL '1' DAY"))
"""
DROPS = """
def transform(df):
    return df.where("name IS NULL OR name <> 'dropped'")
"""
TTL_S, SOON_S, RECORDS, EXPIRED = 15, 8, 14, 36_000
HOUR = timedelta(hours=1)

MakeLab = Callable[..., Lab]


@pytest.fixture
def logins(stack: Stack, spark: SparkSession, pipeline_file: Callable[..., Path]) -> Iterator[MakeLab]:
    """Return a factory of a topic of logins; arguments go into the pipeline's file."""
    with cassandra.open_session(stack.settings) as session:

        def make(ttl: str, before: str = "", more: str = "") -> Lab:
            options = f"record=Login, from_source=dict, secret=frozenset(), ttl={ttl}, {more}"
            return Lab(stack, pipeline_file(f"{RECORD}\n{before}", options), spark, session)

        yield make


def send(lab: Lab, *records: dict[str, Any] | str) -> None:
    """Send records, or tombstones given as ids, and process them; moments are given as such."""
    values = [
        (record.encode(), None, [])
        if isinstance(record, str)
        else (record["id"].encode(), json.dumps(record, default=_as_text).encode(), [])
        for record in records
    ]
    lab.send_all(values)
    lab.carry_out()


def _as_text(value: datetime | timedelta) -> str:
    return value.isoformat() if isinstance(value, datetime) else f"PT{value.total_seconds():.0f}S"


def read_ttls(lab: Lab) -> dict[str, int | None]:
    """Return the remaining TTL of each row in s, that of all of its columns."""
    query = f"SELECT id, TTL(kafka_offset) AS a, TTL(ingested_at) AS b FROM {lab.name}"
    rows = list(lab.session.execute(query))
    assert all(row["a"] == row["b"] for row in rows)
    return {row["id"]: row["a"] for row in rows}


def wait_until_gone(lab: Lab, *ids: str) -> None:
    select = lab.session.prepare(f"SELECT id FROM {lab.name} WHERE id = ?")

    def check() -> None:
        if left := [name for name in ids if lab.session.execute(select, (name,)).one()]:
            raise KafkaUnreachable(f"rows are left: {left}")

    wait_until(check, timeout_s=60, what="the expiry of rows")


def count(receipt: TopicReceipt) -> tuple[int, int, int, int, int]:
    counts = receipt.stored, receipt.deleted, receipt.rejected, receipt.filtered, receipt.expired
    assert receipt.produced == sum(counts) + receipt.missing
    return counts


def test_rows_expire_by_the_ttl_of_their_table(logins: MakeLab) -> None:
    """The table is created with it. Expired rows balance, in either engine; a loss beside them is named."""
    lab = logins(f"timedelta(seconds={TTL_S})")
    send(lab, *({"id": f"a{at}"} for at in range(4)))
    assert all(0 < (ttl_s or 0) <= TTL_S for ttl_s in read_ttls(lab).values())
    wait_until_gone(lab, "a0", "a1", "a2", "a3")
    receipt = lab.verify()
    assert (list_differences(receipt), count(receipt)) == (set(), (0, 0, 0, 0, 4))
    send(lab, {"id": "kept"}, {"id": "lost"})
    lab.session.execute(f"DELETE FROM {lab.name} WHERE id = 'lost'")
    receipt = lab.verify()
    assert [(difference.kind, difference.id) for difference in receipt.differences] == [("missing", "lost")]
    assert count(receipt) == (1, 0, 0, 0, 4)


@pytest.mark.parametrize(
    ("before", "more"),
    [("", ""), (IDENTITY, "transform=transform"), (DROPS, "transform=transform")],
    ids=["as it is", "transformed", "filtered"],
)
def test_rows_expire_by_a_field(logins: MakeLab, before: str, more: str) -> None:
    """Those that have expired when they are written delete older versions; a replay changes nothing, before or after.

    An update without the field lives on. A loss beside the expired rows is named, by DuckDB and by Spark.
    """
    lab, now = logins("'expires_at'", before, more), datetime.now(UTC)
    drops, soon = before == DROPS, now + timedelta(seconds=SOON_S)
    send(lab, *({"id": name, "expires_at": now + HOUR} for name in ("late", "cleared", "again", "gone")), {"id": "old"})
    send(
        lab,
        {"id": "late", "expires_at": now - HOUR},  # over the row that would live for another hour
        {"id": "never late", "expires_at": now - HOUR},
        {"id": "old", "expires_at": now - HOUR},  # over the row that would live for ever
        {"id": "cleared"},
        {"id": "again", "expires_at": now + 2 * HOUR},
        {"id": "soon", "expires_at": soon},
        {"id": "never"},
        {"id": "x", "name": "dropped"},
        "gone",
    )
    ttls = read_ttls(lab)
    assert {name for name, ttl_s in ttls.items() if ttl_s is None} == {"cleared", "never"} | (set() if drops else {"x"})
    assert 7000 < (ttls["again"] or 0) <= 7201
    assert 0 < (ttls.get("soon") or 1) <= SOON_S + 1
    assert not {"late", "never late", "old", "gone"} & ttls.keys()
    wait_until_gone(lab, "soon")
    assert datetime.now(UTC) >= soon
    rows = lab.rows()
    receipt = lab.verify()
    expired = 6  # both versions of `late` and of `old`, `never late`, `soon`
    assert (list_differences(receipt), count(receipt)) == (set(), (7 - drops, 1, 0, int(drops), expired))
    assert any(sentence.endswith("expire by the field expires_at of their records") for sentence in receipt.evidence)
    assert replayed(lab, lab.spans()) == RECORDS
    assert (lab.rows(), list_differences(lab.verify())) == (rows, set())

    lab.session.execute(f"TRUNCATE {lab.name}")
    assert replayed(lab, lab.spans()) == RECORDS
    assert lab.rows() == rows
    lost = ("again",) if drops else ("again", "never")  # without an expiry it could be the one that was dropped
    for name in lost:
        lab.session.execute(f"DELETE FROM {lab.name} WHERE id = %s", (name,))
    receipt = lab.verify()
    missing = {(difference.kind, difference.id) for difference in receipt.differences}
    assert (missing, receipt.expired) == ({("missing", name) for name in lost}, expired)
    assert [passage.outcome for passage in lab.trace("late")] == ["expired", "expired"]
    if before:  # one engine is enough
        return
    done = lab.cli("verify", "--engine", "spark", "--json")
    on_spark = json.loads(done.stdout)
    assert (on_spark["expired"], on_spark["missing"]) == (receipt.expired, receipt.missing)
    assert {(each["kind"], each["id"]) for each in on_spark["differences"]} == missing


def test_a_duration_counts_from_kafkas_timestamp(logins: MakeLab) -> None:
    """Nulls beside it, and one version per id, change nothing; a trace says when the row expires."""
    lab = logins("'lasts'", more="one_version_per_id=True")
    send(lab, {"id": "hour", "lasts": HOUR}, {"id": "over", "lasts": timedelta(0)}, {"id": "never", "name": "n"})
    ttls = read_ttls(lab)
    assert ttls.keys() == {"hour", "never"}
    assert (3500 < (ttls["hour"] or 0) <= 3601, ttls["never"]) == (True, None)
    receipt = lab.verify()
    assert (list_differences(receipt), count(receipt)) == (set(), (2, 0, 0, 0, 1))
    (passage,) = lab.trace("hour")
    sent_at = lab.rows()["hour"]["ingested_at"].replace(tzinfo=UTC)
    expires_at = datetime.fromisoformat(passage.hops[-1].detail.partition(", expires at ")[2])
    assert timedelta(seconds=-2) < expires_at - (sent_at + HOUR) < timedelta(seconds=3)


def test_an_expiry_that_cassandra_cannot_hold_is_a_dead_letter(logins: MakeLab) -> None:
    """Up to the limit Cassandra takes the rows; beyond, a batch with such a row would be refused for ever."""
    lab, now = logins("'expires_at'"), datetime.now(UTC)
    last = min(now + timedelta(seconds=MAX_TTL_S), read_last_expiration(lab.session))
    send(
        lab,
        {"id": "last", "expires_at": last - timedelta(seconds=5)},
        {"id": "after", "expires_at": last + timedelta(minutes=5)},
        {"id": "end", "expires_at": datetime.max.replace(tzinfo=UTC)},
    )
    assert lab.rows().keys() == {"last"}
    letters = [read_error_headers(letter) for letter in lab.dead_letters()]
    assert [(facts["reason"], facts["rules"]) for facts in letters] == [("contract_broken", "expires_at:range")] * 2
    assert all("write null for never" in facts["message"] for facts in letters)
    receipt = lab.verify()
    assert (list_differences(receipt), count(receipt)) == (set(), (1, 0, 2, 0, 0))


def test_a_table_in_which_many_rows_have_expired_is_verified(logins: MakeLab) -> None:
    """The server refuses to read past that many at once, however few rows are wanted; all live rows are found."""
    lab = logins("'expires_at'")
    send(lab, {"id": "live"})  # on one of its sides are at least half of the others, with 6 cells each
    columns = ("id", "name", "expires_at", "lasts", "ingested_at", "kafka_partition", "kafka_offset")
    marks = ", ".join("?" * len(columns))
    insert = lab.session.prepare(f"INSERT INTO {lab.name} ({', '.join(columns)}) VALUES ({marks}) USING TTL 1")
    rows = [(f"e{at}", "n", datetime.now(UTC), 1, datetime.now(UTC), 0, at) for at in range(EXPIRED)]
    assert all(done for done, _ in execute_concurrent_with_args(lab.session, insert, rows, concurrency=50))
    wait_until_gone(lab, f"e{EXPIRED - 1}")
    with pytest.raises(PenstockError, match="cannot read the next row"):
        list(scan_rows(lab.session, f"SELECT {', '.join(columns)} FROM {lab.name}"))
    receipt = lab.verify()
    assert (list_differences(receipt), receipt.rows) == (set(), 1)


def test_a_transform_that_changes_an_expiry_is_rejected(logins: MakeLab) -> None:
    """Before anything is written: verification has the record alone."""
    lab = logins("'expires_at'", PROLONGS, "transform=transform")
    with pytest.raises(TransformFailed, match=r"transform changed expires_at of the record at \d+:\d+"):
        send(lab, {"id": "a", "expires_at": datetime.now(UTC) + HOUR})
    assert lab.rows() == {}


def test_a_table_with_another_ttl_stops_the_job_until_it_is_altered(logins: MakeLab) -> None:
    """`schema plan` shows the change, `schema apply` carries it out; rows to come have the declared TTL."""
    lab = logins("timedelta(hours=1)")
    lab.session.execute(f"ALTER TABLE {lab.name} WITH default_time_to_live = 86400")
    with pytest.raises(PenstockError, match="rows of the table expire after 86400 s, and the pipeline declares 3600 s"):
        job.check_table(lab.session, lab.settings, lab.pipeline)
    plan = lab.cli("schema", "plan")
    assert (plan.exit_code, "default_time_to_live = 3600" in plan.stdout) == (0, True), plan.output
    assert lab.cli("schema", "apply", "--yes").exit_code == 0
    job.check_table(lab.session, lab.settings, lab.pipeline)
    send(lab, {"id": "a"})
    assert 3500 < (read_ttls(lab)["a"] or 0) <= 3600
