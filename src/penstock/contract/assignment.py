"""Set values within a record, by the paths that violations have: `address.city`, `items[3].price`, `labels["a b"]`."""

import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import reduce
from typing import Any

import msgspec

from penstock.contract.aliases import set_fields
from penstock.contract.composites import JSON
from penstock.contract.fields import Field, fields
from penstock.contract.kinds import Form
from penstock.contract.record import Record
from penstock.contract.violation import Rule, Violation, format_place

Path = tuple[str | int, ...]
"""The name of a field, then members of records and keys of dicts as texts, and places of items as numbers."""

_STEP = re.compile(r'\.(\w+)|\[(\d{1,9})\]|\[("(?:[^"\\]|\\.)*")\]')
_PATH = re.compile(rf"\w+(?:{_STEP.pattern})*")
_decode_json = msgspec.json.Decoder(float_hook=Decimal).decode


def split_assignment(text: str) -> tuple[str, str | None]:
    """Return the path and the value of a text like `items[3].price=1.20`, None if it has no value."""
    path = _PATH.match(text)
    end = path.end() if path and text[path.end() : path.end() + 1] in ("", "=") else len(text.partition("=")[0])
    return text[:end], text[end + 1 :] if text[end : end + 1] == "=" else None


def parse_path(text: str) -> Path:
    """Return a path. Raises `ValueError`."""
    if _PATH.fullmatch(text) is None:
        raise ValueError(f'invalid path {text!r}: expected e.g. address.city, items[3].price or labels["a b"]')
    name = re.match(r"\w+", text)
    assert name is not None
    steps = _STEP.findall(text, name.end())
    return (name[0], *(member or (int(at) if at else json.loads(key)) for member, at, key in steps))


def find_field(path: Path, record: type[Record]) -> Field:
    """Return what is declared at a path. Raises `ValueError` that names the nearest part that exists."""
    known = {field.name: field for field in fields(record)}
    if path[0] not in known:
        raise ValueError(f"unknown field {path[0]!r}: expected {', '.join(known)}")
    parts = enumerate(path[1:], 1)
    return reduce(lambda field, part: _find_inside(field, part[1], path[: part[0]]), parts, known[str(path[0])])


def _find_inside(field: Field, step: str | int, place: Path) -> Field:
    shape, at = field.shape, format_path(place)
    if shape is None or shape.form is Form.SET:
        raise ValueError(f"nothing can be set within {at}: set {at} as a whole")
    is_place = isinstance(step, int)
    if is_place != (shape.form in (Form.LIST, Form.TUPLE)):
        raise ValueError(f"{at} has {'names' if is_place else 'places'}: expected {_format_example(field, at)}")
    if shape.form in (Form.LIST, Form.MAP):
        return shape.items[0]
    members = dict(enumerate(shape.items)) if is_place else {item.name: item for item in shape.items}
    if step not in members:
        raise ValueError(f"{at} has no {step!r}: expected {', '.join(map(str, members))}")
    return members[step]  # type: ignore[index]


def _format_example(field: Field, at: str) -> str:
    assert field.shape is not None
    if field.shape.form is Form.RECORD:
        return f"{at}.{field.shape.items[0].name}"
    return f'{at}["name"]' if field.shape.form is Form.MAP else f"{at}[0]"


def read_value(text: str, field: Field) -> Any:
    """Return the value of a field in a text: of composite ones and `Json`, as JSON. Raises `msgspec.DecodeError`."""
    if field.shape is not None or field.kind is JSON:
        return _decode_json(text)
    return msgspec.convert(text, field.hint, strict=False)


def set_values(
    values: Mapping[str, Any], changes: Mapping[str, Any], record: type[Record]
) -> dict[str, Any] | list[Violation]:
    """Return a message's values with those at some paths set, or why they have no such place.

    A member is added to an object that lacks it, and an item after the last of an array.
    """
    paths = {parse_path(text): value for text, value in changes.items()}
    result = set_fields(values, {str(path[0]): value for path, value in paths.items() if len(path) == 1}, record)
    violations = []
    for path, value in paths.items():
        if len(path) > 1:
            name = _find_name(path, result, record)
            try:
                result[name] = _set_within(result.get(name), path[1:], value, path[:1])
            except _NoPlace as error:
                violations.append(Violation(format_path(error.place), Rule.TYPE, error.why))
    return violations or result


def _find_name(path: Path, values: Mapping[str, Any], record: type[Record]) -> str:
    """Return the name under which a message has a field: its own, or a former one."""
    field = find_field(path[:1], record)
    return next((name for name in (field.name, *field.aliases) if name in values), field.name)


class _NoPlace(Exception):
    """A value has no place of that name."""

    def __init__(self, place: Path, why: str) -> None:
        super().__init__(why)
        self.place, self.why = place, why


def _set_within(container: Any, steps: Sequence[str | int], value: Any, place: Path) -> Any:
    """Return a copy of a container with the value at the steps into it set."""
    if not steps:
        return value
    step, inside = steps[0], (*place, steps[0])
    if isinstance(step, str):
        if not isinstance(container, dict):
            raise _NoPlace(place, "is not an object: set it as a whole")
        return container | {step: _set_within(container.get(step), steps[1:], value, inside)}
    if not isinstance(container, list | tuple):
        raise _NoPlace(place, "is not an array: set it as a whole")
    if step > len(container):
        raise _NoPlace(place, f"has {len(container)} items: the next one is {format_path((*place, len(container)))}")
    items = [*container, *([None] if step == len(container) else [])]
    items[step] = _set_within(items[step], steps[1:], value, inside)
    return items


def format_path(path: Path) -> str:
    """Return the text of a path, which `parse_path` reads."""
    steps = (f".{step}" if isinstance(step, str) and step.isidentifier() else format_place(step) for step in path[1:])
    return f"{path[0]}{''.join(steps)}"
