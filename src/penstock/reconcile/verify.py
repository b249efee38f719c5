"""Compute the balance of a topic from independent sources.

Airflow's run results and the producer's delivery log say what was acknowledged; Kafka's log says what is there; the
ledger says what became of each offset; the table is counted; the dead-letter topic holds what was rejected, and
`settled` its resolution. Each is compared with the next, and a difference is reported down to the record.
"""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cassandra.cluster import Session

from penstock import pipelines, remedies
from penstock.airflow.api_client import Airflow
from penstock.broker import topics
from penstock.broker.topics import OffsetRange
from penstock.config import Settings
from penstock.contract.fields import fields
from penstock.errors import PenstockError
from penstock.produce import delivery_log
from penstock.reconcile.acknowledged import Acknowledged, iter_deliveries
from penstock.reconcile.audit import NAMED_AT_MOST, Audit, Balance, DeadLetterCopy, RowAuthor
from penstock.reconcile.auditor import Auditor
from penstock.reconcile.engine import local_loader
from penstock.reconcile.excuses import Lifetime
from penstock.reconcile.fact_loading import OpenLoader
from penstock.reconcile.nulls import Nulls, compute_null_shares
from penstock.reconcile.reconciliation import Scope
from penstock.reconcile.stuck_streams import iter_stuck_differences
from penstock.sink import cassandra, receipts

_RUNS = 50
_ACCEPTED_AT_MOST = 100_000
EXCUSED = ("expired", "pruned", "compacted", "accepted")
"""Receipt fields that count absent records excused by evidence or by an operator."""


@dataclass(frozen=True)
class Difference:
    """A disagreement between two sources, down to a single record if possible."""

    kind: str
    partition: int | None
    offset: int | None
    id: str | None
    why: str


