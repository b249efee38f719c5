"""Key shapes that were observed to be ids in a topic incarnation, and from which offset on each counts. Pure.

Only the key of a tombstone says which row to delete. Unless the pipeline declares the format, it counts only if records
with a value had keys of that shape, equal to the id in their value. The start offsets are stored with the proof, so
that the stream, a replay and a verification decide alike, however they divide the topic into batches.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

KeyShape = Literal["text", "odd_text", "json_text", "json_object", "connect", "registry"]
"""Shape of a key, finer than a declared format.

text         the id as text; a number too
odd_text     the id as text that begins like JSON or a Connect struct, or contains control characters
json_text    the id as a JSON string
json_object  a JSON object with the id's fields only: penstock's keys of several fields, Debezium's keys without schema
connect      the id or such an object in Connect's `{"schema": ..., "payload": ...}`; Debezium's keys with schema too
registry     Avro or JSON behind the schema registry's header
"""
KEY_SHAPES: tuple[KeyShape, ...] = get_args(KeyShape)
Starts = Mapping[int, int]
"""First offset, by partition, from which something holds; 0 in a partition that is not listed."""
Proven = frozenset[KeyShape] | None
"""Shapes that are proven for a record; None: its key is read in the only format that it can have."""


@dataclass(frozen=True)
class KeyProofs:
    """The proofs of one topic incarnation.

    Offsets before `assumed` were stored before proofs were recorded: there, a key is read in the only format that it
    can have. None: this applies everywhere, because no job that records proofs has read the topic.
    """

    starts: Mapping[KeyShape, Starts] = field(default_factory=dict)
    assumed: Starts | None = field(default_factory=dict)

    def at(self, partition: int, offset: int) -> Proven:
        """Return what is proven for the record at a position."""
        if self.assumed is None or offset < self.assumed.get(partition, 0):
            return None
        return frozenset(shape for shape, starts in self.starts.items() if offset >= starts.get(partition, 0))

    @property
    def by_now(self) -> Proven:
        """Return what is proven for a record that comes after all others."""
        return None if self.assumed is None else frozenset(self.starts)


ASSUMED = KeyProofs(assumed=None)
"""Proofs of a topic that no job that records proofs has read."""
NOTHING_PROVEN = KeyProofs()


class KeyEvidence:
    """The proofs that one task of the stream knows and finds; each counts from its batch's first record on.

    A replay finds none of its own: it uses those that the stream has stored.
    """

    def __init__(self, known: KeyProofs) -> None:
        self._known = known
        self.found: dict[KeyShape, dict[int, int]] = {}

    def at(self, partition: int, offset: int) -> Proven:
        """Return what is proven for the record at a position, by what is known and found."""
        known = self._known.at(partition, offset)
        if known is None or not self.found:
            return known
        return known | {shape for shape, starts in self.found.items() if offset >= starts.get(partition, offset + 1)}

    def is_known(self, shape: KeyShape) -> bool:
        """Return whether nothing is left to learn about a shape."""
        return shape in self._known.starts

    def note(self, shape: KeyShape, starts: Starts) -> None:
        """Record that a shape is proven, in these partitions from these offsets on."""
        if not self.is_known(shape):
            self.found[shape] = {**starts, **self.found.get(shape, {})}


def merge_proofs(proofs: Iterable[Mapping[KeyShape, Starts]]) -> dict[KeyShape, dict[int, int]]:
    """Return the proofs that several tasks found, combined; of two starts in a partition, the first counts."""
    merged: dict[KeyShape, dict[int, int]] = {}
    for each in proofs:
        for shape, starts in each.items():
            into = merged.setdefault(shape, {})
            into |= {number: min(start, into.get(number, start)) for number, start in starts.items()}
    return merged


def find_agreed_shapes(samples: Iterable[tuple[Mapping[KeyShape, Any], Any]]) -> set[KeyShape]:
    """Return the shapes in which each sampled key is the id of its record, at least one of them.

    A sample is the readings of a key by shape, and the record's id. Keys that equal an id only now and then, such as
    other records' numbers, prove nothing: a single mismatch disproves the shape.
    """
    equal: set[KeyShape] = set()
    unequal: set[KeyShape] = set()
    for readings, record_id in samples:
        for shape, read_id in readings.items():
            (equal if read_id == record_id else unequal).add(shape)
    return equal - unequal
