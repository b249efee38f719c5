"""Which pipeline a process runs: where its records go, and what a record is. Pure: no service is called.

A run is triggered in one process and executed in others. Each has its own settings, and a run of one pipeline must not
be executed by another.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from penstock.config import Settings
from penstock.contract import cql
from penstock.contract.schemas import json_schema
from penstock.contract.table import build_table
from penstock.pipelines.definition import Pipeline

PLACES = ("topic", "keyspace", "table")
PARTS = (*PLACES, "contract")
_PROSE = frozenset({"$schema", "title", "description"})
_DIGEST_CHARACTERS = 12


@dataclass(frozen=True)
class PipelineIdentity:
    """A pipeline, as far as two processes must agree on it. `contract` is a digest of the record and the row."""

    topic: str
    keyspace: str
    table: str
    contract: str

    def as_dict(self) -> dict[str, str]:
        """Return the parts by name: JSON values only, for a DAG run's conf and for files."""
        return asdict(self)

    def differences(self, other: Mapping[str, Any], parts: tuple[str, ...] = PARTS) -> list[str]:
        """Return the names of the parts that differ in `other`; parts that it does not have are not compared."""
        own = self.as_dict()
        return [name for name in parts if name in other and other[name] != own[name]]


def identify_pipeline(settings: Settings, pipeline: Pipeline) -> PipelineIdentity:
    """Return the identity of a pipeline under these settings."""
    keyspace = settings.cassandra_keyspace or pipeline.keyspace
    return PipelineIdentity(pipeline.topic, keyspace, pipeline.table, contract_digest(pipeline))


def contract_digest(pipeline: Pipeline) -> str:
    """Return a digest of the format of the pipeline's messages and rows; descriptions do not count."""
    contract = [
        _without_prose(json_schema(pipeline.record)),
        cql.render_create_table(build_table("keyspace", "table", pipeline.stored, pipeline.primary_key, pipeline.ttl)),
        *([{"ttl": pipeline.ttl}] if isinstance(pipeline.ttl, str) else []),
    ]
    contract += [cql.render_create_type("keyspace", each) for each in cql.list_user_types(pipeline.stored)]
    return hashlib.sha256(msgspec.json.encode(contract, order="sorted")).hexdigest()[:_DIGEST_CHARACTERS]


def _without_prose(schema: Any) -> Any:
    """Return a JSON Schema without its documentation; names of properties are kept, whatever they are."""
    if isinstance(schema, list):
        return [_without_prose(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: {field: _without_prose(rules) for field, rules in item.items()}
        if name == "properties"
        else _without_prose(item)
        for name, item in schema.items()
        if name not in _PROSE
    }


def describe_parts(parts: Mapping[str, Any], names: list[str]) -> str:
    """Return some parts of an identity in one line: `topic 'quakes', contract 3f2a...`."""
    return ", ".join(f"{name} {parts[name]!r}" for name in names)
