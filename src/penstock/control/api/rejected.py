"""The rejected records: by reason and rules, selected, and one by one."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import FastAPI, Path, Query

from penstock.control.api import ShowsPersonal
from penstock.control.desk import Desk
from penstock.control.letters import Letters
from penstock.observe.rejected import Account, Entry, Listing, Wanted


@dataclass(frozen=True)
class Group:
    """Records that were rejected for the same reason, by the same rules; counts are null while Cassandra is away."""

    reason: str
    rules: tuple[str, ...]
    waiting: int | None
    redriven: int | None
    discarded: int | None
    first: datetime
    last: datetime
    place: str


@dataclass(frozen=True)
class Groups:
    """The newest rejected records by reason and rules."""

    groups: list[Group]
    looked_at: int
    held: int
    """How many messages the dead-letter topic holds, copies too."""
    is_whole: bool
    """Whether no older record was left out."""
    error: str
    """Why it is not known what became of the records; empty when it is."""


@dataclass(frozen=True)
class Found:
    """A rejected record; the place is partition and offset in the dead-letter topic."""

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


def register(api: FastAPI, desk: Desk) -> None:
    """Serve it."""
    letters = desk.one(Letters)

    @api.get("/rejected")
    def rejected() -> Groups:
        """The newest rejected records by reason and broken rules, with what became of them."""
        return _groups(letters.queue.listing(desk.cassandra))

    @api.get("/rejected/records")
    def records(
        reason: str = "",
        rule: Annotated[str, Query(description="The start of a broken rule's code: email:pattern.")] = "",
        rules: Annotated[str, Query(description="The codes of all broken rules, with commas between them.")] = "",
        state: Annotated[str, Query(description="waiting, redriven or discarded.")] = "",
        limit: Annotated[int, Query(ge=1, le=5000)] = 100,
    ) -> list[Found]:
        """The newest rejected records that fit, the newest first, without their content."""
        listing = letters.queue.listing(desk.cassandra)
        chosen = listing.select(Wanted(reason, rule, rules, state))[:limit]
        return [_found(one, listing.state(one)) for one in chosen]

    @api.get("/rejected/records/{partition}/{offset}")
    def record(
        partition: Annotated[int, Path(ge=0)], offset: Annotated[int, Path(ge=0)], personal: ShowsPersonal = False
    ) -> Account:
        """All that is known of the record at this place of the dead-letter topic."""
        told, _ = letters.account(letters.queue.letter(partition, offset), personal=personal)
        return told


def _groups(listing: Listing) -> Groups:
    is_known = listing.error is None
    groups = [
        Group(
            one.reason,
            one.rules,
            one.waiting if is_known else None,
            one.redriven if is_known else None,
            one.discarded if is_known else None,
            one.first,
            one.last,
            one.place,
        )
        for one in listing.groups()
    ]
    error = listing.error.message if listing.error else ""
    return Groups(groups, len(listing.entries), listing.held, listing.is_whole, error)


def _found(one: Entry, state: str) -> Found:
    return Found(
        one.place,
        one.partition,
        one.offset,
        one.identity,
        state,
        one.reason,
        one.rules,
        one.stage,
        one.time,
        one.run,
        one.value_bytes,
    )
