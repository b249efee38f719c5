"""Rejected records: grouped by reason and rules, filtered, and individually."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import FastAPI, Path, Query

from penstock.dead_letters.message import DeadLetterSummary
from penstock.web.api import ShowsPersonal
from penstock.web.app_context import AppContext
from penstock.web.rejected.dead_letter_service import DeadLetterService
from penstock.web.rejected.reader import DeadLetterDetails, DeadLetterFilter, Listing


@dataclass(frozen=True)
class RejectedGroup:
    """Records rejected for the same reason by the same rules. Counts are null while Cassandra is unavailable."""

    reason: str
    rules: tuple[str, ...]
    waiting: int | None
    redriven: int | None
    superseded: int | None
    discarded: int | None
    first: datetime
    last: datetime
    place: str


@dataclass(frozen=True)
class Groups:
    """The newest rejected records, grouped by reason and rules."""

    groups: list[RejectedGroup]
    looked_at: int
    held: int
    """Number of messages in the dead-letter topic, duplicates included."""
    is_whole: bool
    """Whether all records were considered, not just the newest."""
    error: str
    """Why the state of the records is unknown; empty if it is known."""


@dataclass(frozen=True)
class RejectedRecord:
    """A rejected record. `place` is its partition and offset in the dead-letter topic."""

    place: str
    partition: int
    offset: int
    identity: str
    state: str
    reason: str
    rules: tuple[str, ...]
    stage: str
    time: datetime
    run: str
    value_bytes: int


def register(api: FastAPI, context: AppContext) -> None:
    """Add the routes under /rejected."""
    letters = context.get_shared(DeadLetterService)

    @api.get("/rejected")
    def rejected() -> Groups:
        """Group the newest rejected records by reason and violated rules, with counts by state."""
        return _group_listing(letters.queue.read_listing(context.cassandra))

    @api.get("/rejected/records")
    def records(
        reason: str = "",
        rule: Annotated[str, Query(description="Prefix of a violated rule's code, e.g. email:pattern.")] = "",
        rules: Annotated[str, Query(description="Codes of all violated rules, separated by commas.")] = "",
        state: Annotated[str, Query(description="One of waiting, redriven, superseded, discarded.")] = "",
        limit: Annotated[int, Query(ge=1, le=5000)] = 100,
    ) -> list[RejectedRecord]:
        """List rejected records that match the filters, newest first, without their content."""
        listing = letters.queue.read_listing(context.cassandra)
        chosen = listing.select(DeadLetterFilter(reason, rule, rules, state))[:limit]
        return [_describe_entry(entry, listing.state(entry)) for entry in chosen]

    @api.get("/rejected/records/{partition}/{offset}")
    def record(
        partition: Annotated[int, Path(ge=0)], offset: Annotated[int, Path(ge=0)], personal: ShowsPersonal = False
    ) -> DeadLetterDetails:
        """Get all that is known about the record at this position of the dead-letter topic."""
        account, _ = letters.describe(letters.queue.read_letter(partition, offset), personal=personal)
        return account


def _group_listing(listing: Listing) -> Groups:
    is_known = listing.error is None
    groups = [
        RejectedGroup(
            group.reason,
            group.rules,
            group.waiting if is_known else None,
            group.redriven if is_known else None,
            group.superseded if is_known else None,
            group.discarded if is_known else None,
            group.first,
            group.last,
            group.place,
        )
        for group in listing.groups()
    ]
    error = listing.error.message if listing.error else ""
    return Groups(groups, len(listing.entries), listing.held, listing.is_whole, error)


def _describe_entry(entry: DeadLetterSummary, state: str) -> RejectedRecord:
    return RejectedRecord(
        entry.place,
        entry.partition,
        entry.offset,
        entry.identity,
        state,
        entry.reason,
        entry.rules,
        entry.stage,
        entry.time,
        entry.run,
        entry.value_bytes,
    )
