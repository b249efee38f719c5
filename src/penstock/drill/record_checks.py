"""Checks: every record of an offset range is accounted for, and the logs name the fault."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from penstock.broker.topics import OffsetRange
from penstock.config import Settings
from penstock.drill.plan import LogEvidence
from penstock.drill.verdict import Facts
from penstock.errors import Unreachable
from penstock.reconcile import verify as verification
from penstock.reconcile.audit import Audit
from penstock.reconcile.auditor import Auditor
from penstock.sink import cassandra

LogSizes = dict[int, int]
"""Size of each log in bytes, by inode: a rotated log is the same file under another name."""


_COUNTS = ("produced", "stored", "rejected", "missing", "waiting", "filtered", "doubled")


def check_run(settings: Settings, ranges: list[OffsetRange], run_id: str, facts: Facts) -> None:
    """Verify `ranges` of the topic and the run's records in them, and put the outcome into `facts`."""
    with cassandra.open_session(settings) as session:
        receipt = verification.verify(settings, session, ranges=ranges)
        run_audit = Auditor(settings, session).audit_run(ranges, run_id)
    set_counts(
        facts,
        {name: getattr(receipt, name) for name in _COUNTS},
        [f"{difference.kind}: {difference.why}" for difference in receipt.differences],
    )
    facts.ids, facts.refused = run_audit.known_ids, run_audit.refused
    facts.rejected += run_audit.refused


def set_audit(facts: Facts, audit: Audit) -> None:
    """Put the outcome of a reconciliation into `facts`."""
    differences = [str(named["why"]) for kind in ("missing", "gap", "miscounted") for named in audit.named[kind]]
    set_counts(facts, {name: audit.total(name) for name in _COUNTS}, differences)


def set_counts(facts: Facts, counts: Mapping[str, int], differences: list[str]) -> None:
    """Put the counts of records in Kafka and their differences into `facts`."""
    facts.sent, facts.stored, facts.rejected = counts["produced"], counts["stored"], counts["rejected"]
    facts.missing = counts["missing"] + counts["waiting"] + counts["filtered"]
    facts.doubled = counts["doubled"]
    facts.differences = differences


def check_stored(settings: Settings, ranges: list[OffsetRange]) -> None:
    """Check that the ledger covers all of `ranges`. Raises `Unreachable` if not yet, so that it can be retried."""
    missing = count_pending(settings, ranges)
    if missing:
        raise Unreachable(f"{missing} offsets are not in the ledger yet")


def check_moving(settings: Settings, ranges: list[OffsetRange]) -> None:
    """Check that the ledger covers some of `ranges`. Raises `Unreachable` if not yet, so that it can be retried."""
    if count_pending(settings, ranges) == sum(offset_range.records for offset_range in ranges):
        raise Unreachable("no record of the load is stored yet")


def count_pending(settings: Settings, ranges: list[OffsetRange]) -> int:
    """Count the offsets of `ranges` that the ledger does not cover yet."""
    with cassandra.open_session(settings) as session:
        return Auditor(settings, session).waiting(ranges)


def read_log_sizes(logs: Path) -> LogSizes:
    """Record the current size of every log below the folder."""
    return {path.stat().st_ino: path.stat().st_size for path in logs.rglob("*") if path.is_file()}


def find_unmatched(logs: Path, since: LogSizes, wanted: Iterable[LogEvidence]) -> list[str]:
    """Return the wanted patterns that no log has matched since the marks were taken."""
    return [evidence.pattern for evidence in wanted if not _is_logged(logs, since, evidence)]


def _is_logged(logs: Path, since: LogSizes, wanted: LogEvidence) -> bool:
    paths = [*logs.glob(wanted.log), *logs.glob(f"{wanted.log}.*")]
    return any(re.search(wanted.pattern, read_since(path, since)) for path in paths if path.is_file())


def read_since(path: Path, since: LogSizes) -> str:
    """Return what was written to a log after its mark; all of it if it has no mark or was truncated."""
    with path.open(encoding="utf-8", errors="replace") as file:
        stat = os.fstat(file.fileno())
        mark = since.get(stat.st_ino, 0)
        file.seek(mark if stat.st_size >= mark else 0)
        return file.read()
