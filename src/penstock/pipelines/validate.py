"""Check a pipeline before it is used, so that no service is the first to refuse it. Pure: no service is called."""

import typing
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from types import UnionType
from typing import Any

from msgspec import inspect

from penstock.contract import cql, names, rules, schemas
from penstock.contract.fields import field_of, key_of
from penstock.contract.keys import KEY_FORMATS
from penstock.contract.order_by import check_order_by
from penstock.contract.record import Record
from penstock.pipelines.definition import Pipeline
from penstock.pipelines.mapping import unwrap_function

_REFUSED = (TypeError, ValueError, NameError, RecursionError)


def find_problems(pipeline: Pipeline) -> list[str]:
    """Return what is wrong with a pipeline: for each problem the part, the reason, and what to write instead."""
    problems = [
        *_iter_errors("topic", lambda: names.check_topic(pipeline.topic)),
        *_iter_errors("keyspace", lambda: names.check_keyspace(pipeline.keyspace)),
        *_iter_errors("table", lambda: names.check_table(pipeline.table)),
        *_of_functions(pipeline),
    ]
    record_problems = [*_of_record("record", pipeline.record)]
    if pipeline.row is not None:
        record_problems += _of_record("row", pipeline.row)
    return [*problems, *(record_problems or [*_iter_errors("row", lambda: _check_row(pipeline)), *_of_order(pipeline)])]


def _of_order(pipeline: Pipeline) -> Iterator[str]:
    order_by, of_tombstone = pipeline.order_by, pipeline.order_of_tombstone
    yield from _iter_errors("order_by", lambda: check_order_by(pipeline.record, order_by, of_tombstone))


def _iter_errors(part: str, check: Callable[[], object]) -> Iterator[str]:
    """Yield the error that `check` raises, if any."""
    try:
        check()
    except _REFUSED as error:
        yield f"{part}: {error}"


def _of_functions(pipeline: Pipeline) -> Iterator[str]:
    if not callable(pipeline.from_source):
        yield f"from_source: {pipeline.from_source!r} is not callable; write a function of an entry of a response"
    else:
        yield from _iter_errors("from_source", lambda: _check_annotation(pipeline))
    if not (pipeline.transform is None or callable(pipeline.transform)):
        yield f"transform: {pipeline.transform!r} is not callable; write a function that takes a DataFrame"
    if not isinstance(pipeline.transform_is_row_wise, bool):
        yield f"transform_is_row_wise: {pipeline.transform_is_row_wise!r} is not a bool"
    elif pipeline.transform_is_row_wise and pipeline.transform is None:
        yield "transform_is_row_wise: there is no transform; write `transform=...`, or remove it"
    if pipeline.key_format not in (None, *KEY_FORMATS):
        yield f"key_format: invalid {pipeline.key_format!r}: expected {', '.join(map(repr, KEY_FORMATS))} or None"
    if not isinstance(pipeline.one_version_per_id, bool):
        yield f"one_version_per_id: {pipeline.one_version_per_id!r} is not a bool"
    secret = pipeline.secret
    if not (isinstance(secret, frozenset | set) and all(isinstance(name, str) for name in secret)):
        yield f'secret: {secret!r} is not a set of names; write `secret=frozenset({{"password"}})`'


def _check_annotation(pipeline: Pipeline) -> None:
    """Raise `TypeError` if `from_source` says that it returns something else than the record or a dict."""
    try:
        returns = typing.get_type_hints(unwrap_function(pipeline.from_source)).get("return", Any)
    except (NameError, TypeError, AttributeError):  # names that only a type checker imports; no annotations at all
        return
    record = pipeline.record.__name__ if isinstance(pipeline.record, type) else "the record"
    for member in _iter_members(returns):
        if member is type(None):
            raise TypeError(f"it may return None; write `-> {record}`, and raise an exception where an entry has none")
        if not _may_be_record(member, pipeline.record):
            name = member.__name__ if isinstance(member, type) else str(member)
            raise TypeError(f"it returns {name}; write `-> {record}`, or `-> dict[str, Any]` for a dict of its fields")


def _iter_members(hint: Any) -> Iterator[Any]:
    """Yield the members of a union, or a type that is none."""
    if typing.get_origin(hint) in (typing.Union, UnionType):
        for member in typing.get_args(hint):
            yield from _iter_members(member)
    else:
        yield hint


def _may_be_record(hint: Any, record: type[Record]) -> bool:
    """Return whether a value of a type may be the record or a dict of its fields. Only a class excludes it."""
    kind = typing.get_origin(hint) or hint
    if hint is Any or not isinstance(kind, type) or not isinstance(record, type):
        return True
    return issubclass(kind, Mapping) or record in kind.__mro__ or kind in record.__mro__


def _of_record(part: str, record: type[Record]) -> Iterator[str]:
    """Yield what is wrong with a record's class, and with each of its fields."""
    if not (isinstance(record, type) and issubclass(record, Record)):
        what = record.__name__ if isinstance(record, type) else repr(record)
        yield f"{part}: {what} is not a Record; write `class {_class_name(record)}(Record, frozen=True, kw_only=True)`"
        return
    try:
        described = inspect.type_info(record)
    except _REFUSED as error:
        yield f"{part} {record.__name__}: {error}"
        return
    assert isinstance(described, inspect.StructType)
    problems = [*_of_class(described), *_of_fields(described)]
    yield from (f"{record.__name__}: {problem}" for problem in problems)
    if not problems:
        yield from _iter_errors(part, lambda: _derive_schemas(record))


def _class_name(record: object) -> str:
    return record.__name__ if isinstance(record, type) else "Item"


def _of_class(described: inspect.StructType) -> Iterator[str]:
    yield from _iter_errors("the class", lambda: names.check_word(described.cls.__name__))
    if described.array_like:
        yield "a message is a JSON object with names: remove `array_like=True`"
    if described.tag_field is not None:
        yield f"Avro and the table have no tag {described.tag_field!r}: remove `tag` and `tag_field`"


def _of_fields(described: inspect.StructType) -> Iterator[str]:
    same_names: dict[str, list[str]] = defaultdict(list)
    hints = typing.get_type_hints(described.cls, include_extras=True)
    for field in described.fields:
        part = f"field {field.name}"
        try:
            names.check_field(field.encode_name, field.name)
            field_of(field, hints[field.name])
        except _REFUSED as error:
            yield f"{part}: {str(error).removeprefix(f'{part}: ')}"
        same_names[field.name.lower()].append(field.name)
    for same in same_names.values():
        if len(same) > 1:
            remedy = names.suggest_rename(same[-1], same[-1])
            yield f"fields {', '.join(same)}: Spark does not distinguish them; {remedy}"


def _derive_schemas(record: type[Record]) -> None:
    """Derive everything that is derived from a record. What raises here would raise later."""
    key_of(record)
    rules.build_value_check(record), rules.build_text_check(record), rules.build_form_check(record)
    schemas.json_schema(record), schemas.avro_schema(record), schemas.spark_ddl(record)
    cql.render_create_table("keyspace", "table", record)


def _check_row(pipeline: Pipeline) -> None:
    """Raise `TypeError` unless a row has the same key as its record."""
    key, of_row = key_of(pipeline.record), key_of(pipeline.stored)
    if (key.column, key.kind) != (of_row.column, of_row.kind):
        raise TypeError(
            f"{pipeline.stored.__name__} must have the key of {pipeline.record.__name__}: "
            f"mark `{key.column}` ({key.kind.cql}) with KEY in both"
        )
