"""What a pipeline's file defines."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from penstock.contract.expiry import Ttl
from penstock.contract.json_numbers import ReadNumber, keeps_digits, read_number
from penstock.contract.keys import KeyFormat
from penstock.contract.names import DEAD_LETTERS
from penstock.contract.order_by import BY_OFFSET, OrderBy, OrderOfTombstone, order_by_of
from penstock.contract.primary_key import PrimaryKey
from penstock.contract.record import Record
from penstock.contract.table import Table, build_table


@dataclass(frozen=True)
class Pipeline:
    """A record, where it comes from and where it goes. Checked by `penstock.pipelines.validate` when it is loaded.

    `from_source` returns the record for one entry of the API's response, or a dict of its fields by their names in
    messages. Both are validated alike. Whatever it raises dead-letters that entry alone; `msgspec.ValidationError`
    counts as a broken rule.

    `secret` names the API's fields that are never stored, not even in a dead letter.

    `transform`, if set, is given each micro-batch's decoded records as a Spark DataFrame (the record's columns and
    `kafka_partition`, `kafka_offset`, `ingested_at`) and returns the rows to store: at most one row per record, with
    those three columns unchanged. `row` is then the type of a row; records it drops are counted.

    `transform_is_row_wise` declares that `transform` derives each row from its record alone, so that a batch may be
    split anywhere: a record for which it raises is then located and dead-lettered, and the rest continues. Otherwise a
    transform that raises stops the stream until it is corrected.

    `key_format` is the format of the topic's keys, if tombstones are not penstock's own: a tombstone's key says which
    row to delete. None: a tombstone counts in the formats in which keys of records with a value were observed to be
    their ids.

    `order_by` says which version of an id is the newest: `"offset"`, the later version in its partition; `"timestamp"`,
    the version with the later Kafka timestamp; or the name of a field of the record, a datetime or an integer, the
    version with the larger value. It is fixed for a table once the job has begun to write it. With a field,
    `order_of_tombstone` returns the value of a `Tombstone`; without it, tombstones are dead letters.

    `primary_key` is the table's. Without it, the only KEY field is the partition; of several, the first is, and the
    others are clustering columns, in declared order.

    `ttl` is how long rows live, a timedelta from when they are written: the table's `default_time_to_live`. Or it names
    a field, by which single rows expire: a datetime, or a timedelta from Kafka's timestamp of the record; None: the row
    never expires. A transform leaves that field unchanged. Without `ttl`, the table's own TTL is not managed.

    `one_version_per_id`: no id is ever sent again with another value, as with events. Null fields are then left unset
    in Cassandra, where a null is a tombstone; `verify` names an id that has two versions.
    """

    topic: str
    keyspace: str
    table: str
    record: type[Record]
    from_source: Callable[[Any], Record | dict[str, Any]]
    secret: frozenset[str] = frozenset()
    transform: Callable[[Any], Any] | None = None
    transform_is_row_wise: bool = False
    row: type[Record] | None = None
    key_format: KeyFormat | None = None
    one_version_per_id: bool = False
    order_by: str = BY_OFFSET
    order_of_tombstone: OrderOfTombstone | None = None
    primary_key: PrimaryKey | None = None
    ttl: Ttl | None = None

    @property
    def stored(self) -> type[Record]:
        """Return the type of a row of the table: `row`, or the record itself."""
        return self.row or self.record

    @cached_property
    def number_reader(self) -> ReadNumber | None:
        """Return what reads an API's numbers if the record keeps more digits than a float; None for plain floats."""
        return read_number if keeps_digits(self.record) else None

    @cached_property
    def declared_order(self) -> OrderBy | None:
        """Return what orders records if their offsets do not, else None."""
        return order_by_of(self.record, self.order_by, self.order_of_tombstone)

    def build_table(self, keyspace: str) -> Table:
        """Return the pipeline's table in a keyspace, which settings may override."""
        return build_table(keyspace, self.table, self.stored, self.primary_key, self.ttl)

    @property
    def dead_letter_topic(self) -> str:
        """Return the topic of records that cannot be stored."""
        return f"{self.topic}{DEAD_LETTERS}"

    @property
    def subject(self) -> str:
        """Return the schema registry's subject of the topic's values (TopicNameStrategy)."""
        return f"{self.topic}-value"
