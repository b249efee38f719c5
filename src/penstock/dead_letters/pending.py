"""Pending dead letters: selected, not claimed by other commands, and each counted by its outcome.

A claim that an interrupted command left behind is recognised by its age: no producer keeps sending for twice
`kafka_timeout_s`. What that command sent lies in the topic, at or after the end offsets of its claim, with the letter's
identity in the header `penstock.redriven`. The outcome is unknown only if the topic no longer holds that range,
because of retention or because it was recreated. The record then counts as not sent.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

from cassandra.cluster import Session

from penstock import pipelines, remedies
from penstock.broker import headers, topics
from penstock.broker.topics import OffsetRange, Position
from penstock.config import Settings
from penstock.contract.fault import Reason
from penstock.contract.violation import remove_places
from penstock.dead_letters import resolutions
from penstock.dead_letters.message import DeadLetter, DeadLetterSummary, first_copies
from penstock.dead_letters.repair import Edit
from penstock.dead_letters.resolutions import (
    WAITING,
    Claims,
    Resolution,
    ResolutionStore,
    describe_resolution,
    state_of,
)
from penstock.dead_letters.topic import build_not_found_error, read_dead_letters, read_dead_letters_at
from penstock.errors import UsageError
from penstock.pipelines import Pipeline
from penstock.sink import cassandra

CHUNK_LETTERS = 500
_CHUNK_BYTES = 64 * 1024 * 1024
_NAMED_AT_MOST = 100


@dataclass(frozen=True)
class DeadLetterSelection:
    """Selects the dead letters that meet every given condition. Places are positions in the dead-letter topic."""

    reasons: frozenset[str] = frozenset()
    rule: str = ""
    """The start of the code of a broken rule: `email:`, `email:pattern`. Paths are compared without their places."""
    places: frozenset[str] = frozenset()
    run: str = ""
    limit: int | None = None
    """Maximum number of records to send."""

    def __post_init__(self) -> None:
        unknown = self.reasons - set(Reason)
        if unknown:
            raise UsageError(f"unknown reason {', '.join(sorted(unknown))}: expected {', '.join(Reason)}")

    def takes(self, letter: DeadLetter) -> bool:
        """Return whether the letter meets the conditions, regardless of its position."""
        return (
            (not self.reasons or letter.reason in self.reasons)
            and any(rule.startswith(remove_places(self.rule)) for rule in letter.rules or ("",))
            and self.run in ("", letter.run)
        )


@dataclass(frozen=True)
class Named:
    """A record and its outcome."""

    place: str
    identity: str
    reason: str
    outcome: str
    message: str
    rules: tuple[str, ...]


@dataclass
class Outcomes:
    """The outcomes of the selected records. Each is counted once; the first hundred of each outcome are listed."""

    dry_run: bool = False
    selected: int = 0
    in_hand: int = 0
    """Another command is sending it, or was interrupted just now."""
    already: int = 0
    """Redriven, superseded or discarded before."""
    records: list[Named] = field(default_factory=list)

    def note(self, outcome: str, letter: DeadLetter, message: str = "", rules: tuple[str, ...] = ()) -> None:
        """Count a record as `outcome`, the name of a count."""
        count = getattr(self, outcome) + 1
        setattr(self, outcome, count)
        self.selected += 1
        if count <= _NAMED_AT_MOST:
            self.records.append(Named(letter.place, letter.identity, letter.reason, outcome, message, rules))


class Free(NamedTuple):
    """Letters that no other command is sending, by identity, with their current claims and the topic's end offsets."""

    letters: dict[str, DeadLetter]
    claims: Claims
    ends: dict[int, int]


