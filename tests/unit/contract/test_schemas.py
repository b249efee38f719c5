from io import BytesIO

import fastavro
import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from penstock.contract.fields import fields
from penstock.contract.record import Arrival
from penstock.contract.schemas import avro_schema, json_schema, spark_ddl
from penstock.pipelines.users import User
from tests.unit.records import Everything
from tests.unit.strategies import everything, json_values, to_ms, users

USER = jsonschema.Draft7Validator(json_schema(User))
EVERYTHING = jsonschema.Draft7Validator(json_schema(Everything))


@pytest.mark.parametrize("record", [User, Everything])
def test_json_schema_is_draft_7_and_self_contained(record):
    """The JSON Schema is valid draft-07, refers to nothing outside itself, and has every field."""
    schema = json_schema(record)
    jsonschema.Draft7Validator.check_schema(schema)
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert "$ref" not in msgspec.json.encode(schema).decode()
    assert list(schema["properties"]) == [field.name for field in fields(record)]
    assert schema["required"] == [field.name for field in fields(record) if not field.nullable]


def test_json_schema_has_the_marks():
    """Key and personal data are marked where the registry's readers see it, and only there."""
    properties = json_schema(User)["properties"]
    assert [name for name, value in properties.items() if "x-key" in value] == ["id"]
    assert {name for name, value in properties.items() if "x-personal" in value} == {
        field.name for field in fields(User) if field.personal
    }


def test_rendering_a_schema_twice_gives_the_same():
    """Rendering does not change the record."""
    assert json_schema(User) == json_schema(User)
    assert avro_schema(User) == avro_schema(User)


@given(users())
def test_json_schema_accepts_every_user(user):
    """What satisfies the contract satisfies its JSON Schema."""
    USER.validate(msgspec.json.decode(msgspec.json.encode(user)))


@given(everything())
def test_json_schema_accepts_every_type(record):
    """What satisfies the contract satisfies its JSON Schema, for every type and None."""
    EVERYTHING.validate(msgspec.json.decode(msgspec.json.encode(record)))


@given(st.data())
def test_json_schema_rejects_only_what_the_contract_rejects(data):
    """A message with one field changed to anything, or removed, passes the schema if it passes the contract.

    The reverse holds too, except for what JSON Schema accepts and the contract does not: any text where the format is
    UUID or date-time, and a number such as 5.0 where the type is integer.
    """
    fields_of = msgspec.json.decode(msgspec.json.encode(data.draw(everything())))
    name = data.draw(st.sampled_from(sorted(fields_of)))
    if data.draw(st.booleans()):
        fields_of[name] = data.draw(json_values)
    else:
        del fields_of[name]
    try:
        msgspec.json.decode(msgspec.json.encode(fields_of), type=Everything)
    except msgspec.ValidationError:
        value = fields_of.get(name)
        is_whole_float = isinstance(value, float) and value.is_integer()
        is_beyond_schema = name.endswith(("id", "moment")) or (is_whole_float and name.endswith(("small", "big")))
        assert is_beyond_schema or not EVERYTHING.is_valid(fields_of)
    else:
        EVERYTHING.validate(fields_of)


def test_avro_schema_of_each_type():
    """Each type has its Avro type; None makes a union that starts with null and defaults to it."""
    types = {field["name"]: field["type"] for field in avro_schema(Everything)["fields"]}
    uuid = {"type": "string", "logicalType": "uuid"}
    moment = {"type": "long", "logicalType": "timestamp-millis"}
    expected = {"text": "string", "id": uuid, "moment": moment, "small": "int", "big": "long"}
    expected |= {"ratio": "double", "flag": "boolean"}
    assert types == expected | {"other_id": uuid} | {f"maybe_{name}": ["null", it] for name, it in expected.items()}
    assert all(
        field["default"] is None for field in avro_schema(Everything)["fields"] if field["name"].startswith("maybe_")
    )


@pytest.mark.parametrize("record", [User, Everything])
def test_fastavro_accepts_the_avro_schema(record):
    """The Avro schema parses, and has the record's name and descriptions."""
    schema = avro_schema(record)
    fastavro.parse_schema(schema)
    assert (schema["namespace"], schema["name"]) == ("penstock", record.__name__)
    assert schema["doc"] == record.__doc__
    assert [item["doc"] for item in schema["fields"]] == [field.description for field in fields(record)]


@given(everything())
def test_avro_round_trips_every_type(record):
    """Timestamps to the millisecond."""
    schema = fastavro.parse_schema(avro_schema(Everything))
    body = BytesIO()
    fastavro.schemaless_writer(body, schema, structs.asdict(record))
    body.seek(0)
    read = msgspec.convert(fastavro.schemaless_reader(body, schema, schema), Everything)
    maybe = record.maybe_moment and to_ms(record.maybe_moment)
    assert read == structs.replace(record, moment=to_ms(record.moment), maybe_moment=maybe)


def test_spark_ddl_of_each_type():
    """Each type has its Spark type; only what may be None may be null."""
    assert spark_ddl(Everything) == (
        "id STRING NOT NULL, text STRING NOT NULL, other_id STRING NOT NULL, moment TIMESTAMP NOT NULL, "
        "small INT NOT NULL, big BIGINT NOT NULL, ratio DOUBLE NOT NULL, flag BOOLEAN NOT NULL, "
        "maybe_text STRING, maybe_id STRING, maybe_moment TIMESTAMP, maybe_small INT, maybe_big BIGINT, "
        "maybe_ratio DOUBLE, maybe_flag BOOLEAN"
    )


def test_spark_ddl_of_an_arrival():
    """Positions have the types of Kafka's columns."""
    assert spark_ddl(Arrival) == (
        "ingested_at TIMESTAMP NOT NULL, kafka_partition INT NOT NULL, kafka_offset BIGINT NOT NULL"
    )
