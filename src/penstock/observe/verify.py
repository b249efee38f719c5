"""The balance of the topic, from sources that know nothing of each other.

Airflow's run results and the producer's journal say what was acknowledged; Kafka's log says what lies there; the ledger
says what became of each offset; the table is counted; the dead-letter topic holds what was rejected, and `settled` what
became of that. Each is held against the next, and a difference is named to the record.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cassandra.cluster import Session

from penstock import pipelines
from penstock.broker import topics
from penstock.broker.dlq import Letter
from penstock.broker.topics import Span
from penstock.config import Settings
from penstock.contract.fields import fields
from penstock.errors import PenstockError
from penstock.observe.airflow import Airflow
from penstock.observe.audit import NAMED_AT_MOST, Audit, Balance, Rows, Sent
from penstock.observe.auditor import Auditor
from penstock.observe.stuck import stuck_differences
from penstock.produce import journal
from penstock.sink import cassandra, receipts, settled

_RUNS = 50


@dataclass(frozen=True)
class Difference:
    """Two sources that do not agree, about a record where one can be named."""

    kind: str
    partition: int | None
    offset: int | None
    id: str | None
    why: str


@dataclass(frozen=True)
class Nulls:
    """In how many of the rows that were stored a field is null, as a share; and since the last receipt."""

    share: float
    since_last: float | None
    moved: float | None
    """The share since the last receipt less the share up to it."""


@dataclass
class Acknowledged:
    """What the producers were told, held against Kafka."""

    attempts: int = 0
    records: int = 0
    runs: int | None = None
    """Successful runs that Airflow knows of and whose records are all in the stretch; None: Airflow did not tell."""
    why: str = ""
    """Why it did not."""


@dataclass(frozen=True)
class TopicReceipt:
    """What became of everything in a stretch of the topic.

    produced = stored + deleted + rejected + filtered + waiting + missing, in each partition. `refused` records never
    got to the topic; rejected + refused = the sum of `queue`; `deleted_nothing` is a part of deleted. balanced: nothing
    is missing, and no two sources differ.
    """

    topic: str
    at: str
    since: str | None
    balanced: bool
    produced: int
    stored: int
    deleted: int
    rejected: int
    filtered: int
    waiting: int
    missing: int
    doubled: int
    reread: int
    refused: int
    queue: dict[str, int]
    rows: int
    distinct_ids: int
    older_rows: int
    acknowledged: Acknowledged
    nulls: dict[str, Nulls]
    counts: dict[str, int]
    """Rows stored so far, and in how many of them each field was null: what the next receipt is compared with."""
    counted: dict[int, int]
    """Up to which offset of each partition `counts` goes, in the topic's `generation_us`."""
    generation_us: int | None
    warnings: list[str]
    partitions: list[Balance]
    differences: list[Difference]
    differences_found: int
    seconds: float
    deleted_nothing: int = 0


def verify(
    settings: Settings, session: Session, since: datetime | None = None, spans: list[Span] | None = None
) -> TopicReceipt:
    """The balance of the topic as it is now, of what was produced since a time, or of `spans`.

    Raises an `Unreachable`.

    A receipt of the whole topic is kept, for the next one to be compared with. `waiting` is no difference.
    """
    return _Verification(settings, session, since, spans).carry_out()


