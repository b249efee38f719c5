"""The rules of a record, and which of them an invalid record breaks.

msgspec checks types, lengths, patterns and ranges while it decodes, and stops at the first error. Values that it
refuses are checked again (`refusals`), so that every broken rule is named. Rules that msgspec does not have, on dates,
on characters and on the number of fields, are in `checks`; those of single types in `value_rules`.
"""

from datetime import datetime
from functools import cache
from typing import Any

import msgspec

from penstock.contract.checks import (
    build_date_check,
    build_form_check,
    build_text_check,
    build_value_check,
    has_forms_of_keys_only,
)
from penstock.contract.composites import prepare_record
from penstock.contract.fields import fields
from penstock.contract.kinds import Convert
from penstock.contract.record import Record
from penstock.contract.refusals import explain_refusal, find_violations
from penstock.contract.value_rules import FUTURE_SLACK, latest_past
from penstock.contract.violation import Violation

__all__ = [
    "FUTURE_SLACK",
    "MAX_FIELDS",
    "MAX_VALUES",
    "MAX_VALUE_BYTES",
    "add_forms",
    "build_date_check",
    "build_form_check",
    "build_text_check",
    "build_value_check",
    "explain_refusal",
    "find_violations",
    "has_forms_of_keys_only",
    "latest_past",
    "validate_record",
]

MAX_VALUE_BYTES = 1_000_000
"""Maximum size of a stored value: a record of a table, not a file."""
MAX_FIELDS = 1000
"""Maximum number of fields in a JSON object, known or not."""
MAX_VALUES = 100_000
"""Maximum number of values in an Avro record, known or not: its fields and the items of its arrays, at every level."""


def validate_record(value: Any, record: type[Record], latest: datetime) -> Record | list[Violation]:
    """Return the record converted from the decoded JSON or Avro value, or every rule that it breaks.

    `latest` is `latest_past()`.
    """
    prepare = build_preparation(record)
    try:
        converted = msgspec.convert(value if prepare is None else prepare(value), record)
    except msgspec.ValidationError as error:
        return explain_refusal(value, record, error)
    broken = build_value_check(record)(converted, latest) + build_text_check(record)(converted)
    check = build_form_check(record)
    if check is not None and isinstance(value, dict):
        broken = add_forms(broken, check(value))
    return broken or converted


@cache
def build_preparation(record: type[Record]) -> Convert | None:
    """Return the function that makes values of nested records and `Json` what msgspec converts; None without them."""
    members = fields(record)
    return prepare_record(record, members) if any(member.kind.prepare for member in members) else None


def add_forms(broken: list[Violation], forms: list[Violation]) -> list[Violation]:
    """Return broken rules with those on how values are written, instead of what else these values break."""
    if not forms:
        return broken
    names = {violation.field for violation in forms}
    return [violation for violation in broken if violation.field not in names] + forms
