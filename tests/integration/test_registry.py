"""The schema registry's client against the real registry."""

from typing import Annotated
from uuid import UUID

import httpx2
import pytest
from msgspec import Meta

from penstock import config
from penstock.broker.registry import Registry, WireFormat
from penstock.config import Settings
from penstock.contract.record import KEY, Int64, Record
from penstock.contract.schemas import avro_schema, json_schema
from penstock.errors import RegistryUnreachable, SchemaRefused, SchemaUnknown
from penstock.pipelines.users import User


class Before(Record, frozen=True, kw_only=True):
    """A record."""

    id: Annotated[UUID, Meta(extra=KEY)]
    name: str


class Retyped(Record, frozen=True, kw_only=True):
    """The record with a field of another type."""

    id: Annotated[UUID, Meta(extra=KEY)]
    name: Int64


Retyped.__name__ = "Before"


@pytest.mark.parametrize("wire_format", ["json", "avro"])
def test_a_schema_is_registered_once_and_found_by_its_id(
    settings: Settings, unique: str, wire_format: WireFormat
) -> None:
    """What comes back is the rendered schema, and registering it again gives the same id."""
    registry = Registry(settings)
    schema_id = registry.register(f"{unique}-value", User, wire_format)
    assert Registry(settings).register(f"{unique}-value", User, wire_format) == schema_id
    rendered = json_schema(User) if wire_format == "json" else avro_schema(User)
    assert registry.writer(schema_id) == (wire_format, rendered)


def test_compatibility_is_backward_for_every_subject(settings: Settings) -> None:
    """The registry's own default, NONE, was replaced at its start."""
    assert httpx2.get(f"{settings.registry_url}/config").json()["compatibilityLevel"] == "BACKWARD"


@pytest.mark.parametrize("wire_format", ["json", "avro"])
def test_a_schema_that_cannot_read_the_one_before_is_refused(
    settings: Settings, unique: str, wire_format: WireFormat
) -> None:
    """A changed type is refused, with a hint."""
    registry = Registry(settings)
    registry.register(f"{unique}-value", Before, wire_format)
    with pytest.raises(SchemaRefused, match=unique) as caught:
        registry.register(f"{unique}-value", Retyped, wire_format)
    assert "schema" in caught.value.hint


def test_an_id_that_nobody_registered_is_unknown(settings: Settings) -> None:
    """Unknown is told apart from unreachable."""
    with pytest.raises(SchemaUnknown):
        Registry(settings).writer(2_000_000_000)


def test_a_registry_that_is_away_is_said_to_be_unreachable(free_port: int) -> None:
    """The error names the address and the setting."""
    away = config.read(registry_url=f"http://127.0.0.1:{free_port}", registry_timeout_s=1)
    with pytest.raises(RegistryUnreachable, match=str(free_port)) as caught:
        Registry(away).writer(1)
    assert "PENSTOCK_REGISTRY_URL" in caught.value.hint
