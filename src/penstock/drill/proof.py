"""What became of every record of a stretch, and whether the logs name the fault."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from penstock.broker.topics import Span
from penstock.config import Settings
from penstock.drill.plan import Evidence
from penstock.drill.verdict import Facts
from penstock.errors import Unreachable
from penstock.observe import verify as verification
from penstock.observe.audit import Audit
from penstock.observe.auditor import Auditor
from penstock.sink import cassandra

Marks = dict[int, int]
"""How many bytes each log had, by its inode: a log that is rotated is the same file under another name."""


_COUNTS = ("produced", "stored", "rejected", "missing", "waiting", "filtered", "doubled")


def prove(settings: Settings, spans: list[Span], run_id: str, facts: Facts) -> None:
    """Note in `facts` what `verify` says of `spans`, and what became of the run in them."""
    with cassandra.connected(settings) as session:
        receipt = verification.verify(settings, session, spans=spans)
        ours = Auditor(settings, session).audit_run(spans, run_id)
    note(
        facts,
        {name: getattr(receipt, name) for name in _COUNTS},
        [f"{one.kind}: {one.why}" for one in receipt.differences],
    )
    facts.ids, facts.refused = len(ours.ids), ours.refused
    facts.rejected += ours.refused


def note_audit(facts: Facts, found: Audit) -> None:
    """Note what an audit found."""
    differences = [str(one["why"]) for one in (*found.missing_records, *found.gaps, *found.miscounted)]
    note(facts, {name: found.total(name) for name in _COUNTS}, differences)


def note(facts: Facts, counts: Mapping[str, int], differences: list[str]) -> None:
    """Note what became of the records that lie in Kafka, and what does not agree."""
    facts.sent, facts.stored, facts.rejected = counts["produced"], counts["stored"], counts["rejected"]
    facts.missing = counts["missing"] + counts["waiting"] + counts["filtered"]
    facts.doubled = counts["doubled"]
    facts.differences = differences


def check_stored(settings: Settings, spans: list[Span]) -> None:
    """Return when the ledger covers `spans`. Raises `Unreachable` before."""
    left = waiting(settings, spans)
    if left:
        raise Unreachable(f"{left} offsets are not in the ledger yet")


def check_moving(settings: Settings, spans: list[Span]) -> None:
    """Return when the ledger covers some of `spans`. Raises `Unreachable` before."""
    if waiting(settings, spans) == sum(span.records for span in spans):
        raise Unreachable("nothing of the load is stored yet")


def waiting(settings: Settings, spans: list[Span]) -> int:
    """How many offsets of `spans` the ledger does not cover yet."""
    with cassandra.connected(settings) as session:
        return Auditor(settings, session).waiting(spans)


def marks(logs: Path) -> Marks:
    """How far each log below the folder is written."""
    return {path.stat().st_ino: path.stat().st_size for path in logs.rglob("*") if path.is_file()}


def hidden(logs: Path, since: Marks, wanted: Iterable[Evidence]) -> list[str]:
    """What no log says since the marks were made."""
    return [one.pattern for one in wanted if not _is_said(logs, since, one)]


def _is_said(logs: Path, since: Marks, wanted: Evidence) -> bool:
    paths = [*logs.glob(wanted.log), *logs.glob(f"{wanted.log}.*")]
    return any(re.search(wanted.pattern, written_since(path, since)) for path in paths if path.is_file())


def written_since(path: Path, since: Marks) -> str:
    """What a log says beyond its mark; all of a file that had none, or that was emptied."""
    with path.open(encoding="utf-8", errors="replace") as file:
        held = os.fstat(file.fileno())
        mark = since.get(held.st_ino, 0)
        file.seek(mark if held.st_size >= mark else 0)
        return file.read()
