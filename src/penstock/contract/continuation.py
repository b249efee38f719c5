"""The JSON Schema to register after an earlier one, so that registries accept what older records allow.

A registry compares the text of two schemas (level BACKWARD) and refuses some changes under which each older record is
still valid. What it needs is added here; readers and producers are unaffected:

- A property that is gone stays, with the mark `x-removed`: the schema is closed, so without it older records would be
  invalid. If the field comes back, its type is compared with that property.
- Some registries (Apicurio 3.3) refuse null as a new value of a number, boolean, array or object, but accept a property
  that allows anything. The schema proper is then in the mark `x-type`.

Pure: schemas in, schema out. Avro needs none of this.
"""

from collections.abc import Callable
from typing import Any

from penstock.contract.field_schemas import ANY_FORM, REMOVED, coerce_mapping

Json = dict[str, Any]
_SHOWN = ("description", "x-key", "x-personal", "x-required", "x-alias-of")


def continue_schema(latest: Any, newer: Json) -> Json:
    """Return `newer` with the properties of `latest` that it lacks, and with those that allow anything in `latest`."""
    return _merge_schemas(latest, newer, _keep_form)


def allow_nulls(latest: Any, newer: Json) -> Json:
    """Return `continue_schema`, where each property that is newly null allows anything."""
    return _merge_schemas(latest, newer, _widen_form)


Adapt = Callable[[Any, Json], Json]


def _merge(latest: Any, newer: Any, adapt: Adapt) -> Any:
    """Return a schema after its earlier version; `true` and `false` are schemas too."""
    is_comparable = isinstance(latest, dict) and isinstance(newer, dict)
    return _merge_schemas(latest, newer, adapt) if is_comparable else newer


def _merge_schemas(latest: Any, newer: Json, adapt: Adapt) -> Json:
    latest = coerce_mapping(latest)
    latest = {**latest, **coerce_mapping(latest.get(ANY_FORM))}
    merged = dict(newer)
    for name in ("items", "additionalProperties"):
        if name in newer:
            merged[name] = _merge(latest.get(name), newer[name], adapt)
    for name in ("$defs", "definitions"):
        if isinstance(newer.get(name), dict):
            earlier = coerce_mapping(latest.get(name))
            merged[name] = {word: _merge(earlier.get(word), part, adapt) for word, part in newer[name].items()}
    if "anyOf" in newer:
        earlier = next(filter(_is_other_than_null, _list_choices(latest)), latest)
        merged["anyOf"] = [_merge(earlier, part, adapt) for part in newer["anyOf"]]
    if isinstance(newer.get("properties"), dict) and isinstance(latest.get("properties"), dict):
        merged["properties"] = _merge_properties(latest["properties"], newer["properties"], adapt)
    return merged


def _merge_properties(latest: Json, newer: Json, adapt: Adapt) -> Json:
    present = {name: adapt(latest.get(name), _merge(latest.get(name), part, adapt)) for name, part in newer.items()}
    gone = {name: part for name, part in latest.items() if name not in newer}
    return present | {name: {**coerce_mapping(part), REMOVED: True} for name, part in gone.items()}


def _keep_form(latest: Any, newer: Json) -> Json:
    """Return a property that allows anything if it did so in `latest`, since no registry accepts less again."""
    return _wrap(newer) if ANY_FORM in coerce_mapping(latest) else newer


def _widen_form(latest: Any, newer: Json) -> Json:
    is_newly_null = isinstance(latest, dict) and not _allows_null(latest) and _allows_null(newer)
    is_text = isinstance(latest, dict) and latest.get("type") == "string"
    return _wrap(newer) if is_newly_null and not is_text else _keep_form(latest, newer)


def _wrap(schema: Json) -> Json:
    shown = {name: schema[name] for name in _SHOWN if name in schema}
    return shown | {ANY_FORM: {name: value for name, value in schema.items() if name not in _SHOWN}}


def _allows_null(schema: Json) -> bool:
    return not all(map(_is_other_than_null, _list_choices(schema)))


def _list_choices(schema: Json) -> list[Any]:
    choices = schema.get("anyOf")
    return choices if isinstance(choices, list) else []


def _is_other_than_null(member: Any) -> bool:
    return coerce_mapping(member).get("type") != "null"
