"""Reasons and rules in plain words, for the operator who reads a dead letter."""

from dataclasses import dataclass
from typing import Any

from penstock.contract.fault import Reason
from penstock.contract.fields import fields
from penstock.contract.record import Record
from penstock.contract.rules import MAX_FIELDS, MAX_VALUE_BYTES, MAX_VALUES
from penstock.contract.schemas import json_schema
from penstock.contract.value_rules import describe_symbols
from penstock.contract.violation import Rule

REASONS = {
    Reason.VALUE_MISSING: "The value is empty; or it is null, and the key is not an id whose row could be deleted.",
    Reason.KEY_AMBIGUOUS: "The value is null, and no earlier record shows that a key like this is the id of a row: "
    "set key_format in the pipeline's file.",
    Reason.ORDER_UNKNOWN: "The pipeline orders records by Kafka's timestamp or a field; this record has none, or "
    "one in the future.",
    Reason.FRAME_BROKEN: "Truncated schema-registry header.",
    Reason.SCHEMA_UNKNOWN: "The registry does not have the schema with the value's schema id, or it cannot be used.",
    Reason.JSON_MALFORMED: "Invalid JSON, or a duplicate field name.",
    Reason.AVRO_MALFORMED: "The bytes do not match the Avro schema with the value's schema id.",
    Reason.CONTRACT_BROKEN: "The record is readable, but breaks rules of the contract.",
    Reason.MAPPING_FAILED: "The pipeline's from_source raised an exception for the API's entry, or returned no record.",
    Reason.TRANSFORM_FAILED: "The pipeline's row-wise transform raised an exception for this record alone, twice.",
    Reason.VALUE_TOO_LARGE: f"The value has more than {MAX_VALUE_BYTES:,} bytes.",
    Reason.PROCESSING_ERROR: "An exception was raised while this record was validated or encoded.",
}
_RULES = {
    Rule.REQUIRED: "is required, but missing or null",
    Rule.TYPE: "has the wrong type",
    Rule.LENGTH: "is too short or too long",
    Rule.PATTERN: "does not match the required pattern",
    Rule.CHARACTER: "contains a NUL character",
    Rule.RANGE: "is too small or too large, or has too many decimals",
    Rule.FORMAT: "is not written as its type requires",
    Rule.DATE: "is in the future, or outside the years 1 to 9999",
    Rule.ENUM: "is not one of the allowed texts",
    Rule.NAME: "occurs twice, under its name and a former one",
    Rule.SIZE: f"has more than {MAX_VALUE_BYTES:,} bytes, or {MAX_FIELDS:,} fields (Avro: {MAX_VALUES:,} values)",
}
_TYPES = {"string": "text", "integer": "a whole number", "number": "a number", "boolean": "true or false"}
_FORMATS = {
    "uuid": "a UUID",
    "date-time": "a date and time with a zone, as in 2024-05-01T12:00:00Z",
    "date": "a date, as in 2024-05-01",
    "partial-time": "a time without a zone, as in 12:00:00.5",
    "duration": "an ISO 8601 duration of days, hours, minutes and seconds, as in P1DT12H",
    "decimal": "a number",
}


@dataclass(frozen=True)
class BrokenRule:
    """A broken rule: what is wrong, and what the contract requires of the field; both empty if unknown."""

    code: str
    field: str
    """Empty for the record as a whole."""
    wrong: str
    demand: str
    description: str


def reason(code: str) -> str:
    """Return the meaning of a reason code; empty for an unknown code."""
    return REASONS.get(Reason(code), "") if code in set(Reason) else ""


def broken(code: str, record: type[Record]) -> BrokenRule:
    """Return the meaning of a broken rule's code, e.g. `email:pattern`, for `record`."""
    name, _, rule = code.rpartition(":")
    wrong = _RULES[Rule(rule)] if rule in set(Rule) else ""
    described = next((field.description for field in fields(record) if field.name == name), "")
    return BrokenRule(code, name, wrong, demand(record, name), described)


def demand(record: type[Record], name: str) -> str:
    """Return what the contract requires of a field: `text of 1 to 500 characters`; empty if there is no such field."""
    if not name:
        return f"an object of at most {MAX_VALUE_BYTES:,} bytes and {MAX_FIELDS:,} fields"
    field = next((field for field in fields(record) if field.name == name), None)
    if field is None:
        return ""
    schema = json_schema(record)["properties"][name]
    kind = next(member for member in schema.get("anyOf", [schema]) if member.get("type") != "null")
    name_of_type = "Base64" if "contentEncoding" in kind else _TYPES.get(kind.get("type", ""), "")
    name_of_type = "" if "enum" in kind else name_of_type
    words = [_FORMATS.get(kind.get("format", ""), name_of_type), *_describe_limits(kind)]
    words += ["not in the future"] if field.past else []
    return " ".join(filter(None, words)) + (", or null" if field.nullable else "")


def _describe_limits(kind: dict[str, Any]) -> list[str]:
    shortest, longest = kind.get("minLength"), kind.get("maxLength")
    least, most = kind.get("minimum"), kind.get("maximum")
    found = []
    if longest is not None:
        found.append(f"of {f'{shortest:,} to' if shortest is not None else 'at most'} {longest:,} characters")
    elif shortest is not None:
        found.append(f"of at least {shortest:,} characters")
    if least is not None and most is not None:
        found.append(f"from {least:,} to {most:,}")
    if "enum" in kind:
        found.append(describe_symbols(tuple(kind["enum"])).removeprefix("expected "))
    if "x-scale" in kind:
        found.append(f"of at most {kind['x-precision']} digits, {kind['x-scale']} of them decimals")
    if "pattern" in kind:
        found.append(f"that matches {kind['pattern']}")
    return found
