"""Draft a message by hand: from a template of the contract, validated like the stream does, and delivered."""

import base64
import json
import re
import typing
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any

import jsonschema
import msgspec
import referencing
from confluent_kafka import KafkaError, Message

from penstock import remedies
from penstock.broker.admin import check_not_internal
from penstock.broker.kafka import create_producer, produce_record
from penstock.broker.registry import Registry, Schemas
from penstock.broker.topics import Position
from penstock.codec.encode import build_serializer, encode_avro
from penstock.codec.records import Decoder
from penstock.codec.wire_format import encode_header, is_framed
from penstock.config import Settings
from penstock.contract.fault import Fault, Reason
from penstock.contract.fields import (
    BOOLEAN,
    BYTES,
    DATE,
    DURATION,
    INT,
    TEXT,
    TIME,
    TIMESTAMP,
    UUID,
    Field,
    fields,
)
from penstock.contract.identity import identity_of
from penstock.contract.record import Record
from penstock.contract.schemas import json_schema
from penstock.errors import DeliveryFailed, UsageError
from penstock.pipelines import Pipeline

TIMEOUT_S = 10.0
_MAX_BYTES = 100
_FIRST_WORD = re.compile(r"\^\((\w+)\|")
_MESSAGES, _MESSAGE_CHARACTERS = 20, 300
_decode_json = msgspec.json.Decoder(float_hook=Decimal).decode
_TEXTS = ("example", "Example Street 1", "someone@example.org", "https://example.org/1", "DE", "A", "1", "00000")


def build_template(record: type[Record]) -> str:
    """Return an example record as JSON text that follows the contract's rules; '' for fields without an example."""
    hints = typing.get_type_hints(record, include_extras=True)
    rules = json_schema(record)["properties"]
    example = {field.name: _build_example(field, hints[field.column], rules[field.name]) for field in fields(record)}
    return json.dumps(example, indent=2, ensure_ascii=False)


def _build_example(field: Field, hint: Any, rules: dict[str, Any]) -> Any:
    if field.nullable:
        return None
    for candidate in _iter_candidates(field, rules):
        try:
            msgspec.convert(candidate, hint)
        except msgspec.ValidationError:
            continue
        return candidate
    return ""


def _iter_candidates(field: Field, rules: dict[str, Any]) -> Iterator[Any]:
    if field.kind is UUID:
        yield str(uuid.uuid4())
    elif field.kind is TIMESTAMP:
        yield (datetime.now(UTC) - timedelta(days=1)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    elif field.kind is DATE:
        yield (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
    elif field.kind is TIME:
        yield "12:00:00"
    elif field.kind is DURATION:
        yield "PT1H"
    elif field.kind is BYTES:
        yield from (base64.b64encode(bytes(size)).decode() for size in range(1, _MAX_BYTES))
    elif field.symbols:
        yield from field.symbols
    elif field.digits is not None:
        yield "0" if field.digits.scale == field.digits.precision else "1"
    elif field.kind is BOOLEAN:
        yield False
    elif field.kind is TEXT:
        if word := _FIRST_WORD.match(rules.get("pattern", "")):
            yield word[1]
        yield from _TEXTS
        yield "x" * rules.get("minLength", 1)
    else:
        numbers = (1, 0, rules.get("minimum", 0), rules.get("maximum", 0))
        yield from numbers if field.kind is INT else (number for number in numbers if number is not None)


def validate_text(pipeline: Pipeline, schemas: Schemas, text: str) -> Record | Fault:
    """Return the record in the text, or the fault for which the stream would dead-letter it."""
    value = text.encode()
    if is_framed(value):
        return Fault(Reason.JSON_MALFORMED, "not JSON: the text starts with a NUL character")
    return Decoder(pipeline.record, schemas).decode(value)


def encode_text(schema_id: int, kind: str, schema: str, text: str) -> bytes:
    """Encode the JSON text as a framed value of the registered schema with this id, as Avro if the schema is Avro.

    Raises `UsageError` naming each rule of the schema that the text breaks, one per line.
    """
    try:
        value, known = _decode_json(text), json.loads(schema)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"invalid JSON: {error}") from None
    if kind == "JSON":
        if violations := _find_violations(known, msgspec.json.decode(text)):
            raise UsageError("\n".join(violations))
        return encode_header(schema_id) + text.encode()
    if kind != "AVRO":
        raise UsageError(f"a schema of type {kind} cannot be used for validation: send the text as typed")
    try:
        return encode_avro(known, schema_id, value)
    except ValueError as error:
        raise UsageError(f"not a record of Avro schema {schema_id}: {error}") from None


def _find_violations(schema: Any, value: Any) -> list[str]:
    """Return the rules of a JSON Schema that `value` breaks. External references are not fetched.

    Raises `UsageError` if the schema cannot be used for validation.
    """
    try:
        validator = jsonschema.validators.validator_for(schema)(schema, registry=referencing.Registry())
        errors = list(islice(validator.iter_errors(value), _MESSAGES))
    except Exception as error:  # any schema may be registered: unknown types, unresolvable or circular references
        raise UsageError(f"the schema cannot be used for validation: {type(error).__name__}") from error
    return [f"{error.json_path}: {error.message[:_MESSAGE_CHARACTERS]}" for error in errors]


def encode_record(settings: Settings, pipeline: Pipeline, registry: Registry, record: Record) -> tuple[bytes, bytes]:
    """Return key and value of a record as the producer writes them. Raises `SchemaRefused`, `RegistryUnreachable`."""
    schema_id = registry.register(pipeline.subject, pipeline.record, settings.wire_format)
    return identity_of(pipeline.record).key_of(record), build_serializer(
        pipeline.record, settings.wire_format, schema_id
    )(record)


def deliver_message(settings: Settings, topic: str, key: bytes | None, value: bytes | None) -> Position:
    """Send a message, wait for Kafka's acknowledgement and return its position.

    Raises `UsageError` for an internal topic of a service, `DeliveryFailed`.
    """
    check_not_internal(topic)
    reports: list[tuple[KafkaError | None, Message]] = []
    client = create_producer(settings.model_copy(update={"kafka_timeout_s": TIMEOUT_S}))
    produce_record(client, topic, key, value, [], lambda error, message: reports.append((error, message)))
    client.flush(2 * TIMEOUT_S)
    if not reports:
        raise DeliveryFailed(
            f"{topic}: no acknowledgement within {2 * TIMEOUT_S:g} s", hint=remedies.show_status("kafka")
        )
    error, message = reports[0]
    if error is not None:
        raise DeliveryFailed(f"{topic}: {error.name()}: {error.str()}", hint=remedies.show_status("kafka"))
    return Position(message.partition(), message.offset())