class Queue:
    """The selected records in chunks. Those that are not pending are noted in `done` and skipped."""

    def __init__(
        self,
        settings: Settings,
        session: Session,
        selection: DeadLetterSelection,
        done: Outcomes,
        edits: dict[str, Edit] | None = None,
    ) -> None:
        self._settings = settings
        self._session = session
        self.pipeline = pipelines.of(settings)
        self._keyspace = cassandra.keyspace_of(settings, self.pipeline)
        self._done = done
        self._resolutions = resolutions.read_resolutions(session, self._keyspace, self.pipeline.topic)
        self._letters = filter(self._is_pending, selected(settings, self.pipeline, selection, edits))

    @cached_property
    def book(self) -> ResolutionStore:
        """Return the store of resolutions. Its table is created if it does not exist."""
        keyspace = cassandra.keyspace_statement(self._settings, self.pipeline)
        cassandra.create_missing(self._session, self._keyspace, keyspace | resolutions.statements(self._keyspace))
        return ResolutionStore(self._session, self._keyspace, self.pipeline.topic)

    def next(self, most: int) -> list[DeadLetter]:
        """Return the next pending letters, at most `most` and about a chunk's bytes; empty at the end."""
        chunk: list[DeadLetter] = []
        held_bytes = 0
        while len(chunk) < most and held_bytes < _CHUNK_BYTES:
            letter = next(self._letters, None)
            if letter is None:
                break
            chunk.append(letter)
            held_bytes += letter.value_bytes
        return chunk

    def _is_pending(self, letter: DeadLetter) -> bool:
        if state_of(letter.identity, self._resolutions) == WAITING:
            return True
        self._done.note("already", letter, describe_resolution(self._resolutions[letter.identity]))
        return False

    def free(self, letters: list[DeadLetter]) -> Free:
        """Return the `letters` that no other command is sending. Marks what an interrupted command sent as redriven."""
        by_identity = {letter.identity: letter for letter in letters}
        claimed = {identity: self._resolutions[identity] for identity in by_identity if identity in self._resolutions}
        ranges = topics.fetch_offset_ranges(self._settings, self.pipeline.topic)
        for identity, resolution in list(claimed.items()):
            if resolution.age_s < 2 * self._settings.kafka_timeout_s:
                self._done.note("in_hand", by_identity.pop(identity), describe_resolution(resolution))
                del claimed[identity]
        for identity, position in self._sent_before(claimed, ranges).items():
            self._had_sent(by_identity.pop(identity), claimed.pop(identity), position)
        claims = {identity: claimed[identity].claim if identity in claimed else None for identity in by_identity}
        return Free(by_identity, claims, {offset_range.partition: offset_range.end for offset_range in ranges})

    def _had_sent(self, letter: DeadLetter, resolution: Resolution, position: Position) -> None:
        if not self._done.dry_run:
            self.book.finish({letter.identity: position}, resolution.claim)
        self._done.note("already", letter, f"sent to {position} by a command of {resolution.who} that was interrupted")

    def _sent_before(self, claimed: dict[str, Resolution], ranges: list[OffsetRange]) -> dict[str, Position]:
        """Return which records of these claims are in the topic, with their positions."""
        if not claimed:
            return {}
        positions: dict[str, Position] = {}
        wanted = [
            _clip_range(
                offset_range, min(resolution.ends.get(offset_range.partition, 0) for resolution in claimed.values())
            )
            for offset_range in ranges
        ]
        for message in topics.read_records(self._settings, self.pipeline.topic, wanted):
            identity = headers.read_text(message, headers.REDRIVEN)
            if identity is not None and identity in claimed:
                positions.setdefault(identity, Position(message.partition(), message.offset()))
        return positions


def selected(
    settings: Settings, pipeline: Pipeline, selection: DeadLetterSelection, edits: dict[str, Edit] | None = None
) -> Iterator[DeadLetter]:
    """Yield the first copy of each selected record, pending or not; with `edits`, of those at their positions.

    Raises `UsageError` for a position without a dead letter, and for an edit of another record than the one at it.
    """
    if edits is not None:
        copies = iter(_fetch_edited(settings, pipeline, edits))
    elif selection.places:
        copies = iter(_fetch_by_position(settings, pipeline, selection.places))
    else:
        copies = read_dead_letters(settings, pipeline)
    return filter(selection.takes, first_copies(copies))


def _fetch_by_position(settings: Settings, pipeline: Pipeline, positions: frozenset[str]) -> list[DeadLetter]:
    letters = read_dead_letters_at(settings, pipeline, positions)
    missing = sorted(positions - letters.keys())
    if missing:
        raise build_not_found_error(settings, pipeline, ", ".join(missing))
    return list(letters.values())


def _fetch_edited(settings: Settings, pipeline: Pipeline, edits: dict[str, Edit]) -> list[DeadLetter]:
    letters = read_dead_letters_at(settings, pipeline, edits)
    for position, edit in edits.items():
        if position not in letters:
            raise build_not_found_error(settings, pipeline, f"{position} (line {edit.line} of the edit file)")
        identity = letters[position].identity
        if identity != edit.identity:
            raise UsageError(
                f"line {edit.line} of the edit file: the record at {position} is {identity}, not {edit.identity}",
                hint=remedies.export_dead_letters(),
            )
    return list(letters.values())


def _clip_range(offset_range: OffsetRange, first: int) -> OffsetRange:
    """Return the part of `offset_range` from `first` on, or all of it if it ends before: the topic was recreated."""
    return (
        OffsetRange(offset_range.partition, max(first, offset_range.first), offset_range.end)
        if first <= offset_range.end
        else offset_range
    )


@dataclass
class DeadLetterGroup:
    """Records dead-lettered for the same reason, by the same rules. `place` is the position of one of them."""

    reason: str
    rules: tuple[str, ...]
    waiting: int
    redriven: int
    superseded: int
    discarded: int
    first: datetime
    last: datetime
    place: str


def group_by_reason(
    letters: Iterable[DeadLetter | DeadLetterSummary], lines: dict[str, Resolution]
) -> list[DeadLetterGroup]:
    """Group the records by reason and rules, most pending first. `place` is a pending record's if there is one."""
    groups: dict[tuple[str, tuple[str, ...]], DeadLetterGroup] = {}
    for letter in letters:
        key = letter.reason, letter.rules
        group = groups.setdefault(key, DeadLetterGroup(*key, 0, 0, 0, 0, letter.time, letter.time, letter.place))
        state = state_of(letter.identity, lines)
        if state == WAITING or not group.waiting:
            group.place = letter.place
        setattr(group, state, getattr(group, state) + 1)
        group.first, group.last = min(group.first, letter.time), max(group.last, letter.time)
    return sorted(groups.values(), key=lambda group: (-group.waiting, group.reason, group.rules))
