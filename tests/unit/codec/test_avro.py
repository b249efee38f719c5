from contextlib import suppress
from decimal import Decimal
from unittest.mock import Mock

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.broker.registry import WriterSchema
from penstock.codec import avro, expansion
from penstock.codec.avro import MAX_DECIMAL_BYTES, AvroReader, AvroReaders
from penstock.codec.wire_format import encode_header
from penstock.contract.fault import Fault, Reason
from penstock.contract.rules import MAX_VALUES
from penstock.contract.schemas import avro_schema
from penstock.errors import RegistryUnreachable, SchemaUnknown
from penstock.pipelines.users import User
from tests.corpus.avro import number
from tests.unit.fakes import FakeSchemas
from tests.unit.records import Everything, Reading


def record(name, *types, **more):
    fields = [{"name": f"f{number}", "type": kind} for number, kind in enumerate(types)]
    return {"type": "record", "name": name, "fields": fields, **more}


def array(items):
    return {"type": "array", "items": items}


@pytest.mark.parametrize("one", [User, Everything, Reading])
def test_our_own_schemas_are_accepted(one):
    """What our producer writes with is safe."""
    assert AvroReader(avro_schema(one), 5).parsed["name"] == f"penstock.{one.__name__}"


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
def test_a_finite_schema_is_accepted(schema):
    """Arrays of non-empty items, and types that are reused without nesting."""
    assert AvroReader(schema, 5).parsed is not None


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
def test_an_array_of_empty_items_is_rejected(schema):
    """A few bytes could declare 2^62 items, and none of them would ever be missing."""
    with pytest.raises(SchemaUnknown, match="schema 5 cannot be read: ValueError: a body may expand to more than"):
        AvroReader(schema, 5)


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
def test_a_recursive_type_is_rejected(schema):
    """A value of it may be as deep as it has bytes; its reader's stack may not."""
    with pytest.raises(SchemaUnknown, match="contains itself"):
        AvroReader(schema, 5)


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
def test_an_invalid_schema_is_rejected(schema):
    """It may have been registered by hand; it counts as unknown, and does not stop the job."""
    with pytest.raises(SchemaUnknown, match="schema 5 cannot be read"):
        AvroReader(schema, 5)


def test_a_schema_too_deep_to_be_read_is_rejected():
    """The depth of the schema itself is bounded too."""
    schema = "int"
    for _ in range(5000):
        schema = array(schema)
    with pytest.raises(SchemaUnknown, match="nested more than 64 levels deep"):
        AvroReader(schema, 5)


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
def test_any_schema_is_accepted_or_rejected(schema):
    """Whatever it is, only `SchemaUnknown` is raised."""
    with suppress(SchemaUnknown):
        AvroReader(schema, 5)


def read(schema, body, reader=None):
    return AvroReader(schema, 5).read(body, reader)


DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 400, "scale": 2}


@pytest.mark.parametrize("schema", [DECIMAL, {"type": "fixed", "name": "F", "size": 2} | {"logicalType": "decimal"}])
def test_a_decimal_is_read_with_its_scale(schema):
    """A decimal of bytes or of a fixed."""
    length = number(2) if schema["type"] == "bytes" else b""
    assert read(schema, length + b"\x04\xd2") == (Decimal(1234).scaleb(-schema.get("scale", 0)), 0)


@pytest.mark.parametrize("size", [1, 16, MAX_DECIMAL_BYTES])
def test_a_decimal_keeps_all_digits(size):
    """The largest and the smallest number of this many bytes are read without loss."""
    for unscaled in (2 ** (8 * size - 1) - 1, -(2 ** (8 * size - 1))):
        body = number(size) + unscaled.to_bytes(size, "big", signed=True)
        assert read(DECIMAL, body)[0] == Decimal(f"{unscaled}e-2")


@pytest.mark.parametrize("size", [MAX_DECIMAL_BYTES + 1, 400_000])
@pytest.mark.parametrize("kind", ["bytes", "fixed"])
def test_a_decimal_that_takes_long_is_not_computed(size, kind):
    """The time grows with the square of its size, and a value of 400 kB would take 40 seconds."""
    schema = DECIMAL | {"type": kind, "name": "F", "size": size}
    fault = read(schema, (number(size) if kind == "bytes" else b"") + b"\x7f" * size)
    assert (fault.reason, fault.schema_id) == (Reason.AVRO_MALFORMED, 5)
    assert fault.message == f"ValueError: a decimal of {size:,} bytes, more than {MAX_DECIMAL_BYTES}"