class _Verification:
    """One verification."""

    def __init__(self, settings: Settings, session: Session, since: datetime | None, spans: list[Span] | None) -> None:
        self._settings = settings
        self._session = session
        self._since = since
        self._is_given = spans is not None
        self._is_whole = since is None and spans is None
        self._pipeline = pipelines.of(settings)
        self._attempts = list(journal.attempts(journal.folder_of(settings)))
        self._spans = (
            self._stretch() if spans is None else spans
        )  # after the journal: what was acknowledged lies before their ends
        self._topic_id = topics.topic_id(settings, self._pipeline.topic) if self._spans else ""
        self._keyspace = cassandra.keyspace_of(settings, self._pipeline)
        self._auditor = Auditor(settings, session)
        self._differences: list[Difference] = []
        self._found = 0

    def _stretch(self) -> list[Span]:
        topic = self._pipeline.topic
        whole = topics.spans_of_existing(self._settings, topic)
        return whole if self._since is None else topics.since(self._settings, topic, whole, self._since)

    def carry_out(self) -> TopicReceipt:
        began = time.monotonic()
        attempts = [one for one in self._attempts if self._is_of_topic(one.topic, one.topic_id, one.started_at)]
        seen = _Seen(attempts, self._spans, to_the_end=not self._is_given)
        audit, rows = self._auditor.audit(self._spans, seen.note, scan=self._is_whole, refused=self._is_meant)
        self._differ("missing", audit.missing_records, audit.total("missing"))
        self._differ("gap", audit.gaps, audit.total("gaps"))
        self._differ("unordered", audit.unordered, audit.unordered_ids)
        self._differ("miscounted", audit.miscounted)
        self._differ("doubled", _doubled(audit))
        self._differ("lost", seen.lost())
        if not self._is_given:
            reached = {partition: covered.reached for partition, covered in audit.covered.items()}
            self._differ("stuck", stuck_differences(self._settings, self._session, reached))
        acknowledged = Acknowledged(seen.attempts, seen.records, *self._compare_runs(seen.of_run))
        self._compare_rows(audit, rows)
        self._differ("recreated", self._recreated())
        receipt = self._receipt(audit, rows, acknowledged, began)
        if self._is_whole and self._auditor.book is not None:
            self._keep(receipt)
        return receipt

    def _recreated(self) -> list[dict[str, Any]]:
        change = self._auditor.change
        why = f"the topic was deleted and recreated since the Spark job read it, which must begin again: {change}"
        return [{"partition": None, "offset": None, "id": None, "why": why}] if change else []

    def _is_meant(self, letter: Letter) -> bool:
        """Whether a record that never got to the topic belongs to what is verified; to given offsets none does."""
        return self._is_whole or (self._since is not None and letter.time >= self._since)

    def _differ(self, kind: str, found: Iterable[dict[str, Any]], count: int | None = None) -> None:
        named = [Difference(kind, one["partition"], one["offset"], one["id"], one["why"]) for one in found]
        self._differences += named[:NAMED_AT_MOST]
        self._found += len(named) if count is None else count

    def _compare_runs(self, of_run: Counter[str]) -> tuple[int | None, str]:
        """Hold what each successful run says it produced against Kafka: how many runs; or None, and why Airflow does
        not tell."""
        compared = 0
        try:
            with Airflow(self._settings) as airflow:
                for run_id, summary in airflow.summaries(_RUNS):
                    if not self._holds_all_of(summary):
                        continue
                    compared += 1
                    if of_run[run_id] < summary["produced"]:
                        why = f"run {run_id} says it produced {summary['produced']}, Kafka has {of_run[run_id]}"
                        self._differ("run", [{"partition": None, "offset": None, "id": None, "why": why}])
        except PenstockError as error:
            return None, error.message
        return compared, ""

    def _is_of_topic(self, topic: str | None, topic_id: str | None, started_at: str) -> bool:
        """Return whether a run that began then sent to this very topic; without ids, after its generation began."""
        if (topic, topic_id) != (self._pipeline.topic, self._topic_id):
            return False
        if topic_id != topics.NO_ID:
            return True
        began_us = self._generation_us or 0  # None before the job has read it, and once it was recreated
        return not self._auditor.change and datetime.fromisoformat(started_at).timestamp() * 1_000_000 >= began_us

    def _holds_all_of(self, summary: dict[str, Any]) -> bool:
        """Whether all that a run produced lies in the spans, and not in an earlier topic of this name."""
        spans = {span.partition: span for span in self._spans}
        if not self._is_of_topic(summary.get("topic"), summary.get("topic_id"), summary.get("started_at", "")):
            return False
        return all(
            int(partition) in spans and spans[int(partition)].first <= first and last < spans[int(partition)].end
            for partition, (first, last) in summary["offsets"].items()
        )

    def _compare_rows(self, audit: Audit, rows: Rows) -> None:
        """Name rows that no record of the topic explains."""
        spans = {span.partition: span for span in self._spans}
        for record_id, place in rows.places.items():
            span = spans.get(place.partition)
            known = record_id in audit.ids or record_id in audit.waiting_ids
            if span is None or (span.first <= place.offset < span.end and not known):
                why = "a row says that it came from here, and no record there has its id"
                self._differ("foreign", [_at(place.partition, place.offset, record_id, why)])
        for record_id in rows.foreign:
            self._differ("foreign", [_at(None, None, record_id, "a row that something else than penstock wrote")])

    def _receipt(self, audit: Audit, rows: Rows, acknowledged: Acknowledged, began: float) -> TopicReceipt:
        wanted = {record_id for record_id, has_row in audit.ids.items() if has_row}
        queue = self._queue(audit.rejected)
        last = self._last()
        counts, counted = self._counts(audit, last)
        nulls, warnings = null_shares(
            [field.column for field in fields(self._pipeline.stored)], counts, last.get("counts")
        )
        totals = {name: audit.total(name) for name in _TOTALS}
        return TopicReceipt(
            topic=self._pipeline.topic,
            at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            since=None if self._since is None else self._since.isoformat(),
            balanced=self._found == 0,
            **totals,
            refused=audit.refused,
            queue=queue,
            rows=len(wanted & rows.places.keys()),
            distinct_ids=len(wanted),
            older_rows=rows.older + len(rows.places.keys() - audit.ids.keys()),
            acknowledged=acknowledged,
            nulls=nulls,
            counts=counts,
            counted=counted,
            generation_us=self._generation_us,
            warnings=warnings,
            partitions=list(audit.balances.values()),
            differences=self._differences,
            differences_found=self._found,
            seconds=round(time.monotonic() - began, 1),
        )

    def _queue(self, rejected: list[str]) -> dict[str, int]:
        """What became of the rejected records."""
        lines = settled.states(self._session, self._keyspace, self._pipeline.topic)
        states = Counter(settled.state_of(identity, lines) for identity in rejected)
        return {state: states[state] for state in (settled.WAITING, "redriven", "superseded", "discarded")}

    @property
    def _generation_us(self) -> int | None:
        return None if self._auditor.book is None else self._auditor.book.epoch_us

    def _last(self) -> dict[str, Any]:
        """The last receipt of the whole topic in its present generation; empty when there is none to compare with."""
        last = receipts.latest(self._session, self._keyspace, self._pipeline.topic) if self._is_whole else None
        return last if last is not None and last.get("generation_us") == self._generation_us else {}

    def _counts(self, audit: Audit, last: dict[str, Any]) -> tuple[dict[str, int], dict[int, int]]:
        """Rows stored, under the empty name, and how many of them had null in each field that may be null.

        Those of the last receipt, and of the lines since, each stretch once: lines of records that Kafka has deleted
        since stay counted. Also up to which offset of each partition.
        """
        counts = Counter({name: int(count) for name, count in (last.get("counts") or {}).items()})
        counted = {int(partition): int(end) for partition, end in (last.get("counted") or {}).items()}
        for partition, covered in audit.covered.items():
            for line in sorted(covered.lines, key=lambda one: one.tally.first_offset):
                if line.tally.first_offset >= counted.get(partition, 0):
                    counts.update({"": line.tally.stored, **line.tally.nulls})
                    counted[partition] = line.tally.last_offset + 1
        nullable = [field.column for field in fields(self._pipeline.stored) if field.nullable]
        return {name: counts[name] for name in ("", *nullable)}, counted

    def _keep(self, receipt: TopicReceipt) -> None:
        receipts.create_table(self._session, self._keyspace)
        at = datetime.fromisoformat(receipt.at)
        receipts.keep(self._session, self._keyspace, receipt.topic, at, receipt)


