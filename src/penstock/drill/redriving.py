"""Dead letters that are redriven after newer versions of their records were stored."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import msgspec
from cassandra.concurrent import execute_concurrent_with_args

from penstock.broker.topics import OffsetRange, find_new_offset_ranges
from penstock.contract import cql
from penstock.contract.fields import fields
from penstock.contract.identity import identity_of
from penstock.contract.record import Record
from penstock.dead_letters.message import index_first_copies
from penstock.dead_letters.pending import DeadLetterSelection
from penstock.dead_letters.redrive import Redriven, redrive
from penstock.dead_letters.repair import Repair
from penstock.dead_letters.topic import read_dead_letters
from penstock.drill import load, record_checks
from penstock.drill.plan import Drill
from penstock.drill.target import Target
from penstock.errors import PenstockError, UsageError
from penstock.retry import wait_until
from penstock.sink import cassandra

NAME = "redrive-order"
EACH = 50
_OLD, _NEW = "YY", "XX"
"""The nationality of a user's rejected version, and of the version that follows it."""
_REPAIR = Repair({"email": "repaired@example.org"})
_STORED_S = 120.0


@contextmanager
def redrive_versions(target: Target) -> Iterator[None]:
    """Redrive rejected versions of users: with a newer one stored, with one in flight, with none, and as new.

    A redrive that ignored the order would overwrite the newer versions.
    """
    _check_record(target.pipeline.record)
    users = list(islice(load.Direct(target, NAME).users, 4 * EACH))
    stored, coming, alone, replaced = (users[at : at + EACH] for at in range(0, 4 * EACH, EACH))
    _send_versions(target, users, nationality=_OLD, email="invalid")
    _send_versions(target, [*stored, *replaced], nationality=_NEW)
    _check_redriven(_redrive_dead_letters(target, stored), superseded=EACH)
    _check_redriven(_redrive_dead_letters(target, replaced, as_new=True), sent=EACH)
    _send_versions(target, coming, nationality=_NEW, waits=False)
    outcome = _redrive_dead_letters(target, coming)
    _check_redriven(outcome, sent=EACH - outcome.superseded)
    _check_redriven(_redrive_dead_letters(target, alone), sent=EACH)
    _wait_for_all(target, [])
    _check_rows(target, [*stored, *coming], _NEW)
    _check_rows(target, [*alone, *replaced], _OLD)
    target.say(f"{NAME}: {4 * EACH} users have the expected version")
    yield


def _check_record(record: type[Record]) -> None:
    """Raise `UsageError` unless records have the fields that this drill sets."""
    if missing := {"nationality", "email"} - {field.column for field in fields(record)}:
        raise UsageError(
            f"{NAME} changes users, and {record.__name__} has no {', '.join(sorted(missing))}",
            hint="run it with the pipeline of the users",
        )


def _send_versions(target: Target, users: Sequence[Record], *, waits: bool = True, **changes: Any) -> None:
    """Send changed versions of users and, if `waits`, wait until they are stored or dead-lettered."""
    before = target.ranges()
    changed = (msgspec.structs.replace(user, **changes) for user in users)
    load.Direct(target, NAME).send_at((user, 0) for user in changed)
    if waits:
        _wait_for_all(target, before)


def _wait_for_all(target: Target, before: list[OffsetRange]) -> None:
    """Wait until the ledger covers everything added to the topic after `before`."""
    spans = find_new_offset_ranges(before, target.ranges())
    wait_until(
        lambda: record_checks.check_stored(target.settings, spans), timeout_s=_STORED_S, what=f"the records of {NAME}"
    )


def _redrive_dead_letters(target: Target, users: Iterable[Record], *, as_new: bool = False) -> Redriven:
    """Redrive the dead letters of these users, repaired."""
    settings, pipeline = target.settings, target.pipeline
    keys = set(map(identity_of(pipeline.record).key_of, users))
    letters = index_first_copies(letter for letter in read_dead_letters(settings, pipeline) if letter.key in keys)
    places = frozenset(letter.place for letter in letters.values())
    if len(places) != len(keys):
        raise PenstockError(f"only {len(places)} of {len(keys)} invalid records are in {pipeline.dead_letter_topic}")
    with cassandra.open_session(settings) as session:
        return redrive(settings, session, DeadLetterSelection(places=places), _REPAIR, as_new=as_new)


def _check_redriven(outcome: Redriven, *, sent: int = 0, superseded: int | None = None) -> None:
    """Raise `PenstockError` unless `sent` records were sent and `superseded` were superseded."""
    if outcome.sent != sent or superseded not in (None, outcome.superseded):
        raise PenstockError(
            f"redrive: {outcome.sent} sent and {outcome.superseded} superseded, expected {sent} and {superseded or 0}"
        )


def _check_rows(target: Target, users: Iterable[Record], nationality: str) -> None:
    """Raise `PenstockError` unless the row of each user has this nationality."""
    table, identity = cassandra.declared_table(target.settings, target.pipeline), identity_of(target.pipeline.record)
    ids = [table.key_values(identity.of(user)) for user in users]
    with cassandra.open_session(target.settings) as session:
        select = session.prepare(
            f"SELECT nationality FROM {cql.render_name(table)} WHERE {cql.render_key_condition(table)}"
        )
        answers = execute_concurrent_with_args(session, select, ids)
        nationalities = [row["nationality"] for _, rows in answers for row in rows]
    if nationalities != [nationality] * len(ids):
        raise PenstockError(f"{nationalities.count(nationality)} of {len(ids)} rows have the version {nationality}")


DRILLS = (
    Drill(
        NAME,
        "rejected versions are redriven after newer ones were stored: the newest keep the rows, except with --as-new",
        redrive_versions,
        rejects=True,
    ),
)