def test_an_invalid_scale_is_no_error_of_the_reader():
    """A scale that no decimal has is a fault of each value."""
    for scale in (10**30, "x", None, [1]):
        assert read(DECIMAL | {"scale": scale}, number(1) + b"\x01").reason == Reason.AVRO_MALFORMED


def test_an_unknown_logical_type_is_its_underlying_type():
    """It is not converted, even if libraries learn of it later."""
    assert read({"type": "long", "logicalType": ["x"]}, number(7)) == (7, 0)
    assert read({"type": "bytes", "logicalType": "penstock-decimal"}, number(1) + b"a") == (b"a", 0)


def test_bytes_after_a_value_are_counted():
    """The caller decides what they mean."""
    assert read("string", number(2) + b"hi" + b"abc") == ("hi", 3)


def nested_by_name(levels, fan, leaf):
    """A record of `fan` records of `fan` records ..., all but the first of which are referenced by name."""
    kind = leaf
    for level in range(levels):
        first = f"R{level - 1}" if level else leaf
        kind = record(f"R{level}", kind, *[first] * (fan - 1))
    return kind


@pytest.mark.parametrize(
    "schema",
    [
        nested_by_name(7, 10, "null"),
        nested_by_name(3, 10, "null"),
        array(record("R", "int", *["null"] * 30)),
        array(nested_by_name(2, 10, "null")),
        {"type": "map", "values": record("R", *["null"] * 31)},
        ["null", array(record("R", ["null", nested_by_name(2, 6, "null")]))],
    ],
    ids=lambda schema: repr(schema)[:60],
)
def test_a_schema_whose_values_expand_from_few_bytes_is_rejected(schema):
    """Types referenced by name let a byte stand for thousands of values; nothing is read with such a schema."""
    with pytest.raises(SchemaUnknown, match="a body may expand to more than 1,000 values plus 16 per byte"):
        AvroReader(schema, 5)


@pytest.mark.parametrize(
    "schema",
    [
        record("Wide", *["int"] * 3000),
        array(record("R", *[["null", "string"]] * 500)),
        array(["null", record("R", *["double"] * 500)]),
        {"type": "map", "values": record("R", "null", *["int"] * 200)},
        nested_by_name(7, 10, "int"),
    ],
    ids=lambda schema: repr(schema)[:60],
)
def test_a_wide_schema_is_accepted(schema):
    """A value with many fields is safe if each takes a byte."""
    assert AvroReader(schema, 5).parsed is not None


def chain(length):
    """A record that is flat as it is written, and deep as it is read."""
    return record("T", *["int"] * 99, *[record(f"C{at}", f"C{at - 1}" if at else "int") for at in range(length)])


def test_depth_counts_types_referenced_by_name():
    """A reader recurses through them, on an unprotected stack."""
    assert AvroReader(chain(expansion.MAX_DEPTH - 2), 5).parsed is not None
    with pytest.raises(SchemaUnknown, match="nested more than 64 levels deep"):
        AvroReader(chain(expansion.MAX_DEPTH - 1), 5)


@pytest.mark.parametrize(
    "schema",
    [
        record("R", *["int"] * avro.MAX_NODES),
        ["null"] * avro.MAX_NODES,
        {"type": "enum", "name": "E", "symbols": [f"S{at}" for at in range(avro.MAX_NODES)]},
    ],
    ids=["record", "union", "enum"],
)
def test_a_schema_has_a_bounded_number_of_parts(schema):
    """The cost of one record's schema is bounded."""
    with pytest.raises(SchemaUnknown, match="it has more than 10,000 types, fields and symbols"):
        AvroReader(schema, 5)


@pytest.mark.parametrize("size", [-1, True, 1.5, "7", None])
def test_a_fixed_has_a_valid_size(size):
    """A whole number of bytes from 0."""
    with pytest.raises(SchemaUnknown, match="the size of F is not a number of bytes"):
        AvroReader({"type": "fixed", "name": "F", "size": size}, 5)


def items(count, item):
    """An array's block with this many items."""
    return number(count) + item * count + b"\0"


