"""A transform that raises: for one record, which is dead-lettered; for a batch, which stops the stream."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from penstock.broker import topics
from penstock.broker.topics import OffsetRange, find_new_offset_ranges
from penstock.contract.identity import Identity, find_form, identity_of
from penstock.contract.record import Record
from penstock.dead_letters.message import read_error_headers
from penstock.drill import load, record_checks
from penstock.drill.plan import Drill, LogEvidence
from penstock.drill.target import Target
from penstock.errors import StackError, Unreachable
from penstock.monitoring.history import History
from penstock.reconcile import verify
from penstock.retry import wait_until
from penstock.sink import cassandra
from penstock.stack import launch, status
from penstock.stack.service import Status

POISON, STUCK = "poison-record", "stuck-transform"
JOB = "spark-job"
RECORDS = 40
ISOLATED_S = 120.0
"""Longest time until the record is found and its neighbours are stored, including a slow machine's batches."""
ALERT_S = 120.0
"""Longest time until the alert fires."""
_FILE = """\
from dataclasses import replace
from functools import reduce
from operator import and_

from pyspark.sql import functions
from pyspark.sql.types import BooleanType

from penstock import pipelines

BASE = pipelines.load({base!r})
POISON = {poison!r}


class PoisonError(Exception):
    pass


def check(is_poison):
    if is_poison:
        raise PoisonError("the drill's record")
    return True


def transform(df):
    rows = BASE.transform(df) if BASE.transform else df
    is_poison = reduce(and_, (functions.col(name) == functions.lit(text).cast(kind) for name, kind, text in POISON))
    return rows.where(functions.udf(check, BooleanType())(is_poison))


PIPELINE = replace(BASE, transform=transform, transform_is_row_wise={row_wise!r})
"""


@contextmanager
def isolate_record(target: Target) -> Iterator[None]:
    """Let a row-wise transform raise for one of many records: it alone is dead-lettered, while the stream continues."""
    letters = _read_dlq_ranges(target)
    with _run_poisoned_job(target, POISON, row_wise=True) as sent:
        what = "the neighbours of the record that the transform raises for"
        wait_until(lambda: record_checks.check_stored(target.settings, sent), timeout_s=ISOLATED_S, what=what)
        new = topics.read_records(
            target.settings,
            target.pipeline.dead_letter_topic,
            find_new_offset_ranges(letters, _read_dlq_ranges(target)),
        )
        reasons = [read_error_headers(letter)["reason"] for letter in new]
        if reasons.count("transform_failed") != 1:
            raise StackError(f"expected one dead letter with reason transform_failed, found {reasons}")
        yield


@contextmanager
def block_stream(target: Target) -> Iterator[None]:
    """Let a transform raise that is not declared row-wise: the job idles, and status, verify and the alert say so."""
    began, restarts = datetime.now(UTC), _read_job_status(target).restarts
    with _run_poisoned_job(target, STUCK, row_wise=False) as sent:
        log, marks = target.layout.log(JOB), record_checks.read_log_sizes(target.layout.logs)
        wait_until(lambda: _check_alert(target), timeout_s=ALERT_S, every_s=1.0, what="the alert `stuck`")
        _check_shown(target, sent, began, restarts)
        if "\tat " in record_checks.read_since(log, marks):
            raise StackError(f"{log} contains Java stack frames, which hide the line of the transform")
        yield


@contextmanager
def _run_poisoned_job(target: Target, name: str, *, row_wise: bool) -> Iterator[list[OffsetRange]]:
    """Run the job with a transform that raises for one of the records sent, and yield their offset ranges."""
    direct = load.Direct(target, name)
    users = list(islice(direct.users, RECORDS))
    file = _write_pipeline(target, users[RECORDS // 2], row_wise=row_wise)
    target.say(f"the job is restarted with {file}")
    launch.restart_services(target.settings.model_copy(update={"pipeline": str(file)}), [JOB])
    try:
        yield load.ranges_of(direct.send_at((user, 0) for user in users))
    finally:
        launch.restart_services(target.settings, [JOB])


def _write_pipeline(target: Target, poison: Record, *, row_wise: bool) -> Path:
    """Write a pipeline file that equals the effective one, except that its transform raises for one record."""
    base = target.pipeline
    text = _FILE.format(
        base=target.settings.pipeline,
        poison=_list_key_columns(identity_of(base.record), poison),
        row_wise=row_wise and (base.transform is None or base.transform_is_row_wise),
    )
    file = target.layout.run / "drill_transform.py"
    file.write_text(text, encoding="utf-8")
    return file


def _list_key_columns(identity: Identity, record: Record) -> list[tuple[str, str, str]]:
    """Return the column of each KEY field with its type in Spark, and its value as text that Spark casts to it."""
    values = identity.values_of(identity.of(record))
    return [
        (field.column, field.kind.spark, find_form(field.kind)(value))
        for field, value in zip(identity.fields, values, strict=True)
    ]


def _read_dlq_ranges(target: Target) -> list[OffsetRange]:
    return topics.fetch_offset_ranges(target.settings, target.pipeline.dead_letter_topic)


def _read_job_status(target: Target) -> Status:
    return status.read_statuses(target.settings, [JOB])[0]


def _check_alert(target: Target) -> None:
    """Check that the watcher reports the stream as stuck. Raises `Unreachable` until then."""
    if not any(alert.name == "stuck" for alert in History(target.settings).open()):
        raise Unreachable("the alert `stuck` is not firing yet")


def _check_shown(target: Target, sent: list[OffsetRange], began: datetime, restarts: int) -> None:
    """Raise `StackError` unless status and verify report the error, and the process stays idle."""
    job = _read_job_status(target)
    if job.state != "stuck" or "drill_transform.py, line" not in job.detail:
        raise StackError(f"expected state stuck, status reports {job.state}: {job.detail}")
    with cassandra.open_session(target.settings) as session:
        receipt = verify.verify(target.settings, session, since=began)
    if not any(difference.kind == "stuck" for difference in receipt.differences):
        raise StackError("verify does not report the stuck stream")
    if not record_checks.count_pending(target.settings, sent):
        raise StackError("records of the failing batch were stored")
    if "1 failure:" not in job.detail or job.restarts != restarts:
        raise StackError(f"the job did not stay idle: restarted {job.restarts - restarts} times, {job.detail}")


DRILLS = (
    Drill(
        POISON,
        "a row-wise transform raises for one record, which alone is dead-lettered",
        isolate_record,
        evidence=(LogEvidence(f"{JOB}.log", r"records_isolated"),),
        rejects=True,
    ),
    Drill(
        STUCK,
        "a transform raises for a batch: the job stays idle, and status, verify and the alert report where and why",
        block_stream,
        evidence=(LogEvidence(f"{JOB}.log", r"transform_failed +.*drill_transform.py, line \d+: PoisonError"),),
    ),
)
