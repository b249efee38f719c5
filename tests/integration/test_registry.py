"""The schema registry's client with the real registry."""

import time
from typing import Annotated
from uuid import UUID

import httpx2
import pytest
from msgspec import Meta

from penstock import config
from penstock.broker.registry import Registry, WireFormat, schema_of
from penstock.config import Settings
from penstock.contract.record import KEY, Int64, Record
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
    """The rendered schema is returned, and registering it again returns the same id."""
    registry = Registry(settings)
    schema_id = registry.register(f"{unique}-value", User, wire_format)
    assert Registry(settings).register(f"{unique}-value", User, wire_format) == schema_id
    schema = schema_of(User, wire_format) if wire_format == "avro" else None  # JSON is read without its schema
    assert registry.writer(schema_id) == (wire_format, schema)


def test_compatibility_is_backward_for_every_subject(settings: Settings) -> None:
    """The registry's own default, NONE, was replaced at startup."""
    assert httpx2.get(f"{settings.registry_url}/config").json()["compatibilityLevel"] == "BACKWARD"


@pytest.mark.parametrize("wire_format", ["json", "avro"])
def test_an_incompatible_schema_is_rejected(settings: Settings, unique: str, wire_format: WireFormat) -> None:
    """A changed type is rejected: the error names field and rule."""
    registry = Registry(settings)
    registry.register(f"{unique}-value", Before, wire_format)
    with pytest.raises(SchemaRefused, match=unique) as caught:
        registry.register(f"{unique}-value", Retyped, wire_format)
    assert "type_changed: the type of `name` changed from text to bigint" in caught.value.message
    assert caught.value.hint == "./penstock schema plan"


def test_a_subject_of_another_encoding_is_rejected(settings: Settings, unique: str) -> None:
    """A subject keeps its encoding, in both directions."""
    registry = Registry(settings)
    registry.register(f"{unique}-json", Before, "json")
    registry.register(f"{unique}-avro", Before, "avro")
    with pytest.raises(SchemaRefused, match="encoding_changed"):
        registry.register(f"{unique}-json", Before, "avro")
    with pytest.raises(SchemaRefused, match="encoding_changed"):
        registry.register(f"{unique}-avro", Before, "json")


def test_an_unavailable_registry_is_reported_as_unreachable(free_port: int) -> None:
    """The error names the address and the setting."""
    away = config.read(registry_url=f"http://127.0.0.1:{free_port}")
    began = time.monotonic()
    with pytest.raises(RegistryUnreachable, match=str(free_port)) as caught:
        Registry(away).writer(1)
    assert "PENSTOCK_REGISTRY_URL" in caught.value.hint
    assert time.monotonic() - began < 2 * away.registry_timeout_s


@pytest.mark.parametrize("path", ["/nothing", "/ui/", "/apis/registry/v3"])
def test_another_server_at_its_address_is_not_the_registry(settings: Settings, path: str) -> None:
    """A wrong path on the right host, with a page or a 404 that is not the registry's, says nothing about a schema."""
    elsewhere = settings.model_copy(update={"registry_url": f"http://127.0.0.1:{settings.registry_port}{path}"})
    with pytest.raises(RegistryUnreachable):
        Registry(elsewhere).writer(2_000_000_000)


@pytest.mark.parametrize("schema_id", [2_000_000_000, 2**31, 2**32 - 1])
def test_every_id_that_fits_a_header_can_be_unknown(settings: Settings, schema_id: int) -> None:
    """Four bytes allow more ids than the registry's range."""
    with pytest.raises(SchemaUnknown):
        Registry(settings).writer(schema_id)