TOO_MANY = {
    "ints": (array("int"), items(MAX_VALUES, b"\2")),
    "a block of a negative count": (
        array("int"),
        number(-MAX_VALUES) + number(MAX_VALUES) + b"\2" * MAX_VALUES + b"\0",
    ),
    "arrays": (array(array("int")), items(MAX_VALUES, b"\0")),
    "many arrays": (array(array("int")), items(10_000, items(10, b"\2"))),
    "many blocks": (array("int"), items(1, b"\2")[:-1] * MAX_VALUES + b"\0"),
    "records": (array(record("R", "int", "null")), items(40_000, b"\2")),
    "maps": ({"type": "map", "values": "null"}, items(60_000, b"\0")),
    "a union": (array(["null", record("R", *["int"] * 9)]), items(10_001, b"\2" + b"\2" * 9)),
    "records by name": (nested_by_name(6, 10, "int"), b"\2" * 900_000),
    "all kinds": (
        array(
            record(
                "R",
                *("boolean", "long", "float", "double", "bytes", "string"),
                {"type": "fixed", "name": "F", "size": 2},
                {"type": "enum", "name": "E", "symbols": ["A"]},
            )
        ),
        items(12_000, b"\1\2" + b"\0" * 12 + b"\2a\4bb" + b"ff\0"),
    ),
}


@pytest.mark.parametrize("case", TOO_MANY)
def test_a_value_with_too_many_items_is_not_decoded(case, monkeypatch):
    """They are counted first, without creating any value, and the contract's rule on size rejects it."""
    schema, body = TOO_MANY[case]
    monkeypatch.setattr(avro.fastavro, "schemaless_reader", None)
    fault = read(schema, body)
    assert (fault.reason, fault.rules, fault.schema_id) == (Reason.CONTRACT_BROKEN, (":size",), 5)
    assert fault.message == "record: the value holds more than 100,000 values"


JUST_FINE = {
    "ints": (array("int"), items(MAX_VALUES - 1, b"\2"), MAX_VALUES - 1),
    "a block of a negative count": (array("int"), number(-9) + number(9) + b"\2" * 9 + b"\0", 9),
    "doubles": (array("double"), items(90_000, b"\0" * 8), 90_000),
    "texts": (array("string"), items(1000, number(900) + b"x" * 900), 1000),
    "maps": (
        {"type": "map", "values": "int"},
        number(9000) + b"".join(number(4) + b"%04d\2" % at for at in range(9000)) + b"\0",
        9000,
    ),
    "a union": (array(["null", record("R", *["int"] * 9)]), items(9000, b"\2" + b"\2" * 9), 9000),
}


@pytest.mark.parametrize("case", JUST_FINE)
def test_a_large_value_is_decoded(case):
    """A value with many bytes, or with many values, is read as usual."""
    schema, body, length = JUST_FINE[case]
    value, left_bytes = read(schema, body)
    assert (len(value), left_bytes) == (length, 0)


def test_a_value_without_arrays_is_not_counted(monkeypatch):
    """Most topics have no additional cost, whatever the size of their values."""
    monkeypatch.setattr(expansion, "check", None)
    assert read(record("R", "string"), number(900_000) + b"x" * 900_000) == ({"f0": "x" * 900_000}, 0)
    assert read(array("string"), items(90, number(1000) + b"x" * 1000))[1] == 0


CONSTANT = {
    "boolean": ("boolean", 1),
    "float": ("float", 4),
    "double": ("double", 8),
    "fixed": ({"type": "fixed", "name": "F", "size": 3}, 3),
    "record": (record("R", "null", "double", record("S", "boolean"), "S"), 10),
    "by name": ("F", 3),
    "logical": ({"type": "fixed", "name": "D", "size": 9, "logicalType": "decimal"}, 9),
    "record called array": (record("array", "boolean"), 1),
}


@pytest.mark.parametrize("case", CONSTANT)
@pytest.mark.parametrize("count", [2**62, -(2**62), MAX_VALUES, 5])
def test_an_array_that_declares_more_items_than_it_has_is_rejected_quickly(case, count, monkeypatch):
    """A reader skips items of a constant size without noticing the end, so the array is checked before."""
    item, _ = CONSTANT[case]
    schema = record("T", "int", {"type": "fixed", "name": "F", "size": 3} if case == "by name" else "int", array(item))
    start = b"\2abc" if case == "by name" else b"\2\2"
    monkeypatch.setattr(avro.fastavro, "schemaless_reader", None)
    for inner in (array(item), {"type": "map", "values": array(item)}, ["null", array(item)]):
        schema["fields"][2]["type"] = inner
        around = number(1) + number(1) + b"k" if isinstance(inner, dict) and "values" in inner else b""
        around = b"\2" if isinstance(inner, list) else around
        fault = read(schema, start + around + number(count) + (number(1) if count < 0 else b"") + b"\0\0\0")
        assert fault.rules == (":size",) or fault.message == "EOFError: unexpected end of the value"