_TOTALS = (
    "produced",
    "stored",
    "deleted",
    "deleted_nothing",
    "rejected",
    "filtered",
    "waiting",
    "missing",
    "doubled",
    "reread",
)


def _at(partition: int | None, offset: int | None, record_id: Any, why: str) -> dict[str, Any]:
    return {"partition": partition, "offset": offset, "id": str(record_id), "why": why}


def _doubled(audit: Audit) -> Iterator[dict[str, Any]]:
    for one in audit.balances.values():
        if one.doubled:
            why = f"{one.doubled} offsets stand on two lines of the ledger that one job wrote"
            yield {"partition": one.partition, "offset": None, "id": None, "why": why}


class _Seen:
    """What Kafka was seen to hold, for the journal and the runs to be compared with."""

    def __init__(self, attempts: list[journal.Attempt], spans: list[Span], *, to_the_end: bool) -> None:
        """`to_the_end`: what was acknowledged behind the spans, or in a partition without one, is looked for too."""
        by_partition = {span.partition: span for span in spans}
        nowhere = Span(0, 0, 0)
        self.attempts = len(attempts)
        self._told = {
            (one.partition, one.offset): one.key
            for attempt in attempts
            for one in attempt.entries
            if (span := by_partition.get(one.partition, nowhere)).first <= one.offset
            and (to_the_end or one.offset < span.end)
        }
        self._wrong: list[dict[str, Any]] = []
        self.records = 0
        self.of_run: Counter[str] = Counter()

    def note(self, one: Sent) -> None:
        """Note a record in Kafka."""
        if one.run is not None:
            self.of_run[one.run] += 1
        key = self._told.pop((one.partition, one.offset), None)
        if key is None:
            return
        self.records += 1
        if one.key != key.encode():
            self._wrong.append(_at(one.partition, one.offset, key, "Kafka acknowledged another key at this offset"))

    def lost(self) -> list[dict[str, Any]]:
        """Records that Kafka acknowledged, and that are not where it said."""
        why = "Kafka acknowledged it, and does not have it"
        gone = [_at(partition, offset, key, why) for (partition, offset), key in sorted(self._told.items())]
        return self._wrong + gone


