"""The schema registry: register a subject's schema once, and look up a record's writer schema by its id.

A schema id never changes its meaning, so schemas are cached for the lifetime of the process. Only the registry's own
responses count: if anything else answers in its place, the registry is unavailable, and no record is to blame.
"""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from confluent_kafka.schema_registry import RegisteredSchema, Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from penstock import remedies
from penstock.config import Settings
from penstock.contract.continuation import allow_nulls, continue_schema
from penstock.contract.evolution import Change, compare_schemas, describe_encoding_change, list_refused
from penstock.contract.record import Record
from penstock.contract.schemas import avro_schema, json_schema
from penstock.errors import PenstockError, RegistryUnreachable, SchemaRefused, SchemaUnknown
from penstock.retry import retry_attempts

WireFormat = Literal["json", "avro"]
T = TypeVar("T")

_TYPES: dict[WireFormat, str] = {"json": "JSON", "avro": "AVRO"}
_NO_SCHEMA = 40403
_ABSENT = (40401, 40402, _NO_SCHEMA, 40408)
"""The registry's own error codes: no such subject, version, schema, or compatibility level of a subject."""
_REFUSES = {409, 422}
_DENIES = {401, 403}
_LAST_ID = 2**31 - 1
MAX_SCHEMA_CHARACTERS = 1_000_000
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""Raised if the schema cannot be parsed, or nests too deeply."""
_ATTEMPTS = 5
_UNKNOWN_S = 1.0
"""Negative-cache TTL for unknown schema ids, in seconds: many records may name the same id."""


class WriterSchema(NamedTuple):
    """The schema that a value was written with; `schema` is None for JSON Schema, which reading does not need."""

    wire_format: WireFormat
    schema: Any = None


class Schemas(Protocol):
    """Lookup of writer schemas."""

    def writer(self, schema_id: int) -> WriterSchema:
        """Return the schema with that id. Raises `SchemaUnknown`, or `RegistryUnreachable`."""
        ...


class SubjectStatus(NamedTuple):
    """How a record's schema compares to its subject, whose latest version is `version`; None if there is no subject.

    `schema_id` is None if the record's schema is not registered. `schemas` are then those to register, in order of
    preference: some registries accept only the second.
    """

    schema_id: int | None
    version: int | None
    changes: list[Change]
    schemas: tuple[dict[str, Any], ...] = ()


def schema_of(record: type[Record], wire_format: WireFormat) -> dict[str, Any]:
    """Return the schema to register for a record."""
    return json_schema(record) if wire_format == "json" else avro_schema(record)


class Registry:
    """The schema registry at `settings.registry_url`. A call takes at most about twice `registry_timeout_s`."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.registry_url
        self._timeout_s = settings.registry_timeout_s
        conf: dict[str, Any] = {"url": self._url, "timeout": self._timeout_s, "max.retries": 0}
        conf["cache.latest.ttl.sec"] = 0
        if settings.registry_username:
            password = settings.registry_password.get_secret_value()
            conf["basic.auth.user.info"] = f"{settings.registry_username}:{password}"
        self._client = SchemaRegistryClient(conf)
        self._writers: dict[int, WriterSchema] = {}
        self._unknown: dict[int, str] = {}
        self._unknown_until_s = 0.0

    def register(self, subject: str, record: type[Record], wire_format: WireFormat) -> int:
        """Return the id of the record's schema under `subject`; register the schema if it is new.

        Raises `SchemaRefused`, which names each field and rule, if older records are incompatible with the change, or
        the registry does not accept it; `RegistryUnreachable`.
        """
        standing = self.check_subject(subject, record, wire_format)
        if standing.schema_id is not None:
            return standing.schema_id
        doing = f"registering {_TYPES[wire_format]} schema {record.__name__} as {subject}"
        if incompatible := list_refused(standing.changes):
            raise _build_schema_error(f"{doing} at {self._url}: incompatible change", incompatible)
        try:
            return self._register_first(doing, subject, standing.schemas, wire_format)
        except SchemaRefused as error:
            raise _build_schema_error(error.message, standing.changes) from error

    def _register_first(
        self, doing: str, subject: str, schemas: tuple[dict[str, Any], ...], wire_format: WireFormat
    ) -> int:
        """Return the id of the first schema that the registry accepts. Raises its refusal of the first."""
        first, *others = (_build_schema(schema, wire_format) for schema in schemas)
        try:
            return self._call_with_retries(doing, lambda: int(self._client.register_schema(subject, first)))
        except SchemaRefused:
            for other in others:
                with suppress(SchemaRefused):
                    return int(self._call_with_retries(doing, partial(self._client.register_schema, subject, other)))
            raise

    def check_subject(self, subject: str, record: type[Record], wire_format: WireFormat) -> SubjectStatus:
        """Return how the record's schema compares to the subject's latest.

        Raises `SchemaRefused` if the latest cannot be read, `RegistryUnreachable`.
        """
        latest = self._find_or_none(
            f"looking up {subject}", lambda: _check_response(self._client.get_latest_version(subject))
        )
        own = schema_of(record, wire_format)
        if latest is None:
            return SubjectStatus(None, None, [], (own,))
        if latest.schema.schema_type != _TYPES[wire_format]:
            change = describe_encoding_change(subject, str(latest.schema.schema_type), _TYPES[wire_format])
            return SubjectStatus(None, latest.version, [change])
        try:
            registered = json.loads(str(latest.schema.schema_str))
            changes = compare_schemas(registered, own)
            schemas = _list_schemas(registered, own, wire_format)
        except _UNREADABLE as error:
            raise SchemaRefused(
                f"the schema of {subject} version {latest.version} cannot be read: {type(error).__name__}: {error}",
                hint=f"delete that version in the registry, then {remedies.plan_schema()}",
            ) from error
        if registered == own or (wire_format == "json" and not changes):
            return SubjectStatus(latest.schema_id, latest.version, [])  # Avro values need the identical schema
        for schema in [own] if schemas[0] == own else [own, schemas[0]]:
            schema_id = self._find_schema(subject, _build_schema(schema, wire_format))
            if schema_id is not None:
                return SubjectStatus(schema_id, latest.version, [])
        return SubjectStatus(None, latest.version, changes, schemas)

    def _find_schema(self, subject: str, schema: Schema) -> int | None:
        """Return the id of a schema under `subject`, or None if it is not registered there."""
        known = self._find_or_none(
            f"looking up the schema in {subject}", lambda: _check_response(self._client.lookup_schema(subject, schema))
        )
        return known.schema_id if known else None

    def versions(self, schema_id: int) -> list[str]:
        """Return the subjects and versions that have the schema: `users_created-value version 1`."""
        versions = self._find_or_none(
            f"looking up the versions of schema {schema_id}", lambda: list(self._client.get_schema_versions(schema_id))
        )
        return [f"{version.subject} version {version.version}" for version in versions or ()]

    def writer(self, schema_id: int) -> WriterSchema:
        """Return the schema with that id, cached once looked up. Raises `SchemaUnknown`, `RegistryUnreachable`."""
        if schema_id not in self._writers:
            self._writers[schema_id] = self._look_up_schema(schema_id)
        return self._writers[schema_id]

    def _look_up_schema(self, schema_id: int) -> WriterSchema:
        if schema_id > _LAST_ID:  # a registry may report an unknown URL for a number that it cannot parse
            raise SchemaUnknown(f"schema {schema_id}: the largest valid id is {_LAST_ID}")
        if time.monotonic() > self._unknown_until_s:
            self._unknown.clear()
            self._unknown_until_s = time.monotonic() + _UNKNOWN_S
        if schema_id in self._unknown:
            raise SchemaUnknown(self._unknown[schema_id])
        try:
            return self._call_with_retries(
                f"looking up schema {schema_id}", lambda: _request_schema(schema_id, self._client), _NO_SCHEMA
            )
        except SchemaUnknown as error:
            self._unknown[schema_id] = error.message
            raise

    def _find_or_none(self, doing: str, call: Callable[[], T]) -> T | None:
        """Return the result of `call`; None if the registry says that what it looks up does not exist."""
        try:
            return self._call_with_retries(doing, call, *_ABSENT)
        except SchemaUnknown:
            return None

    def _call_with_retries(self, doing: str, call: Callable[[], T], *absent: int) -> T:
        """Return the registry's answer, retrying while it is unavailable; `absent`: its codes for `SchemaUnknown`."""
        for attempt in retry_attempts(RegistryUnreachable, attempts=_ATTEMPTS, timeout_s=self._timeout_s):
            with attempt:
                result = self._call_once(doing, call, absent)
        return result

    def _call_once(self, doing: str, call: Callable[[], T], absent: tuple[int, ...]) -> T:
        try:
            return call()
        except PenstockError:
            raise
        except SchemaRegistryError as error:
            raise self._translate_error(error, doing, absent) from error
        except Exception as error:  # the client may raise anything for an answer that is not the registry's
            self._client.clear_caches()  # they may contain that answer
            raise self._build_unreachable_error(f"{doing} at {self._url}: {type(error).__name__}: {error}") from error

    def _translate_error(self, error: SchemaRegistryError, doing: str, absent: tuple[int, ...]) -> PenstockError:
        text = f"{doing} at {self._url}: {error}"
        if error.http_status_code == 404 and error.error_code in absent:
            return SchemaUnknown(text)
        if error.http_status_code in _REFUSES:
            return SchemaRefused(text, hint=remedies.plan_schema())
        if error.http_status_code in _DENIES:
            return RegistryUnreachable(text, hint="set PENSTOCK_REGISTRY_USERNAME and PENSTOCK_REGISTRY_PASSWORD")
        return self._build_unreachable_error(text)

    @staticmethod
    def _build_unreachable_error(text: str) -> RegistryUnreachable:
        return RegistryUnreachable(text, hint=remedies.check_address("registry"))


