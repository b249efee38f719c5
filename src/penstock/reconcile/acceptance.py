"""Accept differences that `verify` currently reports. They are stored with user, time and reason."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from cassandra.cluster import Session

from penstock import pipelines, remedies
from penstock.config import Settings
from penstock.contract.identity import identity_of
from penstock.errors import UsageError
from penstock.log import get_logger
from penstock.reconcile import verify
from penstock.reconcile.auditor import Auditor
from penstock.reconcile.verify import Difference
from penstock.sink import accepted, cassandra
from penstock.sink.accepted import Accepted

log = get_logger(__name__)

KINDS = ("missing", "gap", "unordered", "repeated", "miscounted", "doubled", "lost", "run", "foreign")
"""Kinds of differences that can be accepted. A stuck stream or a recreated topic must be repaired instead."""


@dataclass(frozen=True)
class DifferenceSelection:
    """Selects the differences that match every given criterion. `end` is exclusive."""

    kinds: Sequence[str] = ()
    ids: Sequence[str] = ()
    partition: int | None = None
    first: int | None = None
    end: int | None = None

    def fits(self, difference: Difference) -> bool:
        """Return whether a difference matches. A difference without an offset matches no offset range."""
        offset = difference.offset
        return (
            difference.kind in (self.kinds or KINDS)
            and (not self.ids or difference.id in self.ids)
            and (self.partition is None or difference.partition == self.partition)
            and (self.first is None or (offset is not None and offset >= self.first))
            and (self.end is None or (offset is not None and offset < self.end))
        )


def find_differences(settings: Settings, session: Session, selection: DifferenceSelection) -> list[Difference]:
    """Return the current differences that match. Raises `UsageError` if none match, or too many exist.

    The selected ids may be in any form that identifies a record.
    """
    identity = identity_of(pipelines.of(settings).record)
    selection = replace(selection, ids=[*selection.ids, *map(identity.normalize_text, selection.ids)])
    differences, count = verify.list_differences(settings, session)
    if count > len(differences):
        raise UsageError(
            f"too many differences to accept individually: {count:,}",
            hint=f"{remedies.replay()} or {remedies.rebuild()}, which store what the topic still holds",
        )
    selected = [difference for difference in differences if selection.fits(difference)]
    if not selected:
        raise UsageError(
            f"no current difference matches the selection (current differences: {count})", hint=remedies.verify()
        )
    return selected


def accept_differences(
    settings: Settings, session: Session, differences: Sequence[Difference], who: str, reason: str
) -> None:
    """Store differences as accepted. Later receipts count them separately."""
    pipeline = pipelines.of(settings)
    keyspace, ledger = cassandra.keyspace_of(settings, pipeline), Auditor(settings, session).book
    if ledger is None:
        raise UsageError(
            f"no Spark job has read {pipeline.topic} yet: there is nothing to accept",
            hint=remedies.show_status("spark-job"),
        )
    now = datetime.now(UTC)
    accepted.create_table(session, keyspace)
    entries = [
        Accepted(
            difference.kind, difference.partition, difference.offset, difference.id, difference.why, reason, who, now
        )
        for difference in differences
    ]
    accepted.write_accepted(session, keyspace, pipeline.topic, ledger.epoch_us, entries)
    log.info("differences_accepted", topic=pipeline.topic, count=len(entries), who=who, reason=reason)


def list_accepted(settings: Settings, session: Session) -> list[Accepted]:
    """Return the differences accepted for the current topic incarnation, oldest first."""
    pipeline, ledger = pipelines.of(settings), Auditor(settings, session).book
    if ledger is None:
        return []
    keyspace = cassandra.keyspace_of(settings, pipeline)
    entries = accepted.read_accepted(session, keyspace, pipeline.topic, ledger.epoch_us)
    return sorted(entries, key=lambda entry: entry.at)
