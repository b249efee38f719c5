"""A hand-written message: started from a template of the contract, validated as the stream does, delivered."""

import json
import re
import typing
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import jsonschema
import msgspec
import referencing
from confluent_kafka import KafkaError, Message

from penstock import remedies
from penstock.broker.admin import check_ours
from penstock.broker.kafka import produce_record, producer
from penstock.broker.registry import Registry, Schemas
from penstock.broker.topics import Place
from penstock.codec.encode import encode_avro, serializer
from penstock.codec.records import Decoder
from penstock.codec.wire_format import is_framed, pack
from penstock.config import Settings
from penstock.contract.fault import Fault, Reason
from penstock.contract.fields import BOOLEAN, INT, TEXT, TIMESTAMP, UUID, Field, fields, key_writer
from penstock.contract.record import Record
from penstock.contract.schemas import json_schema
from penstock.errors import DeliveryFailed, UsageError
from penstock.pipelines import Pipeline

TIMEOUT_S = 10.0
_FIRST_WORD = re.compile(r"\^\((\w+)\|")
_MESSAGES, _MESSAGE_CHARACTERS = 20, 300
_TEXTS = ("example", "Example Street 1", "someone@example.org", "https://example.org/1", "DE", "A", "1", "00000")


def template(record: type[Record]) -> str:
    """Return an example record as JSON text that follows the contract's rules; '' for fields without an example."""
    hints = typing.get_type_hints(record, include_extras=True)
    rules = json_schema(record)["properties"]
    made = {one.name: _build_example(one, hints[one.column], rules[one.name]) for one in fields(record)}
    return json.dumps(made, indent=2, ensure_ascii=False)


def _build_example(one: Field, hint: Any, rules: dict[str, Any]) -> Any:
    if one.nullable:
        return None
    for candidate in _iter_candidates(one, rules):
        try:
            msgspec.convert(candidate, hint)
        except msgspec.ValidationError:
            continue
        return candidate
    return ""


def _iter_candidates(one: Field, rules: dict[str, Any]) -> Iterator[Any]:
    if one.kind is UUID:
        yield str(uuid.uuid4())
    elif one.kind is TIMESTAMP:
        yield (datetime.now(UTC) - timedelta(days=1)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    elif one.kind is BOOLEAN:
        yield False
    elif one.kind is TEXT:
        if word := _FIRST_WORD.match(rules.get("pattern", "")):
            yield word[1]
        yield from _TEXTS
        yield "x" * rules.get("minLength", 1)
    else:
        numbers = (1, 0, rules.get("minimum", 0), rules.get("maximum", 0))
        yield from numbers if one.kind is INT else (number for number in numbers if number is not None)


def checked(pipeline: Pipeline, schemas: Schemas, text: str) -> Record | Fault:
    """Return the record in the text, or the fault for which the stream would dead-letter it."""
    value = text.encode()
    if is_framed(value):
        return Fault(Reason.JSON_MALFORMED, "a text that begins with a zero character is no JSON")
    return Decoder(pipeline.record, schemas).decode(value)


def framed(schema_id: int, kind: str, schema: str, text: str) -> bytes:
    """Encode the JSON text as a framed value of the registered schema with this id, as Avro if the schema is Avro.

    Raises `UsageError` naming each rule of the schema that the text breaks, one per line.
    """
    try:
        value, known = msgspec.json.decode(text), json.loads(schema)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"it is no JSON: {error}") from None
    if kind == "JSON":
        if broken := _find_violations(known, value):
            raise UsageError("\n".join(broken))
        return pack(schema_id) + text.encode()
    if kind != "AVRO":
        raise UsageError(f"a schema of kind {kind} cannot be checked here: send it as typed")
    try:
        return encode_avro(known, schema_id, value)
    except ValueError as error:
        raise UsageError(f"it is no record of Avro schema {schema_id}: {error}") from None


def _find_violations(schema: Any, value: Any) -> list[str]:
    """Return the rules of a JSON Schema that `value` breaks. External references are not fetched.

    Raises `UsageError` if the schema cannot be used for validation.
    """
    try:
        validator = jsonschema.validators.validator_for(schema)(schema, registry=referencing.Registry())
        errors = list(islice(validator.iter_errors(value), _MESSAGES))
    except Exception as error:  # somebody else's schema: unknown types, unresolvable or circular references
        raise UsageError(f"the schema cannot be checked with: {type(error).__name__}") from error
    return [f"{error.json_path}: {error.message[:_MESSAGE_CHARACTERS]}" for error in errors]


def packed(settings: Settings, pipeline: Pipeline, registry: Registry, one: Record) -> tuple[bytes, bytes]:
    """Return key and value of a record as the producer writes them. Raises `SchemaRefused`, `RegistryUnreachable`."""
    schema_id = registry.register(pipeline.subject, pipeline.record, settings.wire_format)
    return key_writer(pipeline.record)(one), serializer(pipeline.record, settings.wire_format, schema_id)(one)


def deliver(settings: Settings, topic: str, key: bytes | None, value: bytes | None) -> Place:
    """Send a message, wait for Kafka's acknowledgement and return its position.

    Raises `UsageError` for an internal topic of a service, `DeliveryFailed`.
    """
    check_ours(topic)
    reports: list[tuple[KafkaError | None, Message]] = []
    client = producer(settings.model_copy(update={"kafka_timeout_s": TIMEOUT_S}))
    produce_record(client, topic, key, value, [], lambda error, message: reports.append((error, message)))
    client.flush(2 * TIMEOUT_S)
    if not reports:
        raise DeliveryFailed(
            f"{topic}: no acknowledgement within {2 * TIMEOUT_S:g} s", hint=remedies.show_status("kafka")
        )
    error, message = reports[0]
    if error is not None:
        raise DeliveryFailed(f"{topic}: {error.name()}: {error.str()}", hint=remedies.show_status("kafka"))
    return Place(message.partition(), message.offset())