@dataclass(frozen=True)
class TopicReceipt:
    """The outcome of all records in an offset range of the topic.

    In each partition, produced = stored + deleted + rejected + filtered + expired + pruned + accepted + waiting +
    missing. `refused` records never reached the topic; `compacted` records are no longer in it. rejected + refused =
    the sum of `queue`. `deleted_nothing` is part of `deleted`. `balanced` means that nothing is missing, and no two
    sources differ.
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
    """Rows stored so far, and how many of them were null in each field. The next receipt is compared with these."""
    counted: dict[int, int]
    """The offset that `counts` reaches in each partition, within the topic incarnation `generation_us`."""
    generation_us: int | None
    warnings: list[str]
    partitions: list[Balance]
    differences: list[Difference]
    differences_found: int
    seconds: float
    deleted_nothing: int = 0
    expired: int = 0
    pruned: int = 0
    compacted: int = 0
    accepted: int = 0
    accepted_differences: dict[str, int] = field(default_factory=dict)
    """Number of accepted differences of each kind; `accepted` counts the missing records among them."""
    evidence: list[str] = field(default_factory=list)
    """The evidence read to excuse absent records, as sentences."""
    lifetimes: list[Lifetime] = field(default_factory=list)
    """The known TTLs of the table, oldest first."""


def verify(
    settings: Settings,
    session: Session,
    since: datetime | None = None,
    ranges: list[OffsetRange] | None = None,
    open_loader: OpenLoader = local_loader,
) -> TopicReceipt:
    """Return the balance of the topic as it is now, of what was produced since a time, or of `ranges`.

    A receipt of the whole topic is stored, for comparison with the next one. `waiting` is not a difference.
    `open_loader` opens the engine that compares: DuckDB in this process, or Spark. Raises an `Unreachable`.
    """
    return _Verification(settings, session, since, ranges, open_loader=open_loader).carry_out()


def list_differences(settings: Settings, session: Session) -> tuple[list[Difference], int]:
    """Return the unaccepted differences of the whole topic, as many as can be listed, and how many there are.

    Stores no receipt.
    """
    receipt = _Verification(settings, session, None, None, named_at_most=_ACCEPTED_AT_MOST).balance()
    return receipt.differences, receipt.differences_found


class _Verification:
    """One verification."""

    def __init__(
        self,
        settings: Settings,
        session: Session,
        since: datetime | None,
        ranges: list[OffsetRange] | None,
        named_at_most: int = NAMED_AT_MOST,
        open_loader: OpenLoader = local_loader,
    ) -> None:
        self._named_at_most = named_at_most
        self._accepted: Counter[str] = Counter()
        self._settings = settings
        self._session = session
        self._since = since
        self._is_given = ranges is not None
        self._is_whole = since is None and ranges is None
        self._pipeline = pipelines.of(settings)
        self._attempts = list(delivery_log.list_attempts(delivery_log.folder_of(settings)))
        self._ranges = (
            self._select_ranges() if ranges is None else ranges
        )  # after the delivery log: what was acknowledged lies before their ends
        self._topic_id = topics.fetch_topic_id(settings, self._pipeline.topic) if self._ranges else ""
        self._keyspace = cassandra.keyspace_of(settings, self._pipeline)
        self._auditor = Auditor(settings, session, open_loader)
        self._differences: list[Difference] = []
        self._differences_found = 0
        self._free_offsets = 0
        """Offsets without a record that have not excused a run yet."""

    def _select_ranges(self) -> list[OffsetRange]:
        topic = self._pipeline.topic
        whole = topics.fetch_existing_offset_ranges(self._settings, topic)
        return (
            whole if self._since is None else topics.find_offset_ranges_since(self._settings, topic, whole, self._since)
        )

    def carry_out(self) -> TopicReceipt:
        receipt = self.balance()
        if self._is_whole and self._auditor.book is not None:
            self._store_receipt(receipt)
        return receipt

    def balance(self) -> TopicReceipt:
        """Return the receipt without storing it."""
        began = time.monotonic()
        attempts = [
            attempt
            for attempt in self._attempts
            if self._is_of_topic(attempt.topic, attempt.topic_id, attempt.started_at)
        ]
        scope = Scope(
            self._ranges,
            is_whole=self._is_whole,
            is_meant=self._is_meant,
            deliveries=iter_deliveries(attempts, self._ranges, to_the_end=not self._is_given),
            named_at_most=self._named_at_most,
        )
        with self._auditor.reconciled(scope) as (audit, reconciliation):
            queue = self._auditor.count_resolutions(reconciliation.rejected())
        self._ranges = reconciliation.ranges
        self._free_offsets = sum(offset_range.records for offset_range in self._ranges) - audit.total("produced")
        self._accepted += audit.accepted
        for kind in ("missing", "gap", "unordered", "repeated", "miscounted", "doubled", "lost"):
            self._add_differences(kind, audit)
        if not self._is_given:
            reached = {partition: covered.reached for partition, covered in audit.covered.items()}
            self._add_unaccepted("stuck", iter_stuck_differences(self._settings, self._session, reached))
        acknowledged = Acknowledged(len(attempts), audit.delivered, *self._compare_runs(audit.runs))
        self._add_differences("foreign", audit)
        self._add_unaccepted("recreated", self._find_recreation())
        return self._build_receipt(audit, queue, acknowledged, began)

    def _add_differences(self, kind: str, audit: Audit) -> None:
        """Add the differences of a kind that the reconciliation found."""
        self._differences += [_build_difference(kind, named) for named in audit.named.get(kind, [])]
        self._differences_found += audit.differences[kind]

    def _find_recreation(self) -> list[dict[str, Any]]:
        change = self._auditor.change
        why = f"the topic was deleted and recreated after the Spark job read it; reset the job's checkpoint: {change}"
        return [{"partition": None, "offset": None, "id": None, "why": why}] if change else []

    def _is_meant(self, copy: DeadLetterCopy) -> bool:
        """Return whether a record that never reached the topic is verified; with given offsets it never is."""
        return self._is_whole or (self._since is not None and copy.time >= self._since)

    def _add_unaccepted(self, kind: str, differences: Iterable[dict[str, Any]]) -> None:
        """Add a small number of differences, except those that are accepted."""
        differing = list(differences)
        unaccepted = [difference for difference in differing if not self._auditor.evidence.accepts(kind, difference)]
        self._differences += [_build_difference(kind, difference) for difference in unaccepted[: self._named_at_most]]
        self._accepted[kind] += len(differing) - len(unaccepted)
        self._differences_found += len(unaccepted)

    def _compare_runs(self, of_run: Counter[str]) -> tuple[int | None, str]:
        """Compare the number of records that each successful run reports with Kafka.

        Return the number of runs compared; or None, and why Airflow could not be queried.
        """
        try:
            with Airflow(self._settings) as airflow:
                summaries = [
                    (run_id, summary)
                    for run_id, summary in airflow.iter_summaries(_RUNS)
                    if self._holds_all_of(summary)
                ]
        except PenstockError as error:
            return None, error.message
        for run_id, summary in summaries:
            if not self._is_whole_run(summary["produced"] - of_run[run_id]):
                # stored with accepted differences and compared with them: another text would reopen them
                why = f"run {run_id} says it produced {summary['produced']}, Kafka has {of_run[run_id]}"
                self._add_unaccepted("run", [{"partition": None, "offset": None, "id": None, "why": why}])
        return len(summaries), ""

    def _is_whole_run(self, missing: int) -> bool:
        """Return whether no record of a run is missing from Kafka.

        In a compacted topic, offsets without a record excuse as many missing records.
        """
        if missing > 0 and self._auditor.evidence.compaction and missing <= self._free_offsets:
            self._free_offsets -= missing
            return True
        return missing <= 0

    def _is_of_topic(self, topic: str | None, topic_id: str | None, started_at: str) -> bool:
        """Return whether a run that began at `started_at` sent to this very topic.

        Without topic ids: whether it began after the topic's incarnation did.
        """
        if (topic, topic_id) != (self._pipeline.topic, self._topic_id):
            return False
        if topic_id != topics.NO_ID:
            return True
        began_us = self._generation_us or 0  # None before a job has read it, and after it was recreated
        return not self._auditor.change and datetime.fromisoformat(started_at).timestamp() * 1_000_000 >= began_us

    def _holds_all_of(self, summary: dict[str, Any]) -> bool:
        """Return whether all records of a run are within the ranges, and not in an earlier topic of this name."""
        ranges = {offset_range.partition: offset_range for offset_range in self._ranges}
        if not self._is_of_topic(summary.get("topic"), summary.get("topic_id"), summary.get("started_at", "")):
            return False
        return all(
            int(partition) in ranges and ranges[int(partition)].first <= first and last < ranges[int(partition)].end
            for partition, (first, last) in summary["offsets"].items()
        )

    def _build_receipt(
        self, audit: Audit, queue: dict[str, int], acknowledged: Acknowledged, began: float
    ) -> TopicReceipt:
        last = self._read_last_receipt()
        counts, counted = self._sum_counts(audit, last)
        nulls, warnings = compute_null_shares(
            [field.column for field in fields(self._pipeline.stored)], counts, last.get("counts")
        )
        totals = {name: audit.total(name) for name in _TOTALS}
        return TopicReceipt(
            topic=self._pipeline.topic,
            at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            since=None if self._since is None else self._since.isoformat(),
            balanced=self._differences_found == 0,
            **totals,
            refused=audit.refused,
            queue=queue,
            rows=audit.expected_rows,
            distinct_ids=audit.expected_ids,
            older_rows=audit.other_rows,
            acknowledged=acknowledged,
            nulls=nulls,
            counts=counts,
            counted=counted,
            generation_us=self._generation_us,
            warnings=warnings,
            partitions=list(audit.balances.values()),
            differences=self._differences,
            differences_found=self._differences_found,
            seconds=round(time.monotonic() - began, 1),
            accepted_differences={kind: count for kind, count in self._accepted.items() if count},
            lifetimes=self._auditor.evidence.lifetimes,
            evidence=self._auditor.evidence.described(),
        )

    @property
    def _generation_us(self) -> int | None:
        return None if self._auditor.book is None else self._auditor.book.epoch_us

    def _read_last_receipt(self) -> dict[str, Any]:
        """Return the last receipt of the whole topic in its current incarnation; {} if none is comparable."""
        last = (
            receipts.read_latest_receipt(self._session, self._keyspace, self._pipeline.topic)
            if self._is_whole
            else None
        )
        return last if last is not None and last.get("generation_us") == self._generation_us else {}

    def _sum_counts(self, audit: Audit, last: dict[str, Any]) -> tuple[dict[str, int], dict[int, int]]:
        """Return the number of rows stored, and of nulls by nullable field; and the offset reached per partition.

        Stored rows are under the empty name. The counts are those of the last receipt plus the lines since, each range
        once: lines of records that Kafka has deleted since stay counted.
        """
        counts = Counter({name: int(count) for name, count in (last.get("counts") or {}).items()})
        counted = {int(partition): int(end) for partition, end in (last.get("counted") or {}).items()}
        for partition, covered in audit.covered.items():
            for line in sorted(covered.lines, key=lambda line: line.summary.first_offset):
                if line.summary.first_offset >= counted.get(partition, 0):
                    counts.update({"": line.summary.stored, **line.summary.nulls})
                    counted[partition] = line.summary.last_offset + 1
        nullable = [field.column for field in fields(self._pipeline.stored) if field.nullable]
        return {name: counts[name] for name in ("", *nullable)}, counted

    def _store_receipt(self, receipt: TopicReceipt) -> None:
        receipts.create_table(self._session, self._keyspace)
        at = datetime.fromisoformat(receipt.at)
        receipts.write_receipt(self._session, self._keyspace, receipt.topic, at, receipt)


_TOTALS = (
    "produced",
    "stored",
    "deleted",
    "deleted_nothing",
    "rejected",
    "filtered",
    "expired",
    "pruned",
    "accepted",
    "waiting",
    "missing",
    "compacted",
    "doubled",
    "reread",
)


def _build_difference(kind: str, named: dict[str, Any]) -> Difference:
    return Difference(kind, named["partition"], named["offset"], named["id"], named["why"])


def count_rows_to_rebuild(settings: Settings, session: Session) -> int:
    """Return the number of rows in the table, all of them from records that the topic still holds.

    Raises `PenstockError` if there are other rows: a rebuild would lose them.
    """
    pipeline = pipelines.of(settings)
    firsts = {
        offset_range.partition: offset_range.first
        for offset_range in topics.fetch_offset_ranges(settings, pipeline.topic)
    }
    held = older = by_hand = 0
    for _, writers, partitions, offsets, *_ in Auditor(settings, session).row_columns():
        for writer, partition, offset in zip(writers, partitions, offsets, strict=True):
            is_held = writer == RowAuthor.TOPIC and offset >= firsts.get(partition, offset + 1)
            held += is_held
            by_hand += writer in (RowAuthor.HAND, RowAuthor.UNKNOWN)
            older += writer == RowAuthor.OLDER or (writer == RowAuthor.TOPIC and not is_held)
    if older + by_hand:
        raise PenstockError(
            f"a rebuild would lose {older + by_hand} rows of {pipeline.table} whose records are not in "
            f"{pipeline.topic} ({older} from older records, {by_hand} from other writers)",
            hint=f"{remedies.replay()}, which deletes nothing",
        )
    return held
