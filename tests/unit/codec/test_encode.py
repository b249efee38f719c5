from io import BytesIO

import fastavro
import msgspec
import pytest
from hypothesis import given

from penstock.codec.encode import build_serializer
from penstock.codec.records import Decoder
from penstock.codec.wire_format import encode_header
from penstock.contract.schemas import avro_schema
from penstock.pipelines.users import User
from tests.unit.fakes import AVRO_ID, JSON_ID, FakeSchemas
from tests.unit.records import Everything, Reading
from tests.unit.strategies import everything, to_ms, users

USERS = Decoder(User, FakeSchemas.of(User))
EVERYTHING = Decoder(Everything, FakeSchemas.of(Everything))
as_json = build_serializer(User, "json", JSON_ID)
as_avro = build_serializer(User, "avro", AVRO_ID)
any_as_json = build_serializer(Everything, "json", JSON_ID)
any_as_avro = build_serializer(Everything, "avro", AVRO_ID)


def test_json_is_the_header_and_the_fields():
    """A JSON value is the wire-format header and an object of the record's fields."""
    value = build_serializer(Reading, "json", 258)(Reading(sensor=1, celsius=2.5))
    assert value == b'\x00\x00\x00\x01\x02{"sensor":1,"celsius":2.5}'


def test_avro_is_the_header_and_the_datum():
    """An Avro value is the wire-format header and exactly one datum of the record's schema."""
    value = build_serializer(Reading, "avro", 7)(Reading(sensor=1, celsius=2.5))
    body = BytesIO(value.removeprefix(encode_header(7)))
    assert fastavro.schemaless_reader(body, avro_schema(Reading), None) == {"sensor": 1, "celsius": 2.5}
    assert body.read() == b""


@given(users())
def test_json_with_a_header_round_trips(user):
    """The stream decodes the producer's JSON to the same user."""
    assert USERS.decode(as_json(user)) == user


@given(users())
def test_plain_json_round_trips(user):
    """The stream decodes JSON without a header, from another producer, to the same user."""
    assert USERS.decode(msgspec.json.encode(user)) == user


@given(users())
def test_avro_with_a_header_round_trips(user):
    """The stream decodes the producer's Avro to the same user, with times in milliseconds."""
    expected = msgspec.structs.replace(user, dob=to_ms(user.dob), registered_date=to_ms(user.registered_date))
    assert USERS.decode(as_avro(user)) == expected


@given(everything())
def test_every_type_round_trips_through_json(record):
    """JSON preserves every type and None, with times in microseconds."""
    assert EVERYTHING.decode(any_as_json(record)) == record


@given(everything())
def test_every_type_round_trips_through_avro(record):
    """Avro preserves every type and None, with times in milliseconds."""
    maybe = record.maybe_moment and to_ms(record.maybe_moment)
    expected = msgspec.structs.replace(record, moment=to_ms(record.moment), maybe_moment=maybe)
    assert EVERYTHING.decode(any_as_avro(record)) == expected


@pytest.mark.parametrize("wire_format", ["json", "avro"])
def test_every_captured_user_round_trips(captured_users, wire_format):
    """Every user of a captured response is decoded as it was sent, in both formats."""
    from penstock.pipelines.users import from_source

    write = as_json if wire_format == "json" else as_avro
    for entry in captured_users:
        user = msgspec.convert(from_source(entry), User)
        assert USERS.decode(write(user)) == user
