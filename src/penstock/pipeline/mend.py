"""Mending: the record in a dead letter, changed so that it keeps the contract; or why it would be set aside again.

Pure but for the look-up of a schema id that was not seen before.
"""

import typing
from collections.abc import Iterable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Annotated, Any, NamedTuple

import fastavro
import msgspec
from msgspec import Meta

from penstock.broker.dlq import PLACE, Letter
from penstock.broker.frame import FRAME_BYTES, is_framed, unpack
from penstock.broker.registry import Schemas
from penstock.contract.fields import fields, key_writer
from penstock.contract.record import Record
from penstock.contract.reject import Fault, Stage
from penstock.contract.rules import MAX_VALUE_BYTES, judge, latest_past
from penstock.errors import SchemaUnknown, WrongUse
from penstock.pipeline.mapping import Mapper
from penstock.pipelines import Pipeline
from penstock.process import writer
from penstock.process.decode import MALFORMED_JSON, Decoder, names_in
from penstock.produce.serialize import Serialize


class Edit(NamedTuple):
    """A line of an edit file."""

    line: int
    place: str
    identity: str
    value: Any


@dataclass(frozen=True)
class Mending:
    """What is changed: fields, the same in each record, or the whole value of some, by place; not both."""

    fields: dict[str, Any] = field(default_factory=dict)
    edits: dict[str, Edit] | None = None

    def __post_init__(self) -> None:
        if self.fields and self.edits is not None:
            raise WrongUse("either fields are set, or an edit file is given", hint="./penstock dlq redrive --help")


class Outgoing(NamedTuple):
    """What is sent."""

    key: bytes | None
    value: bytes | None


class StillBroken(NamedTuple):
    """Why a record would be set aside again."""

    message: str
    rules: tuple[str, ...] = ()


def assignments(record: type[Record], texts: Iterable[str]) -> dict[str, Any]:
    """The values by field of texts like `email=a@b.se`, each of its field's type. Raises `WrongUse`."""
    hints = typing.get_type_hints(record, include_extras=True)
    known = [one.name for one in fields(record)]
    found: dict[str, Any] = {}
    for text in texts:
        name, is_there, value = text.partition("=")
        if name not in known:
            raise WrongUse(f"there is no field {name!r}; fields: {', '.join(known)}", hint="--set FIELD=VALUE")
        if not is_there:
            raise WrongUse(f"{name} is set to nothing", hint=f"--set {name}=VALUE")
        try:
            found[name] = msgspec.convert(value, hints[name], strict=False)
        except msgspec.ValidationError as error:
            raise WrongUse(f"{name}: {error}", hint="./penstock dlq redrive --help") from None
    return found


class _Line(msgspec.Struct):
    place: Annotated[str, Meta(pattern=PLACE.pattern)]
    identity: str
    value: Any


def edits(lines: Iterable[bytes]) -> dict[str, Edit]:
    """The edits by place that JSON lines hold, as `dlq export` writes them. Raises `WrongUse`, naming the line."""
    found: dict[str, Edit] = {}
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            line = msgspec.json.decode(text, type=_Line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise WrongUse(f"line {number} of the edit file: {error}", hint="./penstock dlq export FILE") from None
        if line.place in found:
            raise WrongUse(f"line {number} of the edit file: {line.place} stands on line {found[line.place].line} too")
        found[line.place] = Edit(number, line.place, line.identity, line.value)
    return found


class Mender:
    """Makes what is sent of letters of one pipeline."""

    def __init__(self, pipeline: Pipeline, schemas: Schemas, mending: Mending, serialize: Serialize) -> None:
        self._pipeline = pipeline
        self._mapper = Mapper(pipeline, serialize)
        self._schemas = schemas
        self._mending = mending
        self._serialize = serialize
        self._decoder = Decoder(pipeline.record, schemas)
        self._key = key_writer(pipeline.record)

    def outgoing(self, letter: Letter) -> Outgoing | StillBroken:
        """What is sent for `letter`: its own bytes when nothing is changed, or the bytes of the mended record.

        An entry of the API, which the producer refused, is always made a record first. Raises `RegistryUnreachable`.
        """
        mending = self._mending
        is_entry = letter.stage == Stage.PRODUCE
        if not mending.fields and mending.edits is None and not is_entry:
            return self._unchanged(letter)
        found = self._fields(letter)
        if isinstance(found, StillBroken):
            return found
        made = self._mapper.outgoing(found, mending.fields) if is_entry else self._made(found)
        return _still(made) if isinstance(made, Fault) else Outgoing(*made)

    def _unchanged(self, letter: Letter) -> Outgoing | StillBroken:
        is_tombstone = letter.value is None
        judged = self._decoder.deleted(letter.key) if is_tombstone else self._decoder.decode(letter.value)
        return _still(judged) if isinstance(judged, Fault) else Outgoing(letter.key, letter.value)

    def _fields(self, letter: Letter) -> dict[str, Any] | StillBroken:
        edit = (self._mending.edits or {}).get(letter.place)
        found = value_of(letter.value, self._schemas) if edit is None else edit.value
        if isinstance(found, dict):
            return found
        why = f"the value is no object whose fields could be set: {letter.message}"
        return StillBroken(why if edit is None else f"line {edit.line} holds no object as value", letter.rules)

    def _made(self, found: dict[str, Any]) -> tuple[bytes, bytes] | Fault:
        judged = judge(found | self._mending.fields, self._pipeline.record, latest_past())
        if isinstance(judged, list):
            return Fault.of(judged)
        value = self._serialize(judged)
        return Fault.too_large(len(value)) if len(value) > MAX_VALUE_BYTES else (self._key(judged), value)


def _still(fault: Fault) -> StillBroken:
    return StillBroken(fault.message, fault.rules)


def value_of(value: bytes | None, schemas: Schemas) -> dict[str, Any] | None:
    """The fields in a value, whatever rules they break: JSON or Avro, with a frame or without; None: there are none.

    Raises `RegistryUnreachable` when an Avro value's schema cannot be looked up.
    """
    if not value:
        return None
    if not is_framed(value):
        return _json(value)
    body = value[FRAME_BYTES:]
    found = _json(body)
    return _avro(value, body, schemas) if found is None else found


def _json(body: bytes) -> dict[str, Any] | None:
    try:
        names_in(body)  # which of two of one name counts is not ours to choose
        found = msgspec.json.decode(body)
    except MALFORMED_JSON:
        return None
    return found if isinstance(found, dict) else None


def _avro(value: bytes, body: bytes, schemas: Schemas) -> dict[str, Any] | None:
    schema = _avro_writer(value, schemas)
    if schema is None:
        return None
    stream = BytesIO(body)
    try:
        found = fastavro.schemaless_reader(stream, schema, None)
    except Exception:  # noqa: BLE001  bytes that are no Avro raise whatever they meet: EOFError, IndexError, ...
        return None
    return found if isinstance(found, dict) and not stream.read(1) else None


def _avro_writer(value: bytes, schemas: Schemas) -> Any:
    """The parsed Avro schema that a framed value names; None when it names none that can be read."""
    try:
        schema_id = unpack(value)
        found = schemas.writer(schema_id)
        return writer.parsed(found.schema, schema_id) if found.wire_format == "avro" else None
    except (ValueError, SchemaUnknown):
        return None
