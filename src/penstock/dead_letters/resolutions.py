"""Resolutions of dead letters: redriven, superseded or discarded. One row each, by the dead letter's identity.

A record without a row is `waiting`. So is one that is only claimed: a redrive claims a record before it sends it, and
marks it redriven once the send is acknowledged. Every change is a lightweight transaction with Cassandra's own time, so
exactly one of two concurrent commands wins, regardless of clock skew.
"""

import zlib
from collections import Counter, defaultdict
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

from penstock.broker.topics import Position
from penstock.contract import cql
from penstock.retry import retry_attempts
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
    """The state of a dead letter's resolution."""

    CLAIMED = "claimed"
    REDRIVEN = "redriven"
    SUPERSEDED = "superseded"
    """Not sent, because a newer version of its id was stored."""
    DISCARDED = "discarded"


@dataclass(frozen=True)
class Resolution:
    """A resolution: the record's state, since when and by whom."""

    state: State
    claim: UUID
    at: datetime
    age_s: float
    """Seconds since `at`, by Cassandra's clock."""
    who: str
    note: str
    place: Position | None
    """Position of the redriven record in the topic, or of the version that superseded it."""
    ends: dict[int, int]
    """The topic's end offsets before the claim. What the claim's owner sent lies at or after them."""


def statements(keyspace: str) -> dict[str, str]:
    """Return the CQL that creates the table, by table name."""
    return {"settled": _TABLE.format(keyspace=cql.quote_name(keyspace))}


def create_table(session: Session, keyspace: str) -> None:
    """Create the table if it does not exist."""
    create_missing(session, keyspace, statements(keyspace))


def read_resolutions(session: Session, keyspace: str, topic: str) -> dict[str, Resolution]:
    """Return the resolutions of `topic` by identity; empty if there is no table yet."""
    if not has_table(session, keyspace, "settled"):
        return {}
    query = f"SELECT {_READ} FROM {cql.quote_name(keyspace)}.settled WHERE topic = %s AND bucket = %s"
    resolutions: dict[str, Resolution] = {}
    for bucket in range(BUCKETS):
        resolutions |= {row["identity"]: _parse_resolution(row) for row in session.execute(query, (topic, bucket))}
    return resolutions


def read_resolutions_of(
    session: Session, keyspace: str, topic: str, identities: Iterable[str]
) -> dict[str, Resolution]:
    """Return the resolutions of these records of `topic` by identity, without reading any others."""
    if not has_table(session, keyspace, "settled"):
        return {}
    query = (
        f"SELECT {_READ} FROM {cql.quote_name(keyspace)}.settled WHERE topic = %s AND bucket = %s AND identity IN %s"
    )
    by_bucket: dict[int, list[str]] = defaultdict(list)
    for identity in identities:
        by_bucket[bucket_of(identity)].append(identity)
    asked = [
        (topic, bucket, ValueSequence(some[at : at + _ASKED_AT_ONCE]))
        for bucket, some in by_bucket.items()
        for at in range(0, len(some), _ASKED_AT_ONCE)
    ]
    return {row["identity"]: _parse_resolution(row) for values in asked for row in session.execute(query, values)}


def count_states(session: Session, keyspace: str, topic: str, identities: Iterable[str]) -> dict[str, int]:
    """Return how many of these records are in each state; every state is counted, claimed ones as `waiting`."""
    resolutions = read_resolutions(session, keyspace, topic)
    counts = Counter(state_of(identity, resolutions) for identity in identities)
    return {state: counts[state] for state in (WAITING, *map(str, (State.REDRIVEN, State.SUPERSEDED, State.DISCARDED)))}


def state_of(identity: str, lines: dict[str, Resolution]) -> str:
    """Return `waiting`, `redriven`, `superseded` or `discarded`."""
    line = lines.get(identity)
    return WAITING if line is None or line.state is State.CLAIMED else str(line.state)


def _parse_resolution(row: dict[str, Any]) -> Resolution:
    new = (row["new_partition"], row["new_offset"])
    return Resolution(
        state=State(row["state"]),
        claim=row["claim"],
        at=row["at"].replace(tzinfo=UTC),
        age_s=(row["read_at"] - row["at"]).total_seconds(),
        who=row["who"] or "",
        note=row["note"] or "",
        place=None if None in new else Position(*new),
        ends=dict(row["ends"] or {}),
    )


