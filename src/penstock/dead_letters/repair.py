"""Repair the record in a dead letter to satisfy the contract, or say why it would be dead-lettered again.

Pure, except for looking up unknown schema ids.
"""

import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from penstock.broker import headers
from penstock.broker.dlq import PLACE, DeadLetter
from penstock.broker.registry import Schemas
from penstock.broker.wire_format import FRAME_BYTES, decode_schema_id, is_framed
from penstock.contract.fields import build_key_writer, fields, key_of, to_epoch_ms
from penstock.contract.isolation import NOT_OF_A_RECORD
from penstock.contract.keys import IdReader
from penstock.contract.order_by import Source
from penstock.contract.proofs import Proven
from penstock.contract.record import Record
from penstock.contract.reject import Fault, Stage
from penstock.contract.rules import MAX_VALUE_BYTES, latest_past, validate_record
from penstock.errors import SchemaUnknown, UsageError
from penstock.pipeline.mapping import Mapper
from penstock.pipelines import Pipeline
from penstock.process.decode import MALFORMED_JSON, Decoder, names_in
from penstock.process.writer import AvroWriter, AvroWriters
from penstock.produce.serialize import Serialize


class Edit(NamedTuple):
    """A line of an edit file."""

    line: int
    place: str
    identity: str
    value: Any


@dataclass(frozen=True)
class Repair:
    """The changes: fields, the same in each record, or whole values of single records by place; not both."""

    fields: dict[str, Any] = field(default_factory=dict)
    edits: dict[str, Edit] | None = None

    def __post_init__(self) -> None:
        if self.fields and self.edits is not None:
            raise UsageError("either fields are set, or an edit file is given", hint="./penstock dlq redrive --help")


class Outgoing(NamedTuple):
    """A message to send: key, value and the record's id. `keeps_id`: it is the id of the dead-lettered record.

    `order_us` is the write timestamp that a field gives it, if a field orders the table.
    """

    key: bytes | None
    value: bytes | None
    record_id: Any = None
    keeps_id: bool = True
    order_us: int | None = None


class StillInvalid(NamedTuple):
    """The reason why a record would be dead-lettered again."""

    message: str
    rules: tuple[str, ...] = ()


def assignments(record: type[Record], texts: Iterable[str]) -> dict[str, Any]:
    """Parse texts like `email=a@b.se` into values by field, each of its field's type. Raises `UsageError`."""
    hints = typing.get_type_hints(record, include_extras=True)
    known = {one.name: hints[one.column] for one in fields(record)}
    found: dict[str, Any] = {}
    for text in texts:
        name, is_there, value = text.partition("=")
        if name not in known:
            raise UsageError(f"there is no field {name!r}; fields: {', '.join(known)}", hint="--set FIELD=VALUE")
        if not is_there:
            raise UsageError(f"{name} is set to nothing", hint=f"--set {name}=VALUE")
        try:
            found[name] = msgspec.convert(value, known[name], strict=False)
        except msgspec.ValidationError as error:
            raise UsageError(f"{name}: {error}", hint="./penstock dlq redrive --help") from None
    return found


class _ExportedLine(msgspec.Struct):
    place: Annotated[str, Meta(pattern=PLACE.pattern)]
    identity: str
    value: Any


def edits(lines: Iterable[bytes]) -> dict[str, Edit]:
    """Parse JSON lines, as `dlq export` writes them, into edits by place. Raises `UsageError`, naming the line."""
    found: dict[str, Edit] = {}
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            line = msgspec.json.decode(text, type=_ExportedLine)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UsageError(f"line {number} of the edit file: {error}", hint="./penstock dlq export FILE") from None
        if line.place in found:
            raise UsageError(
                f"line {number} of the edit file: {line.place} stands on line {found[line.place].line} too"
            )
        found[line.place] = Edit(number, line.place, line.identity, line.value)
    return found


