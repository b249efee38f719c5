"""What log compaction explains: offsets that the ledger counted and a compacted topic no longer has. Pure.

Compaction keeps the newest record of each key, or removes it when it is a tombstone older than `delete.retention.ms`.
So a record that is gone must have a newer one of its key behind it in its partition, or a tombstone that is gone too.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from penstock.broker.topics import Place
from penstock.contract.fields import key_reader
from penstock.contract.record import Record
from penstock.observe.versions import Versions

KEPT = "the topic no longer has it, and compaction keeps the newest record of each key"


@dataclass(frozen=True)
class Compaction:
    """A topic's `cleanup.policy` holds `compact`; tombstones are kept for `delete_retention_ms` at least."""

    delete_retention_ms: int


@dataclass
class Remains:
    """What a topic still holds: of each id the last position per partition, and of keys whose values have no id.

    `read_key` returns the id that a key stands for, None for none.
    """

    versions: Versions
    pending_ids: set[Any]
    read_key: Callable[[bytes | None], Any]
    gone_tombstones: Counter[int]
    """By partition, the tombstones that the ledger counted, the topic no longer has, and that it need not keep."""
    ends: Mapping[int, int]
    """The log end of each partition."""
    unread: dict[tuple[bytes, int], int] = field(default_factory=dict)
    """The last offset of each key and partition with a record that was rejected, or cannot be decoded."""

    def has_newer(self, record_id: Any, place: Place) -> bool:
        """Return whether a record of the id lies at `place` or behind it in its partition."""
        return (
            record_id in self.pending_ids
            or self.versions.last_offset(record_id, place.partition) >= place.offset
            or self._unread_offsets.get((record_id, place.partition), -1) >= place.offset
        )

    @cached_property
    def _unread_offsets(self) -> dict[tuple[Any, int], int]:
        offsets: dict[tuple[Any, int], int] = {}
        for (key, partition), offset in self.unread.items():
            record_id = self.read_key(key)
            if record_id is not None:
                offsets[record_id, partition] = max(offset, offsets.get((record_id, partition), -1))
        return offsets

    def unexplained(self, gone: Mapping[Place, Any], rows: Mapping[Any, Any]) -> list[Place]:
        """Return which of the records that are gone, with their ids, compaction cannot have removed.

        One without a newer record may have been deleted, if it has no row. There are no more such ids than tombstones
        that are gone too: where there are more, none of them is explained. What lies behind the log end never was.
        """
        bare = {place: record_id for place, record_id in gone.items() if not self.has_newer(record_id, place)}
        deleted_ids: dict[int, set[Any]] = defaultdict(set)
        for place, record_id in bare.items():
            if record_id not in rows:
                deleted_ids[place.partition].add(record_id)
        explained = {
            partition: ids for partition, ids in deleted_ids.items() if len(ids) <= self.gone_tombstones[partition]
        }
        return sorted(
            place
            for place, record_id in bare.items()
            if place.offset >= self.ends.get(place.partition, 0) or record_id not in explained.get(place.partition, ())
        )


def id_of_text(text: str, record: type[Record]) -> Any:
    """Return the id that a delivery log's key stands for; None for none."""
    try:
        return key_reader(record)(text.encode())
    except ValueError:
        return None