def _list_schemas(registered: Any, own: dict[str, Any], wire_format: WireFormat) -> tuple[dict[str, Any], ...]:
    """Return the schemas that stand for a record's own after the registered one, in order of preference."""
    if wire_format == "avro":
        return (own,)
    continued, widened = continue_schema(registered, own), allow_nulls(registered, own)
    return (continued,) if continued == widened else (continued, widened)


def _build_schema(schema: dict[str, Any], wire_format: WireFormat) -> Schema:
    return Schema(json.dumps(schema), schema_type=_TYPES[wire_format])


def _build_schema_error(text: str, changes: list[Change]) -> SchemaRefused:
    """Return the error with the reasons: each change on its own line, and in the attribute `changes`."""
    lines = [text, *(f"  {change}" for change in changes)]
    return SchemaRefused("\n".join(lines), hint=remedies.plan_schema(), changes=changes)


def _check_response(response: RegisteredSchema) -> RegisteredSchema:
    """Return the response if it is a schema. Raises `TypeError` for anything else."""
    if not (isinstance(response.schema_id, int) and isinstance(response.schema.schema_str, str)):
        raise TypeError("the response contains no schema")
    return response


def _request_schema(schema_id: int, client: SchemaRegistryClient) -> WriterSchema:
    """Return the schema with that id, in a single request. Raises `SchemaUnknown` if penstock cannot read it."""
    response = client.get_schema(schema_id)
    formats: dict[str | None, WireFormat] = {name: wire_format for wire_format, name in _TYPES.items()}
    if not isinstance(response.schema_str, str):
        raise TypeError("the response contains no schema")
    if response.schema_type not in formats:
        raise SchemaUnknown(f"schema {schema_id} is {response.schema_type}, neither JSON nor AVRO")
    if formats[response.schema_type] == "json":
        return WriterSchema("json")
    if len(response.schema_str) > MAX_SCHEMA_CHARACTERS:
        raise SchemaUnknown(f"schema {schema_id} cannot be read: it has more than {MAX_SCHEMA_CHARACTERS:,} characters")
    try:
        return WriterSchema("avro", json.loads(response.schema_str))
    except (ValueError, RecursionError) as error:
        raise SchemaUnknown(f"schema {schema_id} cannot be read: {error}") from error
