from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.contract.schemas import avro_schema
from penstock.errors import SchemaUnknown
from penstock.pipelines.users import User
from penstock.process import writer
from tests.unit.records import Everything, Reading


def record(name, *types, **more):
    fields = [{"name": f"f{number}", "type": kind} for number, kind in enumerate(types)]
    return {"type": "record", "name": name, "fields": fields, **more}


def array(items):
    return {"type": "array", "items": items}


@pytest.mark.parametrize("one", [User, Everything, Reading])
def test_our_own_schemas_are_read(one):
    """What our producer writes with is safe."""
    assert writer.parsed(avro_schema(one), 5)["name"] == f"penstock.{one.__name__}"


@pytest.mark.parametrize(
    "schema",
    [
        "null",
        array("string"),
        array(array("int")),
        array(["null", "int"]),
        array({"type": "map", "values": "null"}),
        array({"type": "enum", "name": "E", "symbols": ["A"]}),
        array({"type": "fixed", "name": "F", "size": 4}),
        array(record("R", "null", "int")),
        record("R", record("S", "int"), array("S")),
        record("R", {"type": "fixed", "name": "F", "size": 4}, array("F")),
        record("R", "null", record("Nothing")),
        record("R", record("S", "int"), "S", ["null", "S"]),
        record("R", {"type": "int", "logicalType": "date"}),
        record("R", {"type": "enum", "name": "a.E", "symbols": ["A"]}, array("a.E"), namespace="b"),
        record("a.R", record("S", "int"), "a.S"),
    ],
    ids=repr,
)
def test_what_ends_is_read(schema):
    """Arrays of something, and types that are used again beside themselves, are fine."""
    assert writer.parsed(schema, 5) is not None


@pytest.mark.parametrize(
    "schema",
    [
        array("null"),
        array(array("null")),
        array(record("Nothing")),
        array(record("Nothing", "null", "null")),
        array({"type": "fixed", "name": "F", "size": 0}),
        record("R", record("Nothing"), array("Nothing")),
        record("R", {"type": "map", "values": array("null")}),
        record("R", ["null", array("null")]),
        record("R", record("a.N"), record("b.N", "int"), array("a.N")),
        record("R", record("b.N", "int"), record("a.N"), array("a.N")),
        record("R", {"type": "fixed", "name": "a.N", "size": 0}, record("b.N", "int"), array("a.N")),
        {"type": "error", "name": "E", "fields": [{"name": "f", "type": array("null")}]},
    ],
    ids=repr,
)
def test_an_array_of_nothing_is_refused(schema):
    """A few bytes could say that it has 2^62 items, and none of them would ever be missing."""
    with pytest.raises(SchemaUnknown, match="schema 5 cannot be read: ValueError: an array whose items take no bytes"):
        writer.parsed(schema, 5)


@pytest.mark.parametrize(
    "schema",
    [
        record("Node", ["null", "Node"]),
        record("Node", "Node"),
        record("Node", array("Node")),
        record("Node", {"type": "map", "values": "Node"}),
        record("Node", record("Other", ["null", "Node"])),
        record("Node", ["null", "a.Node"], namespace="a"),
        record("a.Node", ["null", "Node"]),
        record("a.Node", record("b.Node", "int"), ["null", "a.Node"]),
        record("a.Node", {"type": "fixed", "name": "b.Node", "size": 4}, ["null", "a.Node"]),
    ],
    ids=repr,
)
def test_a_type_inside_of_itself_is_refused(schema):
    """A value of it may be as deep as it has bytes, and its reader's stack is not."""
    with pytest.raises(SchemaUnknown, match="is used inside of itself"):
        writer.parsed(schema, 5)


_HIDDEN = {"__fastavro_parsed": True, "__named_schemas": {"Node": record("Node", ["null", "Node"])}}


@pytest.mark.parametrize(
    "schema",
    [
        None,
        5,
        True,
        {},
        "no.Such",
        {"type": "array"},
        {"type": "map"},
        {"type": ["null"]},
        {"type": {"type": "int"}},
        {"type": "enum", "name": "a"},
        {"type": "fixed", "name": "a"},
        {"type": "fixed", "name": "a", "size": "x"},
        {"type": "record"},
        {"type": "record", "name": 5, "fields": []},
        {"type": "record", "name": "a", "fields": 5},
        {"type": "record", "name": "a", "fields": [5]},
        {"$schema": "http://json-schema.org/draft-07/schema#"},
        record("R", "no.Such"),
        record("R", ["null", "Node"], **_HIDDEN),
    ],
    ids=repr,
)
def test_what_is_no_schema_is_refused(schema):
    """It may be put into a registry by hand; it is as good as none, and no reason to stop."""
    with pytest.raises(SchemaUnknown, match="schema 5 cannot be read"):
        writer.parsed(schema, 5)


def test_a_schema_too_deep_to_be_read_is_refused():
    """Depth of the schema itself is bounded too."""
    schema = "int"
    for _ in range(5000):
        schema = array(schema)
    with pytest.raises(SchemaUnknown, match="RecursionError"):
        writer.parsed(schema, 5)


_KINDS = st.recursive(
    st.sampled_from(["null", "int", "string", "R", "a.R", "b.R", "N"]),
    lambda inner: (
        inner.map(array)
        | inner.map(lambda kind: {"type": "map", "values": kind})
        | st.lists(inner, max_size=2)
        | st.builds(record, st.sampled_from(["R", "a.R", "b.R", "N"]), inner)
        | st.dictionaries(st.sampled_from(["type", "items", "values", "name", "size", "fields"]), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(_KINDS)
def test_a_schema_is_read_or_refused(schema):
    """Whatever it is, nothing but `SchemaUnknown` is raised."""
    with suppress(SchemaUnknown):
        writer.parsed(schema, 5)