def describe_resolution(resolution: Resolution) -> str:
    """Return the resolution of a record as text."""
    where = ""
    if resolution.place:
        is_superseded = resolution.state is State.SUPERSEDED
        where = f" (newer version at {resolution.place})" if is_superseded else f" to {resolution.place}"
    note = f": {resolution.note}" if resolution.note else ""
    return f"{resolution.state}{where} by {resolution.who} at {resolution.at:%Y-%m-%dT%H:%M:%SZ}{note}"


Claims = dict[str, UUID | None]
"""Identities, each with its current claim, or None if it has no row."""


class ResolutionStore:
    """Store of the resolutions of one topic. The table must exist.

    Each call returns the identities that it changed. Those that are no longer as the caller states stay unchanged.
    """

    def __init__(self, session: Session, keyspace: str, topic: str) -> None:
        self._session = session
        self._topic = topic
        table = cql.quote_table(keyspace, "settled")
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
        """Claim records before they are sent. `ends` are the topic's end offsets just before."""
        return self._write_resolutions(wanted, State.CLAIMED, claim, who, "", ends)

    def discard(self, wanted: Claims, claim: UUID, who: str, note: str) -> set[str]:
        """Mark records as discarded. `claim` is new and identifies this call."""
        return self._write_resolutions(wanted, State.DISCARDED, claim, who, note, {})

    def finish(self, positions: dict[str, Position], claim: UUID, state: State = State.REDRIVEN) -> set[str]:
        """Mark records of `claim` as redriven, each with its new position in the topic, or as superseded by it."""

        def values(identity: str) -> tuple[Any, ...]:
            return *positions[identity], *self._build_key(identity), claim

        return self._change_rows(self._finish[state], positions, values, state, claim)

    def _write_resolutions(
        self, wanted: Claims, state: State, claim: UUID, who: str, note: str, ends: dict[int, int]
    ) -> set[str]:
        """Insert the missing rows and replace the given claims. Returns the identities that changed."""
        fresh = [identity for identity, earlier in wanted.items() if earlier is None]

        def inserted(identity: str) -> tuple[Any, ...]:
            return *self._build_key(identity), state, claim, who, note, ends

        def replaced(identity: str) -> tuple[Any, ...]:
            return state, claim, who, note, ends, *self._build_key(identity), wanted[identity]

        return self._change_rows(self._insert, fresh, inserted, state, claim) | self._change_rows(
            self._replace, wanted.keys() - set(fresh), replaced, state, claim
        )

    def _build_key(self, identity: str) -> tuple[str, int, str]:
        return self._topic, bucket_of(identity), identity

    def _change_rows(
        self,
        statement: Any,
        identities: Collection[str],
        values: Callable[[str], tuple[Any, ...]],
        state: State,
        claim: UUID,
    ) -> set[str]:
        changed: set[str] = set()
        for some in _iter_rounds(identities):
            for attempt in retry_attempts(WriteTimeout, attempts=_ATTEMPTS, timeout_s=_RETRY_S):
                with attempt:
                    answers = execute_concurrent_with_args(self._session, statement, map(values, some))
            changed |= {
                identity
                for identity, (_, rows) in zip(some, answers, strict=True)
                if _is_applied(rows.one(), state, claim)
            }
        return changed


def bucket_of(identity: str) -> int:
    """Return the bucket of a record's row. Buckets keep a topic's rows from sharing one Cassandra partition."""
    return zlib.crc32(identity.encode()) % BUCKETS


def _iter_rounds(identities: Collection[str]) -> Iterator[list[str]]:
    """Yield the identities in rounds, at most one per bucket each: transactions on one partition contend."""
    by_bucket: dict[int, list[str]] = defaultdict(list)
    for identity in identities:
        by_bucket[bucket_of(identity)].append(identity)
    for some in zip_longest(*by_bucket.values()):
        yield [identity for identity in some if identity is not None]


def _is_applied(answer: dict[str, Any], state: State, claim: UUID) -> bool:
    """Return whether the row is as intended, by this transaction or by an earlier one whose response was lost."""
    return bool(answer["[applied]"]) or (answer.get("state"), answer.get("claim")) == (state, claim)
