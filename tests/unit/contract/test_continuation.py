from datetime import date
from typing import Annotated
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from penstock.contract.continuation import allow_nulls, continue_schema
from penstock.contract.evolution import ChangeKind, compare_schemas, list_refused
from penstock.contract.record import KEY, Alias, Record
from penstock.contract.schemas import json_schema
from penstock.pipelines.users import User
from tests.unit.records import Everything, Scalars

KEYS = {"id": Annotated[UUID, Meta(extra=KEY)]}
PLACE = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def schema_of(**hints):
    """The JSON Schema of a record with these fields; one that may be None is optional."""
    fields = [(name, hint, None) if "None" in str(hint) else (name, hint) for name, hint in (KEYS | hints).items()]
    return json_schema(msgspec.defstruct("One", fields, bases=(Record,), frozen=True, kw_only=True))


@pytest.mark.parametrize("record", [User, Everything, Scalars])
def test_a_schema_after_itself_is_the_same(record):
    """Nothing is added without a reason, so a record that only grows keeps its schema."""
    schema = json_schema(record)
    assert continue_schema(schema, schema) == allow_nulls(schema, schema) == schema


def test_a_property_that_is_gone_stays_with_a_mark():
    """Older records have it, and the schema is closed. What it was is kept until the field comes back."""
    latest, newer = schema_of(a=str | None, b=int | None), schema_of(a=str | None)
    continued = continue_schema(latest, newer)
    assert continued["properties"]["b"] == latest["properties"]["b"] | {"x-removed": True}
    assert {**continued, "properties": newer["properties"]} == newer
    assert continue_schema(continued, newer) == continued
    assert continue_schema(continued, latest) == latest
    assert compare_schemas(continued, newer) == []


def test_a_text_may_be_null_in_the_usual_form():
    """Registries accept that change."""
    latest, newer = schema_of(a=str, b=date, c=UUID), schema_of(a=str | None, b=date | None, c=UUID | None)
    assert continue_schema(latest, newer) == allow_nulls(latest, newer) == newer


@pytest.mark.parametrize("hint", [int, float, bool])
def test_another_value_that_may_be_null_can_be_anything_for_a_registry(hint):
    """What it really is remains in a mark, in every later version too, and is what is compared."""
    latest, newer = schema_of(a=hint), schema_of(a=hint | None)
    assert continue_schema(latest, newer) == newer
    widened = allow_nulls(latest, newer)
    assert widened["properties"]["a"] == {"x-type": newer["properties"]["a"]}
    assert [change.kind for change in compare_schemas(latest, widened)] == [ChangeKind.NOW_OPTIONAL]
    assert compare_schemas(widened, newer) == []
    wider = schema_of(a=hint | None, b=str | None)
    later = continue_schema(widened, wider)
    assert later["properties"]["a"] == widened["properties"]["a"]
    assert [change.field for change in compare_schemas(widened, later)] == ["b"]
    assert list_refused(compare_schemas(widened, schema_of(a=hint)))


def test_what_a_page_shows_of_a_field_stays_outside_of_the_mark():
    """Its description and its marks are where readers look for them."""
    of_a = schema_of(a=Annotated[int | None, Meta(description="How many.", extra={"personal": True})])
    shown = allow_nulls(schema_of(a=int), of_a)["properties"]["a"]
    assert (shown["description"], shown["x-personal"]) == ("How many.", True)
    assert "description" not in shown["x-type"]


def test_a_former_name_is_as_null_as_its_field():
    """A number that is renamed and made optional at once: its former property has older records' numbers, and null."""
    latest, newer = schema_of(a=int), schema_of(b=Annotated[int | None, Alias("a")])
    widened = allow_nulls(latest, newer)["properties"]
    assert widened["b"] == newer["properties"]["b"]
    assert widened["a"]["x-alias-of"] == "b"
    assert "x-type" in widened["a"]
    kinds = [change.kind for change in compare_schemas(latest, allow_nulls(latest, newer))]
    assert kinds == [ChangeKind.FIELD_RENAMED, ChangeKind.NOW_OPTIONAL]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda inside: inside,
        lambda inside: {"anyOf": [inside, {"type": "null"}]},
        lambda inside: {"type": "array", "items": inside},
        lambda inside: {"type": "object", "additionalProperties": {"type": "array", "items": inside}},
    ],
)
def test_the_inside_of_a_type_is_continued_too(wrap):
    """Wherever a record is within another."""
    grown = PLACE | {"properties": {**PLACE["properties"], "zip": {"type": "string"}}}
    latest, newer = ({"type": "object", "properties": {"it": wrap(inside)}} for inside in (grown, PLACE))
    kept = grown | {"properties": {**PLACE["properties"], "zip": {"type": "string", "x-removed": True}}}
    assert continue_schema(latest, newer) == {"type": "object", "properties": {"it": wrap(kept)}}


def test_definitions_are_continued_by_name():
    """One that is new stays as it is."""
    grown = PLACE | {"properties": {**PLACE["properties"], "zip": {"type": "string"}}}
    latest = {"type": "object", "properties": {}, "$defs": {"Place": grown}}
    continued = continue_schema(latest, {"type": "object", "properties": {}, "$defs": {"Place": PLACE, "New": PLACE}})
    assert continued["$defs"]["Place"]["properties"]["zip"] == {"type": "string", "x-removed": True}
    assert continued["$defs"]["New"] == PLACE


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["object", "null", "string"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "properties", "items", "anyOf", "$defs", "additionalProperties", "x-type", "a"]),
            inner,
        )
    ),
)


@given(anything)
def test_a_schema_of_another_author_is_continued(latest):
    """Whatever it says: the record's own properties are all there, and compare as the record's."""
    newer = json_schema(Everything)
    for continued in (continue_schema(latest, newer), allow_nulls(latest, newer)):
        assert compare_schemas(continued, newer) == []
