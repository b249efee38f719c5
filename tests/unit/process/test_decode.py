import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.broker.frame import pack
from penstock.broker.registry import WriterSchema
from penstock.contract.reject import Fault, Reason, Stage
from penstock.contract.schemas import avro_schema
from penstock.errors import RegistryUnreachable
from penstock.pipelines.users import User
from penstock.process.decode import Decoder
from penstock.produce.serialize import serializer
from tests.unit.fakes import AVRO_ID, JSON_ID, FakeSchemas
from tests.unit.records import Reading

GOOD = Reading(sensor=3, celsius=21.5)
GOOD_JSON = msgspec.json.encode(GOOD)
GOOD_AVRO = serializer(Reading, "avro", AVRO_ID)(GOOD)


@pytest.fixture
def decoder() -> Decoder:
    return Decoder(Reading, FakeSchemas.of(Reading))


@pytest.mark.parametrize("value", [GOOD_JSON, pack(JSON_ID) + GOOD_JSON, GOOD_AVRO], ids=["plain", "json", "avro"])
def test_a_good_value_is_its_record(decoder, value):
    """Plain JSON, framed JSON and framed Avro all give the record."""
    assert decoder.decode(value) == GOOD


def test_fields_that_the_record_has_no_use_for_are_passed_over(decoder):
    """A newer producer may send more."""
    assert decoder.decode(b'{"sensor":3,"celsius":21.5,"new":{"a":[1]}}') == GOOD


