"""JSON values as values of Avro schemas."""

import base64
import json
import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.broker.registry import WriterSchema
from penstock.codec.encode import encode_avro
from penstock.codec.values import ContentReader

LEAVES = [
    ("boolean", st.booleans()),
    ("string", st.text(max_size=5)),
    ("long", st.integers(-(2**63), 2**63 - 1)),
    ("double", st.floats(allow_nan=False, allow_infinity=False)),
    ("bytes", st.binary(max_size=5).map(lambda value: base64.b64encode(value).decode())),
    (
        {"type": "fixed", "size": 2},
        st.binary(min_size=2, max_size=2).map(lambda value: base64.b64encode(value).decode()),
    ),
    ({"type": "enum", "symbols": ["A", "B"]}, st.sampled_from("AB")),
    ({"type": "int", "logicalType": "date"}, st.dates().map(str)),
    ({"type": "long", "logicalType": "time-micros"}, st.times().map(lambda value: value.isoformat())),
    (
        {"type": "long", "logicalType": "timestamp-micros"},
        st.datetimes().map(lambda value: f"{value.isoformat()}Z"),
    ),
    ({"type": "long", "logicalType": "local-timestamp-micros"}, st.datetimes().map(lambda value: value.isoformat())),
    ({"type": "string", "logicalType": "uuid"}, st.uuids().map(str)),
    (
        {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2},
        st.decimals(min_value=-9999, max_value=9999, places=2).map(lambda value: str(value + 0)),
    ),
]


class Registry:
    """A registry of one schema."""

    def __init__(self, schema):
        self._schema = schema

    def writer(self, _schema_id):
        """Return the schema."""
        return WriterSchema("avro", self._schema)


@st.composite
def schemas_with_values(draw, depth=2):
    """Draw an Avro schema, and a value of it in the form in which values are shown."""
    form = draw(st.sampled_from(["leaf", "leaf", "array", "map", "record", "optional"] if depth else ["leaf"]))
    if form == "leaf":
        schema, values = draw(st.sampled_from(LEAVES))
        if isinstance(schema, dict) and schema["type"] in ("fixed", "enum"):
            schema = schema | {"name": f"N{draw(st.uuids()).hex}"}
        return schema, draw(values)
    if form == "record":
        members = draw(st.lists(schemas_with_values(depth - 1), min_size=1, max_size=3))
        fields = [{"name": f"f{at}", "type": schema} for at, (schema, _) in enumerate(members)]
        schema = {"type": "record", "name": f"R{draw(st.uuids()).hex}", "fields": fields}
        return schema, {f"f{at}": value for at, (_, value) in enumerate(members)}
    schema, value = draw(schemas_with_values(depth - 1))
    if form == "array":
        return {"type": "array", "items": schema}, draw(st.sampled_from([[], [value], [value, value]]))
    if form == "map":
        return {"type": "map", "values": schema}, {draw(st.text(max_size=3)): value}
    return (schema if isinstance(schema, list) else ["null", schema]), draw(st.sampled_from([value, value]))


@given(schemas_with_values())
def test_a_value_is_read_back_in_the_form_in_which_it_was_written(drawn):
    """A shown value can be sent again, whatever the schema nests."""
    schema, value = drawn
    shown = ContentReader(Registry(schema)).read(encode_avro(schema, 1, value))
    assert (shown.kind, shown.problem) == ("avro", "")
    assert json.dumps(shown.value) == json.dumps(value) or shown.value == value


ITEM = {
    "type": "record",
    "name": "Item",
    "fields": [
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}},
        {"name": "at", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}]},
    ],
}
ORDER = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "items", "type": {"type": "array", "items": ITEM}},
        {"name": "counts", "type": {"type": "map", "values": "int"}},
        {"name": "first", "type": ["null", "Item"]},
        {"name": "any", "type": ["null", "float", "double", "long", "bytes", "string"]},
    ],
}


def build_order(price="1.20", at=None, counts=None, **more):
    """Return an order."""
    return {"items": [{"price": price, "at": at}], "counts": counts or {}, "first": None, "any": None} | more


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (build_order("1.234"), r"items[0].price: has more than 2 digits after the point"),
        (build_order("123"), r"items[0].price: has more than 2 digits before the point"),
        (build_order("1e999999999"), r"items[0].price: has more than 2 digits before the point"),
        (build_order("1e-999999999"), r"items[0].price: has more than 2 digits after the point"),
        (build_order("NaN"), r"items[0].price: expected a decimal that is finite"),
        (build_order("x"), r"items[0].price: invalid decimal string"),
        (build_order(True), r"items[0].price: expected a decimal, as a text or a number"),
        (build_order(at="2026-01-01"), r"items[0].at: "),
        (build_order(at="2026-01-01T00:00:00"), r"items[0].at: expected `datetime` with a timezone component"),
        (build_order(at="2026-01-01T00:00:00.0001Z"), r"items[0].at: has more than three digits of a second"),
        (build_order(at=5), r"items[0].at: expected a text"),
        (build_order(counts={"a b": 2**31}), r'counts["a b"]: has more than 32 bits'),
        (build_order(counts={"a": "1"}), r'counts["a"]: expected a whole number'),
        (build_order(first={"price": "1"}), r"first.at: is missing"),
        (build_order(extra=1), r"extra: unknown field: expected items, counts, first, any"),
        (build_order(any=[]), r"any: expected one of null, float, double, long, bytes, string"),
        ([], r"value: expected an object"),
    ],
)
def test_a_value_that_is_not_of_the_schema_is_named_by_its_path(value, problem):
    """Whatever part of it is wrong."""
    with pytest.raises(ValueError, match=f"^{re.escape(problem)}"):
        encode_avro(ORDER, 1, value)


@pytest.mark.parametrize("value", [1, 1.5, "text", "aGk=", None])
def test_a_branch_that_reads_a_value_exactly_is_taken(value):
    """A whole number is a long, another a double, and a text is a string though it might be base64."""
    shown = ContentReader(Registry(ORDER)).read(encode_avro(ORDER, 1, build_order(any=value)))
    assert json.dumps(shown.value["any"]) == json.dumps(value)


def test_a_named_type_used_again_and_a_decimal_written_as_a_number_are_read():
    """A name stands for its type, and a number loses no digit."""
    order = build_order(first={"price": Decimal("-0.1"), "at": "2026-01-01T00:00:00.125Z"})
    shown = ContentReader(Registry(ORDER)).read(encode_avro(ORDER, 1, order))
    assert shown.value["first"] == {"price": "-0.10", "at": "2026-01-01T00:00:00.125000Z"}


def test_branches_are_tried_within_bounds():
    """A schema whose branches double at every level is refused, and does not hang."""
    schema, value = "null", 1
    for level in range(17):
        first = {"type": "record", "name": f"A{level}", "fields": [{"name": "r", "type": schema}]}
        branches = [f"A{level - 1}", f"B{level - 1}"] if level else "null"
        second = {"type": "record", "name": f"B{level}", "fields": [{"name": "r", "type": branches}]}
        schema, value = [first, second], {"r": value}
    with pytest.raises(ValueError, match="more than 100,000 values and branches of unions to try"):
        encode_avro(schema, 1, value)


@pytest.mark.parametrize("logical", ["date", "decimal", "timestamp-millis", "unknown"])
def test_a_logical_type_on_a_type_that_it_is_not_for_means_nothing(logical):
    """Avro reads such a value as its underlying type, and so is it written."""
    schema = {"type": "string", "logicalType": logical}
    assert ContentReader(Registry(schema)).read(encode_avro(schema, 1, "text")).value == "text"
