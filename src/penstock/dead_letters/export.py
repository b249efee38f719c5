"""A dead letter as plain data, and as a line of an export."""

import base64
from typing import Any

from penstock.codec.avro import AvroReaders
from penstock.codec.values import read_entry_fields, read_fields
from penstock.contract.fault import Stage
from penstock.contract.json_numbers import encode_json
from penstock.dead_letters.message import DeadLetter
from penstock.dead_letters.resolutions import Resolution, describe_resolution, state_of
from penstock.pipelines import Pipeline


def facts(letter: DeadLetter, lines: dict[str, Resolution]) -> dict[str, Any]:
    """Return everything known of a dead letter except its content."""
    origin, line = letter.origin, lines.get(letter.identity)
    return {
        "place": letter.place,
        "identity": letter.identity,
        "state": state_of(letter.identity, lines),
        "settled": None if line is None else describe_resolution(line),
        "reason": letter.reason,
        "rules": letter.rules,
        "stage": letter.stage,
        "message": letter.message,
        "time": letter.time,
        "topic": origin.topic,
        "partition": origin.partition,
        "offset": origin.offset,
        "schema_id": letter.schema_id,
        "run": letter.run,
        "version": letter.version,
        "value_bytes": letter.value_bytes,
        "left_out": letter.left_out.parts if letter.left_out else None,
        "value_sha256": letter.left_out.value_sha256 if letter.left_out else None,
    }


def read_letter_fields(letter: DeadLetter, readers: AvroReaders, pipeline: Pipeline) -> dict[str, Any] | None:
    """Return the fields in a dead letter's value, of a record or of an API's entry. None if there are none.

    Raises `RegistryUnreachable` if an Avro value's schema cannot be looked up.
    """
    if letter.stage == Stage.PRODUCE:
        return read_entry_fields(letter.value, pipeline.number_reader)
    return read_fields(letter.value, readers, pipeline.record)


def content(letter: DeadLetter, fields: dict[str, Any] | None) -> dict[str, Any]:
    """Return key, headers and value for machines: as text where they are valid UTF-8, and always as Base64."""
    headers = [{"name": name, "value": utf8(value), "base64": _encode_base64(value)} for name, value in letter.headers]
    return {
        "key": utf8(letter.key),
        "key_base64": _encode_base64(letter.key),
        "headers": headers,
        "value": fields,
        "value_base64": _encode_base64(letter.value),
    }


def line(letter: DeadLetter, lines: dict[str, Resolution], value: dict[str, Any] | None) -> bytes:
    """Return a dead letter as a line of JSON, including personal data. `dead_letters.repair.edits` parses it."""
    return encode_json(facts(letter, lines) | content(letter, value)) + b"\n"


def utf8(data: bytes | None) -> str | None:
    """Return the bytes decoded as UTF-8, or None if they are invalid or None."""
    try:
        return None if data is None else data.decode()
    except UnicodeDecodeError:
        return None


def _encode_base64(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()
