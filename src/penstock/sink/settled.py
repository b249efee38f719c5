"""What became of rejected records: redriven, superseded or discarded. One line for each, by its dead letter's identity.

A record without a line waits. So does one that is only claimed: a redrive claims it before it sends it, and marks it
redriven once the send is acknowledged. Every change is a lightweight transaction, and their times are Cassandra's own,
so of two commands at once one alone has its way, whatever their clocks say.
"""

import zlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import zip_longest
from typing import Any
from uuid import UUID

from cassandra import WriteTimeout
from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args
from cassandra.query import ValueSequence

from penstock.broker.topics import Place
from penstock.contract import cql
from penstock.retry import bounded
from penstock.sink.cassandra import create_missing, has_table

WAITING = "waiting"
BUCKETS = 16
_TABLE = """
CREATE TABLE IF NOT EXISTS {keyspace}.settled (
  topic text,
  bucket int,
  identity text,
  state text,
  claim uuid,
  at timestamp,
  who text,
  note text,
  new_partition int,
  new_offset bigint,
  ends map<int, bigint>,
  PRIMARY KEY ((topic, bucket), identity)
)
"""
_READ = "identity, state, claim, at, who, note, new_partition, new_offset, ends, toTimestamp(now()) AS read_at"
_KEY = "topic = ? AND bucket = ? AND identity = ?"
_ASKED_AT_ONCE = 100
_ATTEMPTS = 5
_RETRY_S = 30.0


class State(StrEnum):
    """What became of a record."""

    CLAIMED = "claimed"
    REDRIVEN = "redriven"
    SUPERSEDED = "superseded"
    """A newer version of its id was stored: it was not sent."""
    DISCARDED = "discarded"


@dataclass(frozen=True)
class Settled:
    """A line: the record's state, since when and by whom."""

    state: State
    claim: UUID
    at: datetime
    age_s: float
    """Since `at`, by Cassandra's clock."""
    who: str
    note: str
    place: Place | None
    """Where the redriven record lies in the topic, or the version that superseded it."""
    ends: dict[int, int]
    """The topic's end offsets before the claim: what was sent for it lies there or later."""


def statements(keyspace: str) -> dict[str, str]:
    """Return the CQL that creates the table, by its name."""
    return {"settled": _TABLE.format(keyspace=cql.name(keyspace))}


def create_table(session: Session, keyspace: str) -> None:
    """Create the table when it is not there."""
    create_missing(session, keyspace, statements(keyspace))


def states(session: Session, keyspace: str, topic: str) -> dict[str, Settled]:
    """The line of each record of `topic` that has one, by identity; none when there is no table yet."""
    if not has_table(session, keyspace, "settled"):
        return {}
    query = f"SELECT {_READ} FROM {cql.name(keyspace)}.settled WHERE topic = %s AND bucket = %s"
    found: dict[str, Settled] = {}
    for bucket in range(BUCKETS):
        found |= {row["identity"]: _settled(row) for row in session.execute(query, (topic, bucket))}
    return found


def states_of(session: Session, keyspace: str, topic: str, identities: Iterable[str]) -> dict[str, Settled]:
    """The line of each of these records of `topic` that has one, by identity; the others are not read."""
    if not has_table(session, keyspace, "settled"):
        return {}
    query = f"SELECT {_READ} FROM {cql.name(keyspace)}.settled WHERE topic = %s AND bucket = %s AND identity IN %s"
    by_bucket: dict[int, list[str]] = defaultdict(list)
    for identity in identities:
        by_bucket[bucket_of(identity)].append(identity)
    asked = [
        (topic, bucket, ValueSequence(some[at : at + _ASKED_AT_ONCE]))
        for bucket, some in by_bucket.items()
        for at in range(0, len(some), _ASKED_AT_ONCE)
    ]
    return {row["identity"]: _settled(row) for values in asked for row in session.execute(query, values)}


def state_of(identity: str, lines: dict[str, Settled]) -> str:
    """`waiting`, `redriven`, `superseded` or `discarded`."""
    line = lines.get(identity)
    return WAITING if line is None or line.state is State.CLAIMED else str(line.state)


def _settled(row: dict[str, Any]) -> Settled:
    new = (row["new_partition"], row["new_offset"])
    return Settled(
        state=State(row["state"]),
        claim=row["claim"],
        at=row["at"].replace(tzinfo=UTC),
        age_s=(row["read_at"] - row["at"]).total_seconds(),
        who=row["who"] or "",
        note=row["note"] or "",
        place=None if None in new else Place(*new),
        ends=dict(row["ends"] or {}),
    )


