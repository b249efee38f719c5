"""Check a pipeline before it is used, so that no service is the first to refuse it. Pure: no service is called."""

import typing
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import UnionType
from typing import Any

from msgspec import inspect

from penstock.contract import cql, names, rules, schemas
from penstock.contract.aliases import check_aliases
from penstock.contract.expiry import check_ttl
from penstock.contract.fields import field_of, fields, list_nested
from penstock.contract.identity import identity_of
from penstock.contract.keys import KEY_FORMATS
from penstock.contract.order_by import check_order_by
from penstock.contract.primary_key import list_key_problems
from penstock.contract.quoting import NATIVE_TYPES, name_user_type
from penstock.contract.record import Record
from penstock.contract.table import build_table
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
    if record_problems:
        return problems + record_problems
    problems += _iter_errors("row", lambda: _check_row(pipeline))
    problems += _iter_errors("ttl", lambda: check_ttl(pipeline.record, pipeline.stored, pipeline.ttl))
    return [*problems, *_of_order(pipeline), *_of_key(pipeline)]


def _of_key(pipeline: Pipeline) -> Iterator[str]:
    if pipeline.primary_key is not None:
        yield from (f"primary_key: {problem}" for problem in list_key_problems(pipeline.primary_key, pipeline.stored))
    if pipeline.key_format == "text" and not identity_of(pipeline.record).is_single:
        yield "key_format: 'text' is for ids of one field; write \"json\": keys of several fields are JSON objects"


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
    problems = [*_of_class(described), *_of_fields(described)] or [*_of_nested(record)]
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
            text = str(error)
            yield text if text.startswith("field ") else f"{part}: {text}"
        same_names[field.name.lower()].append(field.name)
    yield from _of_same_names(same_names)


def _of_same_names(same_names: dict[str, list[str]]) -> Iterator[str]:
    for same in same_names.values():
        if len(same) > 1:
            remedy = names.suggest_rename(same[-1], same[-1])
            yield f"fields {', '.join(same)}: Spark does not distinguish them; {remedy}"


def _of_nested(record: type[Record]) -> Iterator[str]:
    """Yield what is wrong with the names of nested records and of their fields."""
    known: dict[str, type] = {record.__name__.lower(): record}
    for nested in list_nested(record):
        name = nested.__name__
        if known.setdefault(name_user_type(nested), nested) is not nested or name == record.__name__:
            yield f"there is more than one class {name}, or of a name like it: rename one of them"
        if name_user_type(nested) in NATIVE_TYPES:
            yield f"{name_user_type(nested)!r} is a type of CQL: rename the class {name}"
        yield from _iter_errors(f"the class {name}", partial(names.check_word, name))
        yield from _of_members(nested)


def _of_members(nested: type[Record]) -> Iterator[str]:
    same_names: dict[str, list[str]] = defaultdict(list)
    for field in fields(nested):
        part = f"{nested.__name__}.{field.column}"
        yield from _iter_errors(part, partial(names.check_word, field.name))
        yield from _iter_errors(part, partial(names.check_word, field.column))
        if field.column.startswith("_"):
            yield f"{part}: cassandra-driver does not read a name that starts with '_' in a type: rename the field"
        same_names[field.column.lower()].append(field.column)
    yield from _of_same_names(same_names)


def _derive_schemas(record: type[Record]) -> None:
    """Derive everything that is derived from a record. What raises here would raise later."""
    identity_of(record)
    check_aliases(record)
    rules.build_value_check(record), rules.build_text_check(record), rules.build_form_check(record)
    schemas.json_schema(record), schemas.avro_schema(record), schemas.spark_ddl(record)
    cql.render_create_table(build_table("keyspace", "table", record)), cql.list_user_types(record)


def _check_row(pipeline: Pipeline) -> None:
    """Raise `TypeError` unless a row has the same KEY fields as its record, in the same order."""
    record, row = identity_of(pipeline.record), identity_of(pipeline.stored)
    if [(field.column, field.kind) for field in record.fields] != [(field.column, field.kind) for field in row.fields]:
        fields = ", ".join(f"`{field.column}` ({field.kind.cql})" for field in record.fields)
        raise TypeError(
            f"{row.record.__name__} must have the key of {record.record.__name__}: mark {fields} with KEY in both"
            + ("" if record.is_single else ", in this order, and no other field")
        )
