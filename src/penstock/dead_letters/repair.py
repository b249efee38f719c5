"""Repair the record in a dead letter to satisfy the contract, or say why it would be dead-lettered again.

Pure, except for looking up unknown schema ids.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from penstock import remedies
from penstock.broker import headers
from penstock.broker.registry import Schemas
from penstock.codec.avro import AvroReaders
from penstock.codec.encode import Serialize
from penstock.codec.records import Decoder
from penstock.codec.values import read_fields
from penstock.contract.aliases import find_doubled_names, rename_fields
from penstock.contract.assignment import find_field, parse_path, read_value, set_values, split_assignment
from penstock.contract.fault import Fault, Stage
from penstock.contract.fields import to_epoch_ms
from penstock.contract.identity import identity_of
from penstock.contract.isolation import NOT_OF_A_RECORD
from penstock.contract.json_numbers import ReadNumber, to_decimals
from penstock.contract.order_by import Source
from penstock.contract.proofs import Proven
from penstock.contract.record import Record
from penstock.contract.rules import MAX_VALUE_BYTES, build_form_check, latest_past, validate_record
from penstock.dead_letters.export import read_letter_fields
from penstock.dead_letters.message import DeadLetter
from penstock.dead_letters.topic import POSITION
from penstock.errors import UsageError
from penstock.pipelines import Pipeline
from penstock.pipelines.mapping import Mapper


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
            raise UsageError("either fields are set, or an edit file is given", hint=remedies.explain_redrive())


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
    """Parse texts like `email=a@b.se` or `items[3].price=1.20` into values by path, each of its type there.

    Raises `UsageError`.
    """
    check_form = build_form_check(record)
    values: dict[str, Any] = {}
    for text in texts:
        name, value = split_assignment(text)
        try:
            field = find_field(parse_path(name), record)
            if value is None:
                raise UsageError(f"no value for {name}", hint=remedies.assign_field(name))
            values[name] = read_value(value, field)
        except msgspec.DecodeError as error:  # also of a value of another type
            raise UsageError(f"{name}: {error}", hint=remedies.explain_redrive()) from None
        except ValueError as error:
            raise UsageError(str(error), hint=remedies.assign_field()) from None
        is_whole_field = field.name == name
        if check_form and is_whole_field and values[name] is not None and (wrong := check_form({name: value})):
            raise UsageError(str(wrong[0]), hint=remedies.explain_redrive())
    return values


class _ExportedLine(msgspec.Struct):
    place: Annotated[str, Meta(pattern=POSITION.pattern)]
    identity: str
    value: Any


def edits(lines: Iterable[bytes], read_number: ReadNumber | None = None) -> dict[str, Edit]:
    """Parse JSON lines, as `dlq export` writes them, into edits by place. Raises `UsageError`, naming the line.

    `read_number` is that of the pipeline's source.
    """
    decode = msgspec.json.Decoder(_ExportedLine, float_hook=read_number).decode
    edits_by_place: dict[str, Edit] = {}
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            line = decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UsageError(f"line {number} of the edit file: {error}", hint=remedies.export_dead_letters()) from None
        if line.place in edits_by_place:
            earlier = edits_by_place[line.place].line
            raise UsageError(f"line {number} of the edit file: {line.place} is also on line {earlier}")
        edits_by_place[line.place] = Edit(number, line.place, line.identity, line.value)
    return edits_by_place


class Repairer:
    """Repairs dead letters of one pipeline. `proven` returns the currently proven key formats of the topic."""

    def __init__(
        self,
        pipeline: Pipeline,
        schemas: Schemas,
        repair: Repair,
        serialize: Serialize,
        proven: Callable[[], Proven],
    ) -> None:
        self._pipeline = pipeline
        self._mapper = Mapper(pipeline, serialize)
        self._readers = AvroReaders(schemas)
        self._repair = repair
        self._serialize = serialize
        self._proven = proven
        self._decoder = Decoder(pipeline.record, schemas, pipeline.key_format)
        self._order_by = pipeline.declared_order
        self._identity = identity_of(pipeline.record)

    def outgoing(self, letter: DeadLetter) -> Outgoing | StillInvalid:
        """Return the message to send for `letter`: its own bytes if nothing changes, or those of the repaired record.

        An API entry that the producer dead-lettered is always mapped to a record first. Raises `RegistryUnreachable`.
        """
        try:
            return self._prepare_message(letter)
        except NOT_OF_A_RECORD:
            raise
        except Exception as error:  # noqa: BLE001  the types of a pipeline's file run here and may raise anything
            return _build_still_invalid(Fault.of_exception(error))

    def _prepare_message(self, letter: DeadLetter) -> Outgoing | StillInvalid:
        repair = self._repair
        if letter.left_out is not None and letter.place not in (repair.edits or {}):
            return StillInvalid(_left_out(letter), letter.rules)
        is_entry = letter.stage == Stage.PRODUCE
        if not repair.fields and repair.edits is None and not is_entry:
            return self._check_unchanged(letter)
        values = self._read_fields(letter)
        if isinstance(values, StillInvalid):
            return values
        outgoing = self._map_entry(values) if is_entry else self._repair_record(letter, to_decimals(values))
        return _build_still_invalid(outgoing) if isinstance(outgoing, Fault) else outgoing

    def _check_unchanged(self, letter: DeadLetter) -> Outgoing | StillInvalid:
        is_tombstone = letter.value is None
        decoded = self._decode_tombstone(letter.key) if is_tombstone else self._decoder.decode(letter.value)
        if isinstance(decoded, Fault):
            return _build_still_invalid(decoded)
        order_us = self._find_tombstone_timestamp(letter) if is_tombstone else self._find_write_timestamp(decoded)
        if isinstance(order_us, Fault):
            return _build_still_invalid(order_us)
        record_id = decoded if is_tombstone else self._id_of(decoded)
        return Outgoing(letter.key, letter.value, record_id, order_us=order_us)

    def _find_write_timestamp(self, record: Record) -> int | Fault | None:
        """Return the write timestamp given by the record's field, its fault, or None if no field orders the table."""
        by = self._order_by
        return by.compute_field_timestamp(record, latest_past()) if by and by.field else None

    def _find_tombstone_timestamp(self, letter: DeadLetter) -> int | Fault | None:
        by = self._order_by
        if by is None or by.field is None:
            return None
        header = headers.read_order(letter.headers)
        source = Source(timestamp_of(letter), letter.origin.offset, header)
        return by.compute_tombstone_timestamp(letter.key, letter.headers, source, latest_past())

    def _id_of(self, record: Record) -> Any:
        return self._identity.of(record)

    def _decode_tombstone(self, key: bytes | None) -> Any | Fault:
        return self._decoder.deleted(key, self._proven())

    def _read_fields(self, letter: DeadLetter) -> dict[str, Any] | StillInvalid:
        edit = (self._repair.edits or {}).get(letter.place)
        values = read_letter_fields(letter, self._readers, self._pipeline) if edit is None else edit.value
        if isinstance(values, dict):
            return values
        why = f"the value is not an object whose fields can be set: {letter.message}"
        return StillInvalid(why if edit is None else f"line {edit.line}: the value is not an object", letter.rules)

    def _map_entry(self, entry: dict[str, Any]) -> Outgoing | Fault:
        message = self._mapper.outgoing(entry, self._repair.fields)
        return message if isinstance(message, Fault) else Outgoing(*message)

    def _repair_record(self, letter: DeadLetter, values: dict[str, Any]) -> Outgoing | Fault:
        changed = set_values(values, self._repair.fields, self._pipeline.record)
        if isinstance(changed, list):
            return Fault.of(changed)
        values = changed
        if doubled := find_doubled_names(values, self._pipeline.record):
            return Fault.of(doubled)
        record = validate_record(rename_fields(values, self._pipeline.record), self._pipeline.record, latest_past())
        if isinstance(record, list):
            return Fault.of(record)
        order_us = self._find_write_timestamp(record)
        if isinstance(order_us, Fault):
            return order_us
        value = self._serialize(record)
        if len(value) > MAX_VALUE_BYTES:
            return Fault.too_large(len(value))
        keeps_id = self._keeps_id(letter, record)
        key = letter.key if keeps_id and letter.key is not None else self._identity.key_of(record)
        return Outgoing(key, value, self._id_of(record), keeps_id, order_us)

    def _keeps_id(self, letter: DeadLetter, record: Record) -> bool:
        """Return whether a repaired record has the original's id, as far as the original's key or value shows it."""
        record_id = self._id_of(record)
        if letter.key in (None, self._identity.key_of(record)) or self._decoder.deleted(letter.key, None) == record_id:
            return True
        before = read_fields(letter.value, self._readers, self._pipeline.record) or {}
        before = rename_fields(before, self._pipeline.record)
        try:
            return bool(
                self._identity.of_members({name: before.get(name) for name in self._identity.names}) == record_id
            )
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