Claims = dict[str, UUID | None]
"""Identities, each with the claim that it has now, or None when it has no line."""


class Book:
    """Changes the lines of one topic. Its table must be there.

    Each call gives the identities that it changed: those that are no longer as the caller said stay as they are.
    """

    def __init__(self, session: Session, keyspace: str, topic: str) -> None:
        self._session = session
        self._topic = topic
        table = cql.table_name(keyspace, "settled")
        self._insert = session.prepare(
            f"INSERT INTO {table} (topic, bucket, identity, state, claim, at, who, note, ends) "
            "VALUES (?, ?, ?, ?, ?, toTimestamp(now()), ?, ?, ?) IF NOT EXISTS"
        )
        self._replace = session.prepare(
            f"UPDATE {table} SET state = ?, claim = ?, at = toTimestamp(now()), who = ?, note = ?, ends = ? "
            f"WHERE {_KEY} IF state = '{State.CLAIMED}' AND claim = ?"
        )
        self._finish = {
            state: session.prepare(
                f"UPDATE {table} SET state = '{state}', at = toTimestamp(now()), new_partition = ?, "
                f"new_offset = ? WHERE {_KEY} IF state = '{State.CLAIMED}' AND claim = ?"
            )
            for state in (State.REDRIVEN, State.SUPERSEDED)
        }

    def claim(self, wanted: Claims, claim: UUID, who: str, ends: dict[int, int]) -> set[str]:
        """Claim records before they are sent; `ends` are the topic's end offsets of a moment before."""
        return self._put(wanted, State.CLAIMED, claim, who, "", ends)

    def discard(self, wanted: Claims, claim: UUID, who: str, note: str) -> set[str]:
        """Mark records as discarded. `claim` is new, and names this call."""
        return self._put(wanted, State.DISCARDED, claim, who, note, {})

    def finish(self, places: dict[str, Place], claim: UUID, state: State = State.REDRIVEN) -> set[str]:
        """Mark records of `claim` as redriven, each with its new place in the topic; or as superseded from there."""

        def values(identity: str) -> tuple[Any, ...]:
            return *places[identity], *self._key(identity), claim

        return self._change(self._finish[state], places, values, state, claim)

    def _put(self, wanted: Claims, state: State, claim: UUID, who: str, note: str, ends: dict[int, int]) -> set[str]:
        """The records that got a first line, and those whose claim was replaced."""
        fresh = [identity for identity, earlier in wanted.items() if earlier is None]

        def inserted(identity: str) -> tuple[Any, ...]:
            return *self._key(identity), state, claim, who, note, ends

        def replaced(identity: str) -> tuple[Any, ...]:
            return state, claim, who, note, ends, *self._key(identity), wanted[identity]

        return self._change(self._insert, fresh, inserted, state, claim) | self._change(
            self._replace, wanted.keys() - set(fresh), replaced, state, claim
        )

    def _key(self, identity: str) -> tuple[str, int, str]:
        return self._topic, bucket_of(identity), identity

    def _change(
        self,
        statement: Any,
        identities: Collection[str],
        values: Callable[[str], tuple[Any, ...]],
        state: State,
        claim: UUID,
    ) -> set[str]:
        changed: set[str] = set()
        for some in _rounds(identities):
            for attempt in bounded(WriteTimeout, attempts=_ATTEMPTS, timeout_s=_RETRY_S):
                with attempt:
                    answers = execute_concurrent_with_args(self._session, statement, map(values, some))
            changed |= {
                identity for identity, (_, rows) in zip(some, answers, strict=True) if _holds(rows.one(), state, claim)
            }
        return changed


def bucket_of(identity: str) -> int:
    """The bucket that a record's line lies in: no Cassandra partition holds all of a topic's."""
    return zlib.crc32(identity.encode()) % BUCKETS


def _rounds(identities: Collection[str]) -> Iterator[list[str]]:
    """The identities, each time at most one of a bucket: transactions on one partition hinder each other."""
    by_bucket: dict[int, list[str]] = defaultdict(list)
    for identity in identities:
        by_bucket[bucket_of(identity)].append(identity)
    for some in zip_longest(*by_bucket.values()):
        yield [identity for identity in some if identity is not None]


def _holds(answer: dict[str, Any], state: State, claim: UUID) -> bool:
    """Whether the line is as it was to be: by this transaction, or by one whose answer had been lost."""
    return bool(answer["[applied]"]) or (answer.get("state"), answer.get("claim")) == (state, claim)