def null_shares(
    names: Iterable[str], counts: dict[str, int], last: dict[str, int] | None
) -> tuple[dict[str, Nulls], list[str]]:
    """The share of nulls of each field, now and since the last receipt; a warning for each that was never null before.

    `counts` and `last` hold the rows stored under the empty name, and the nulls of each field that may be null.
    """
    shares, warnings = {}, []
    stored, before = counts[""], (last or {}).get("", 0)
    fresh = stored - before if last else 0
    for name in names:
        nulls, nulls_before = counts.get(name, 0), (last or {}).get(name, 0)
        since_last = (nulls - nulls_before) / fresh if fresh > 0 else None
        was = nulls_before / before if before else None
        moved = None if since_last is None or was is None else since_last - was
        shares[name] = Nulls(nulls / stored if stored else 0.0, since_last, moved)
        if last and name in last and was == 0 and since_last:
            new = nulls - nulls_before
            warnings.append(f"{name} was never null before; it is null in {new} of the {fresh} rows stored since")
    return shares, warnings


def rows_to_rebuild(settings: Settings, session: Session) -> int:
    """How many rows the table has, all of them from records that the topic still holds.

    Raises `PenstockError` when others are among them: a rebuild would lose them.
    """
    pipeline = pipelines.of(settings)
    firsts = {span.partition: span.first for span in topics.spans(settings, pipeline.topic)}
    rows = Auditor(settings, session).rows()
    gone = sum(place.offset < firsts.get(place.partition, place.offset + 1) for place in rows.places.values())
    others = gone + rows.older + len(rows.foreign)
    if others:
        raise PenstockError(
            f"{others} rows of {pipeline.table} came from no record that {pipeline.topic} still holds "
            f"({gone + rows.older} from older records, {len(rows.foreign)} by other hands): a rebuild would lose them",
            hint="./penstock replay, which deletes nothing",
        )
    return len(rows.places)