@pytest.mark.parametrize("case", CONSTANT)
def test_an_array_of_constant_size_items_is_read(case):
    """It contains what was written, in one block or in many."""
    item, size = CONSTANT[case]
    first = {"type": "fixed", "name": "F", "size": 3} if case == "by name" else "int"
    schema, start = record("T", first, array(item), "string"), b"abc" if case == "by name" else b"\2"
    block = number(40) + b"\0" * size * 40
    value, left_bytes = read(schema, start + block + number(-2) + number(2 * size) + b"\0" * size * 2 + b"\0\4hi")
    assert (len(value["f1"]), value["f2"], left_bytes) == (42, "hi", 0)
    resolved = read(schema, start + block + b"\0\4hi", fastavro.parse_schema(record("T", first)))
    assert resolved == ({"f0": value["f0"]}, 0)


def test_an_overlong_number_hides_nothing():
    """Readers disagree on a number of more than ten bytes, so what follows it is not counted."""
    body = items(1, b"\x82" + b"\x80" * 20 + b"\0")[:-1] + items(900_000, b"\2")
    assert read(array("int"), body).message == "ValueError: a number is longer than 10 bytes"


def test_a_message_names_a_schema_by_its_name():
    """A fault's message is short, however large the schema."""
    fault = read(record("Room" + "x" * 50, *["int"] * 5000), b"", AvroReader(record("User", "int"), 6).parsed)
    assert fault.message.startswith("SchemaResolutionError: Schema mismatch: record Roomxxx")
    assert len(fault.message) <= 1000
    with pytest.raises(SchemaUnknown) as refused:
        AvroReader("x" * 5000, 5)
    assert len(refused.value.message) <= 1000


def test_a_rejected_schema_is_measured_once(monkeypatch):
    """A topic full of its values does not measure it again for each; JSON Schemas are not measured at all."""
    measured = Mock(side_effect=avro.AvroReader)
    monkeypatch.setattr(avro, "AvroReader", measured)
    schemas = FakeSchemas(
        {5: WriterSchema("avro", array("null")), 6: WriterSchema("avro", "int"), 7: WriterSchema("json")}
    )
    readers = AvroReaders(schemas)
    for _ in range(3):
        with pytest.raises(SchemaUnknown, match="schema 5 cannot be read"):
            readers.find(5)
        assert readers.find(6).parsed == "int"
        assert readers.find(7) is None
    assert measured.call_count == 2
    assert schemas.asked == [5, 6, 7]


def test_an_unknown_id_may_be_known_later():
    """Only what the registry has returned is cached."""
    known = {}
    readers = AvroReaders(FakeSchemas(known))
    known = readers._schemas._writers
    with pytest.raises(SchemaUnknown, match="no schema 5"):
        readers.find(5)
    known[5] = WriterSchema("avro", "int")
    assert readers.find(5).parsed == "int"


def test_the_schema_of_a_value_is_looked_up_once():
    """By its header; a JSON Schema has no reader."""
    schemas = FakeSchemas({6: WriterSchema("avro", "int"), 7: WriterSchema("json")})
    readers = AvroReaders(schemas)
    for body in (b"a", b"b"):
        assert readers.find_for(encode_header(6) + body) == (6, readers.find(6))
        assert readers.find_for(encode_header(7) + body) == (7, None)
    assert schemas.asked == [6, 7]


def test_a_header_without_a_usable_schema_is_a_fault():
    """Truncated, unknown, or not safe to read with; an unavailable registry is an exception."""
    readers = AvroReaders(FakeSchemas({5: WriterSchema("avro", array("null"))}))
    assert readers.find_for(b"\0\0") == Fault(Reason.FRAME_BROKEN, "truncated schema-registry header: 2 of 5 bytes")
    assert readers.find_for(encode_header(9)) == Fault(Reason.SCHEMA_UNKNOWN, "no schema 9", schema_id=9)
    for _ in range(2):
        fault = readers.find_for(encode_header(5))
        assert (fault.reason, fault.schema_id) == (Reason.SCHEMA_UNKNOWN, 5)
    with pytest.raises(RegistryUnreachable):
        AvroReaders(FakeSchemas(error=RegistryUnreachable("away"))).find_for(encode_header(6))