@pytest.mark.parametrize(
    ("value", "reason", "message", "schema_id"),
    [
        (None, Reason.VALUE_MISSING, "null", None),
        (b"", Reason.VALUE_MISSING, "empty", None),
        (b"\x00", Reason.FRAME_BROKEN, "1 of 5", None),
        (b"\x00\x00\x00\x00", Reason.FRAME_BROKEN, "4 of 5", None),
        (pack(9) + GOOD_JSON, Reason.SCHEMA_UNKNOWN, "no schema 9", 9),
        (b"{", Reason.JSON_MALFORMED, "truncated", None),
        (b"hello", Reason.JSON_MALFORMED, "malformed", None),
        (b'{"sensor":3,"celsius":21.5}x', Reason.JSON_MALFORMED, "trailing", None),
        (b"[" * 100_000, Reason.JSON_MALFORMED, "recursion", None),
        (b'{"sensor":1,"celsius":"x"', Reason.JSON_MALFORMED, "truncated", None),
        (b" " * 1_000_001, Reason.VALUE_TOO_LARGE, "1000001 bytes", None),
        (b'{"x":' + b"[" * 100_000, Reason.JSON_MALFORMED, "recursion", None),
        (b'{"sensor":\xff}', Reason.JSON_MALFORMED, "", None),
        (pack(JSON_ID), Reason.JSON_MALFORMED, "truncated", JSON_ID),
        (pack(AVRO_ID), Reason.AVRO_MALFORMED, "EOFError", AVRO_ID),
        (GOOD_AVRO[:-1], Reason.AVRO_MALFORMED, "", AVRO_ID),
        (GOOD_AVRO + b"\x00", Reason.AVRO_MALFORMED, "bytes are left", AVRO_ID),
        (b"{}", Reason.CONTRACT_BROKEN, "sensor: is missing; celsius: is missing", None),
        (b'{"sensor":-1,"celsius":1}', Reason.CONTRACT_BROKEN, "sensor: Expected `int` >= 0", None),
        (b'{"sensor":' + b"1" * 400 + b',"celsius":1}', Reason.CONTRACT_BROKEN, "sensor: Expected `int` <=", None),
        (b'{"sensor":' + b"1" * 5000 + b',"celsius":1}', Reason.JSON_MALFORMED, "out of range", None),
        (b'{"sensor":1,"celsius":"x"}', Reason.CONTRACT_BROKEN, "celsius: Expected `float`, got `str`", None),
        (pack(JSON_ID) + b"[]", Reason.CONTRACT_BROKEN, "Expected `object`", JSON_ID),
        (pack(AVRO_ID) + b"\x01" + b"\x00" * 8, Reason.CONTRACT_BROKEN, "sensor: Expected", AVRO_ID),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_is_wrong_with_a_value_is_told(decoder, value, reason, message, schema_id):
    """Every kind of bad value has its reason, a message that says what is wrong, and the id it was written with."""
    fault = decoder.decode(value)
    assert isinstance(fault, Fault)
    assert (fault.reason, fault.schema_id, fault.stage) == (reason, schema_id, Stage.DECODE)
    assert message in fault.message


def test_every_reason_is_found_by_the_test_above():
    """No reason is without an example."""
    (mark,) = [mark for mark in test_what_is_wrong_with_a_value_is_told.pytestmark if mark.name == "parametrize"]
    assert {case[1] for case in mark.args[1]} == set(Reason)


def test_avro_is_read_by_the_schema_it_was_written_with():
    """Fields in another order, more of them, and smaller numbers are read by their own schema."""
    writer = {
        "type": "record",
        "name": "Reading",
        "namespace": "penstock",
        "fields": [
            {"name": "celsius", "type": "float"},
            {"name": "colour", "type": "string"},
            {"name": "sensor", "type": "int"},
        ],
    }
    decoder = Decoder(Reading, FakeSchemas({5: WriterSchema("avro", writer)}))
    value = pack(5) + b"\x00\x00\xac\x41" + b"\x06red" + b"\x06"
    assert decoder.decode(value) == GOOD


@pytest.mark.parametrize(
    "schema",
    [
        "string",
        {"type": "record", "name": "Other", "fields": [{"name": "celsius", "type": "double"}]},
        {"type": "array", "items": "int"},
    ],
    ids=repr,
)
def test_avro_of_something_else_is_set_aside(schema):
    """A value written with the schema of another thing is set aside, whatever its bytes."""
    decoder = Decoder(Reading, FakeSchemas({5: WriterSchema("avro", schema)}))
    assert decoder.decode(pack(5) + b"\x06abc").reason in (Reason.AVRO_MALFORMED, Reason.CONTRACT_BROKEN)


@pytest.mark.parametrize(
    "schema",
    [{"type": "record", "name": "x", "fields": [{"name": "a", "type": "no.Such"}]}, {"type": "record"}],
    ids=repr,
)
def test_a_schema_that_cannot_be_read_is_as_good_as_none(schema):
    """A schema that is wrong, or refers to others, sets the record aside instead of stopping the job."""
    fault = Decoder(Reading, FakeSchemas({5: WriterSchema("avro", schema)})).decode(pack(5) + b"\x00")
    assert (fault.reason, fault.schema_id) == (Reason.SCHEMA_UNKNOWN, 5)
    assert "schema 5 cannot be read" in fault.message


def test_a_schema_is_asked_for_once():
    """The registry is not asked for every record."""
    schemas = FakeSchemas({5: WriterSchema("avro", avro_schema(Reading)), 6: WriterSchema("json", {})})
    decoder = Decoder(Reading, schemas)
    for _ in range(3):
        decoder.decode(pack(5) + GOOD_AVRO[5:])
        decoder.decode(pack(6) + GOOD_JSON)
        decoder.decode(GOOD_JSON)
    assert schemas.asked == [5, 6]


def test_a_registry_that_is_away_is_no_fault_of_the_record():
    """The batch fails and is done again: the record is not set aside."""
    decoder = Decoder(Reading, FakeSchemas(error=RegistryUnreachable("away")))
    with pytest.raises(RegistryUnreachable):
        decoder.decode(pack(5) + GOOD_JSON)
    assert decoder.decode(GOOD_JSON) == GOOD


frames = st.sampled_from([b"", pack(JSON_ID), pack(AVRO_ID), pack(9), b"\x00"])


@given(frames, st.binary(max_size=200))
@example(pack(AVRO_ID), b"\x02" + b"\xff" * 9 + b"\x7f")
@example(b"", b"\xff\xfe{\x00")
def test_garbage_never_raises(frame, body):
    """Whatever the bytes are, framed or not, there is a record or a fault, and a fault has a message."""
    found = Decoder(User, FakeSchemas.of(User)).decode(frame + body)
    assert isinstance(found, User) or found.message


@given(st.data())
def test_a_cut_or_changed_value_never_raises(data):
    """A good value with a byte changed, or the end gone, gives a record or a fault."""
    value = bytearray(data.draw(st.sampled_from([GOOD_JSON, GOOD_AVRO, pack(JSON_ID) + GOOD_JSON])))
    at = data.draw(st.integers(0, len(value) - 1))
    value[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(value)))
    decoder = Decoder(Reading, FakeSchemas.of(Reading))
    for changed in (bytes(value), bytes(value[:cut])):
        assert isinstance(decoder.decode(changed), Reading | Fault)
