"""Facts with one planted case of each kind: outcomes, differences, excuses."""

from pathlib import Path
from typing import Any

from penstock.contract.expiry import NEVER_MS
from penstock.contract.order import DECLARED, Rank
from penstock.produce.delivery_log import Acknowledgement
from penstock.reconcile.audit import Row, RowAuthor, Sent
from penstock.reconcile.excuses import Compaction
from penstock.reconcile.fact_loading import Loader
from penstock.reconcile.reconciliation import Reconciliation, Scope
from tests.unit.reconcile.facts import STORED_MS, Evidence, Facts, letter, line, record, row

Planted = tuple[Facts, list[Acknowledgement]]
"""Facts, and the delivery log."""
NEWER, OPEN = Rank(1, 1_000_000, True), Rank(1, 1_000_000, False)
EXPIRED_MS, NEW_MS = 1_000, STORED_MS


def plain(home: Path) -> Planted:
    """One case of each kind, in a topic that is not compacted."""
    facts = Facts(home, evidence=Evidence(expiries=[(0, EXPIRED_MS + 1)], queue_firsts={0: 2}))
    add, lines, rows = facts.records.append, facts.lines, facts.table
    for offset, record_id in enumerate(["stored", "missing", "nothing", None, "restored", "deleted", "deleted", "one"]):
        add(record(0, offset, record_id, is_deletion=offset in (2, 6), run="r1", timestamp_ms=NEW_MS - 5 - offset))
    facts.letters += [letter(0, 3), letter(0, 4), letter(0, 4, at=1)]
    lines.append(line(0, 0, 8, rejected=2, deleted=2))
    for offset, record_id in enumerate(["dropped", "two", "gap", "three", "waiting"], 8):
        add(record(0, offset, record_id, run="r2"))
    lines += [line(0, 8, 10, filtered=1), line(0, 11, 12)]
    for record_id, offset in {
        "stored": 0,
        "restored": 4,
        "one": 7,
        "two": 9,
        "gap": 10,
        "three": 11,
        "waiting": 12,
    }.items():
        rows.append(row(record_id, 0, offset, is_mixed=record_id == "three"))
    rows += [
        row("foreign", 0, 9),
        row("gone", 0, 12),
        Row("hand", RowAuthor.HAND, changed_us=1),
        Row("old", RowAuthor.OLDER),
    ]
    rows.append(Row("unknown", RowAuthor.UNKNOWN))
    for offset in range(8):
        add(record(1, offset, f"p{offset}"))
        rows.append(row(f"p{offset}", 1, offset))
    lines += [line(1, 0, 3), line(1, 2, 5), line(1, 0, 1, job="b"), line(1, 5, 8, records=4)]
    versions = [
        *((2, 0, "one layout", {}), (3, 0, "one layout", {})),
        *((2, 1, "two layouts", {"rank": NEWER}), (2, 2, "two layouts", {})),
        *((2, 3, "unproven", {}), (3, 1, "unproven", {"rank": OPEN})),
        *((2, 4, "contradicted", {"timestamp_ms": 7}), (3, 2, "contradicted", {"timestamp_ms": 6, "rank": NEWER})),
        *((2, 5, "one place", {}), (2, 6, "one place", {"rank": Rank(0, -1, True, True)})),
        *((2, 7, "repeated", {"digest": 1}), (2, 8, "repeated", {"digest": 2})),
    ]
    for partition, offset, record_id, more in versions:
        add(record(partition, offset, record_id, **more))
    lines += [line(2, 0, 9), line(3, 0, 3)]
    for offset, record_id in enumerate(["expired", "expired with", "expired with"]):
        add(record(4, offset, record_id))
    lines += [line(4, 0, 1, stored_at_ms=EXPIRED_MS), line(4, 1, 2), line(4, 2, 3, stored_at_ms=EXPIRED_MS)]
    for offset, record_id in enumerate([None, "q1", None, "q3"]):
        add(record(5, offset, record_id))
        add(record(6, offset, record_id if offset != 2 else "q2"))
        rows += [row(record_id, 5, offset)] if record_id else []
    rows.append(row("q2", 6, 2))
    facts.letters.append(letter(5, 0, at=2))
    lines += [line(at, first, first + 2, rejected=1) for at in (5, 6) for first in (0, 2)]
    facts.letters.append(letter(-1, 0))
    for offset in (0, 1):
        tied = Rank(DECLARED, -offset, is_proven=True, is_kept=True, digest=offset + 1)
        add(record(7, offset, "tied", rank=tied))
    lines.append(line(7, 0, 2))
    rows.append(row("tied", 7, 1, -1))
    for offset, (record_id, expired_from_ms) in enumerate(
        [("own", STORED_MS), ("later", STORED_MS + 1), ("replaced", NEVER_MS), ("replaced", STORED_MS - 1)]
    ):
        add(record(8, offset, record_id, expired_from_ms=expired_from_ms))
    add(record(8, 4, "dropped of those"))
    lines.append(line(8, 0, 5, filtered=1))
    deliveries = [
        Acknowledgement(0, 0, "older"),
        Acknowledgement(0, 0, "stored"),
        Acknowledgement(0, 7, "another"),
        Acknowledgement(0, 99, "lost"),
    ]
    return facts, deliveries


def compacted(home: Path) -> Planted:
    """A compacted topic that also lost a record."""
    facts = Facts(home, evidence=Evidence(compaction=Compaction(STORED_MS)))
    facts.records = [record(0, 2, "a"), replace_key(record(0, 4, None), b"b"), record(0, 5, "c"), record(1, 1, "f")]
    facts.lines = [line(0, 0, 6, deleted=1, rejected=1), line(1, 0, 2)]
    facts.table = [row("a", 0, 2), row("b", 0, 1), row("c", 0, 5), row("f", 1, 1), row("e", 1, 0)]
    facts.letters = [letter(0, 4)]
    return facts, [
        Acknowledgement(0, 0, "a"),
        Acknowledgement(0, 1, "b"),
        Acknowledgement(0, 3, "d"),
        Acknowledgement(1, 0, "e"),
    ]


def replace_key(sent: Sent, key: bytes) -> Sent:
    return sent._replace(key=key)


def reconcile_planted(made: Planted, loader: Loader) -> Any:
    """The whole result of a reconciliation, without the ledger's entries."""
    facts, deliveries = made
    scope = Scope(facts.spans(), deliveries=deliveries, named_at_most=999)
    reconciliation = Reconciliation(loader, facts, facts.evidence, scope)
    audit = vars(reconciliation.carry_out())
    del audit["covered"]
    return audit, reconciliation.latency_ms(), sorted(reconciliation.rejected())