class Repairer:
    """Repairs dead letters of one pipeline. `proven` returns the currently proven key formats of the topic."""

    def __init__(
        self,
        pipeline: Pipeline,
        schemas: Schemas,
        mending: Repair,
        serialize: Serialize,
        proven: Callable[[], Proven],
    ) -> None:
        self._pipeline = pipeline
        self._mapper = Mapper(pipeline, serialize)
        self._writers = AvroWriters(schemas)
        self._mending = mending
        self._serialize = serialize
        self._proven = proven
        self._decoder = Decoder(pipeline.record, schemas, pipeline.key_format)
        self._order_by = pipeline.declared_order
        self._key = build_key_writer(pipeline.record)
        self._id_field = key_of(pipeline.record)
        self._ids = IdReader(pipeline.record)

    def outgoing(self, letter: DeadLetter) -> Outgoing | StillInvalid:
        """Return the message to send for `letter`: its own bytes if nothing changes, or those of the repaired record.

        An API entry that the producer dead-lettered is always mapped to a record first. Raises `RegistryUnreachable`.
        """
        try:
            return self._made_of(letter)
        except NOT_OF_A_RECORD:
            raise
        except Exception as error:  # noqa: BLE001  the types of a pipeline's file run here and may raise anything
            return _build_still_invalid(Fault.of_exception(error))

    def _made_of(self, letter: DeadLetter) -> Outgoing | StillInvalid:
        mending = self._mending
        if letter.left_out is not None and letter.place not in (mending.edits or {}):
            return StillInvalid(_left_out(letter), letter.rules)
        is_entry = letter.stage == Stage.PRODUCE
        if not mending.fields and mending.edits is None and not is_entry:
            return self._check_unchanged(letter)
        found = self._read_fields(letter)
        if isinstance(found, StillInvalid):
            return found
        made = self._map_entry(found) if is_entry else self._repair_record(letter, found)
        return _build_still_invalid(made) if isinstance(made, Fault) else made

    def _check_unchanged(self, letter: DeadLetter) -> Outgoing | StillInvalid:
        is_tombstone = letter.value is None
        judged = self._decode_tombstone(letter.key) if is_tombstone else self._decoder.decode(letter.value)
        if isinstance(judged, Fault):
            return _build_still_invalid(judged)
        place = self._tombstone_place(letter) if is_tombstone else self._find_write_timestamp(judged)
        if isinstance(place, Fault):
            return _build_still_invalid(place)
        record_id = judged if is_tombstone else self._id_of(judged)
        return Outgoing(letter.key, letter.value, record_id, order_us=place)

    def _find_write_timestamp(self, record: Record) -> int | Fault | None:
        """Return the write timestamp given by the record's field, its fault, or None if no field orders the table."""
        by = self._order_by
        return by.compute_field_timestamp(record, latest_past()) if by and by.field else None

    def _tombstone_place(self, letter: DeadLetter) -> int | Fault | None:
        by = self._order_by
        if by is None or by.field is None:
            return None
        header = headers.read_order(letter.headers)
        source = Source(timestamp_of(letter), letter.origin.offset, header)
        return by.compute_tombstone_timestamp(letter.key, letter.headers, source, latest_past())

    def _id_of(self, record: Record) -> Any:
        return getattr(record, self._id_field.column)

    def _decode_tombstone(self, key: bytes | None) -> Any | Fault:
        return self._decoder.deleted(key, self._proven())

    def _read_fields(self, letter: DeadLetter) -> dict[str, Any] | StillInvalid:
        edit = (self._mending.edits or {}).get(letter.place)
        found = value_of(letter.value, self._writers) if edit is None else edit.value
        if isinstance(found, dict):
            return found
        why = f"the value is no object whose fields could be set: {letter.message}"
        return StillInvalid(why if edit is None else f"line {edit.line} holds no object as value", letter.rules)

    def _map_entry(self, entry: dict[str, Any]) -> Outgoing | Fault:
        made = self._mapper.outgoing(entry, self._mending.fields)
        return made if isinstance(made, Fault) else Outgoing(*made)

    def _repair_record(self, letter: DeadLetter, found: dict[str, Any]) -> Outgoing | Fault:
        judged = validate_record(found | self._mending.fields, self._pipeline.record, latest_past())
        if isinstance(judged, list):
            return Fault.of(judged)
        place = self._find_write_timestamp(judged)
        if isinstance(place, Fault):
            return place
        value = self._serialize(judged)
        if len(value) > MAX_VALUE_BYTES:
            return Fault.too_large(len(value))
        keeps_id = self._keeps_id(letter, judged)
        key = letter.key if keeps_id and letter.key is not None else self._key(judged)
        return Outgoing(key, value, self._id_of(judged), keeps_id, place)

    def _keeps_id(self, letter: DeadLetter, record: Record) -> bool:
        """Return whether a repaired record has the original's id, as far as the original's key or value shows it."""
        record_id = self._id_of(record)
        if letter.key in (None, self._key(record)) or self._decoder.deleted(letter.key, None) == record_id:
            return True
        before = value_of(letter.value, self._writers) or {}
        try:
            return bool(self._ids.of_value(before.get(self._id_field.name)) == record_id)
        except ValueError:
            return False


def _left_out(letter: DeadLetter) -> str:
    """Return why a letter without its record cannot be sent."""
    assert letter.left_out is not None
    why = f"{', '.join(letter.left_out.parts)} left out of the dead letter, which was too large for its topic"
    if letter.origin.partition < 0:
        return f"{why}; the record never got to the topic: run it again"
    return f"{why}; the record is no longer {letter.original}"


def timestamp_of(letter: DeadLetter) -> int:
    """Return Kafka's timestamp of a dead-lettered record in ms, or its rejection time if that was not stored.

    Older versions of penstock did not store it.
    """
    return to_epoch_ms(letter.time) if letter.timestamp_ms is None else letter.timestamp_ms


def _build_still_invalid(fault: Fault) -> StillInvalid:
    return StillInvalid(fault.message, fault.rules)


def value_of(value: bytes | None, writers: AvroWriters) -> dict[str, Any] | None:
    """Return the fields in a value, valid or not: JSON or Avro, framed or unframed. None if there are none.

    Raises `RegistryUnreachable` if an Avro value's schema cannot be looked up.
    """
    if not value:
        return None
    if not is_framed(value):
        return _decode_json(value)
    body = value[FRAME_BYTES:]
    found = _decode_json(body)
    return _decode_avro(value, body, writers) if found is None else found


def _decode_json(body: bytes) -> dict[str, Any] | None:
    try:
        names_in(body)  # raises for duplicate names: which of the two counts is not ours to choose
        found = msgspec.json.decode(body)
    except MALFORMED_JSON:
        return None
    return found if isinstance(found, dict) else None


def _decode_avro(value: bytes, body: bytes, writers: AvroWriters) -> dict[str, Any] | None:
    writer = _avro_writer(value, writers)
    found = None if writer is None or len(value) > MAX_VALUE_BYTES else writer.read(body)
    if found is None or isinstance(found, Fault):
        return None
    fields, left_bytes = found
    return fields if isinstance(fields, dict) and not left_bytes else None


def _avro_writer(value: bytes, writers: AvroWriters) -> AvroWriter | None:
    """Return the Avro schema that a framed value names, or None if there is no readable one."""
    try:
        return writers.find(decode_schema_id(value))
    except (ValueError, SchemaUnknown):
        return None
