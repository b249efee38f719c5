"""The schema registry: a subject's schema is registered once, a record's writer schema is found by its id.

A schema id never changes its meaning, so what was found is kept for the life of the process.
"""

import json
from typing import Any, Literal, NamedTuple, Protocol

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from penstock.config import Settings
from penstock.contract.record import Record
from penstock.contract.schemas import avro_schema, json_schema
from penstock.errors import PenstockError, RegistryUnreachable, SchemaRefused, SchemaUnknown

WireFormat = Literal["json", "avro"]

_TYPES: dict[WireFormat, str] = {"json": "JSON", "avro": "AVRO"}
_NOT_FOUND = 404
_CONFLICT = {409, 422}


class WriterSchema(NamedTuple):
    """The schema that a value was written with."""

    wire_format: WireFormat
    schema: dict[str, Any]


class Schemas(Protocol):
    """Where writer schemas are found."""

    def writer(self, schema_id: int) -> WriterSchema:
        """The schema with that id. Raises `SchemaUnknown`, or `RegistryUnreachable`."""
        ...


class Registry:
    """The schema registry at `settings.registry_url`."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.registry_url
        conf: dict[str, Any] = {"url": self._url, "timeout": settings.registry_timeout_s, "max.retries": 2}
        if settings.registry_username:
            password = settings.registry_password.get_secret_value()
            conf["basic.auth.user.info"] = f"{settings.registry_username}:{password}"
        self._client = SchemaRegistryClient(conf)
        self._writers: dict[int, WriterSchema] = {}

    def register(self, subject: str, record: type[Record], wire_format: WireFormat) -> int:
        """The id of the record's schema under `subject`, registered when it is new.

        Raises `SchemaRefused` when it is not compatible with the subject's schema, `RegistryUnreachable`.
        """
        rendered = json_schema(record) if wire_format == "json" else avro_schema(record)
        schema = Schema(json.dumps(rendered), schema_type=_TYPES[wire_format])
        try:
            return int(self._client.register_schema(subject, schema))
        except Exception as error:
            raise self._failure(
                error, f"registering {_TYPES[wire_format]} schema {record.__name__} as {subject}"
            ) from error

    def writer(self, schema_id: int) -> WriterSchema:
        """The schema with that id, from the registry the first time. Raises `SchemaUnknown`, `RegistryUnreachable`."""
        if schema_id not in self._writers:
            self._writers[schema_id] = self._fetch(schema_id)
        return self._writers[schema_id]

    def _fetch(self, schema_id: int) -> WriterSchema:
        try:
            found = self._client.get_schema(schema_id)
        except Exception as error:
            raise self._failure(error, f"looking up schema {schema_id}") from error
        formats: dict[str, WireFormat] = {name: wire_format for wire_format, name in _TYPES.items()}
        if found.schema_type not in formats:
            raise SchemaUnknown(f"schema {schema_id} is {found.schema_type}, neither JSON nor AVRO")
        return WriterSchema(formats[found.schema_type], json.loads(found.schema_str))

    def _failure(self, error: Exception, doing: str) -> PenstockError:
        text = f"{doing} at {self._url}: {error}"
        if isinstance(error, SchemaRegistryError):
            if error.http_status_code == _NOT_FOUND:
                return SchemaUnknown(text)
            if error.http_status_code in _CONFLICT:
                return SchemaRefused(
                    text,
                    hint="comparing schemas/ with the subject; another encoding needs another topic",
                )
        return RegistryUnreachable(text, hint="./penstock status registry, or set PENSTOCK_REGISTRY_URL")
