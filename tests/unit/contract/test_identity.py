"""What identifies a record: its fields, the text of a Kafka key, and back."""

import re
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from penstock.codec.records import Decoder
from penstock.contract.identity import identity_of
from penstock.contract.record import KEY, Arrival, Digits, Record
from penstock.contract.rules import build_value_check, latest_past, validate_record
from penstock.contract.violation import Rule, Violation
from penstock.pipelines.users import User
from tests.unit.fakes import FakeSchemas
from tests.unit.keyed import Sample, build_record, key_moments, keyed_records
from tests.unit.records import Everything, Reading, Side
from tests.unit.strategies import everything, zones

ID = UUID("0a1b2c3d-0000-4000-8000-00000000abcd")
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
SAMPLE = Sample(sensor="a", at=NOON, celsius=1.5)


@pytest.mark.parametrize("rules", [Meta(), Meta(min_length=1), Meta(min_length=1, max_length=65_535)])
def test_a_text_key_that_cassandra_may_reject_is_rejected(rules):
    """A partition key has 1 to 65,535 bytes; a UTF-8 character has up to four."""
    record = msgspec.defstruct(
        "One", [("it", Annotated[str, rules, Meta(extra=KEY)])], bases=(Record,), frozen=True, kw_only=True
    )
    with pytest.raises(TypeError, match="a text key needs min_length"):
        identity_of(record)


def test_the_identity_has_the_fields_marked_as_key():
    """Its columns are their names in Python."""
    assert (identity_of(User).columns, identity_of(Reading).columns) == (("id",), ("sensor",))


def test_a_record_without_a_key_is_rejected():
    """The error says how a key is marked."""
    with pytest.raises(TypeError, match="Arrival needs a field marked KEY, or several: write `id: Annotated"):
        identity_of(Arrival)


def test_an_optional_key_is_rejected():
    """A row without a key cannot be stored, so the key of a record is never None."""
    maybe = msgspec.defstruct(
        "Maybe", [("a", Annotated[str | None, Meta(extra=KEY)])], bases=(Record,), frozen=True, kw_only=True
    )
    with pytest.raises(TypeError, match="Maybe: the key a cannot be None"):
        identity_of(maybe)


class Named(Record, frozen=True, kw_only=True):
    """A record with a text key."""

    name: Annotated[str, Meta(min_length=2, max_length=5, pattern="^[a-z]+$", extra=KEY)]


@pytest.mark.parametrize(
    ("record", "key", "expected"),
    [
        (User, b"0a1b2c3d-0000-4000-8000-00000000abcd", ID),
        (User, b"0A1B2C3D-0000-4000-8000-00000000ABCD", ID),
        (User, b"0a1b2c3d00004000800000000000abcd", ID),
        (Named, b"ada", "ada"),
        (Reading, b"7", 7),
        (Reading, b"0", 0),
    ],
)
def test_a_key_is_parsed_as_its_id(record, key, expected):
    """A Kafka key is the text of an id, whatever the kind of the id."""
    assert identity_of(record).of_text(key.decode()) == expected


@pytest.mark.parametrize(
    ("record", "key"),
    [
        (User, b""),
        (User, b"ada"),
        (User, ID.bytes),
        (User, b"{0a1b2c3d-0000-4000-8000-00000000abcd}"),
        (User, b"0a1b2c3d-0000-4000-8000-00000000abcd\n"),
        (User, b"null"),
        (Named, b""),
        (Named, b"a"),
        (Named, b"abcdef"),
        (Named, b"ADA"),
        (Named, b"\xff\xfe"),
        (Reading, b""),
        (Reading, b"-1"),
        (Reading, b"1000001"),
        (Reading, b"9" * 5000),
        (Reading, b"7.5"),
        (Reading, b"007"),
        (Reading, b" 7"),
        (Reading, b"true"),
        (Reading, b"7\0"),
    ],
)
def test_a_key_that_is_not_an_id_is_rejected(record, key):
    """An id must satisfy the rules of the id's field."""
    with pytest.raises(ValueError):  # noqa: PT011  the errors of msgspec and the codec differ only in their messages
        identity_of(record).of_text(key.decode())


@given(everything())
def test_the_key_that_a_producer_writes_is_read_back(record):
    """The text of an id, which is the Kafka key, gives the id again."""
    assert identity_of(Everything).of_text(identity_of(Everything).key_of(record).decode()) == record.id


def test_a_record_may_have_several_key_fields():
    """They are the identity in declared order, and one that is not single."""
    identity = identity_of(Sample)
    assert (identity.columns, identity.names, identity.is_single) == (("sensor", "at"), ("sensor", "at"), False)
    assert identity.of(SAMPLE) == ("a", NOON)
    assert identity.values_of(("a", NOON)) == ("a", NOON)
    assert identity.of_values(["a", NOON]) == ("a", NOON)


def test_the_identity_of_one_field_is_its_value():
    """Not a tuple; its values are one nevertheless."""
    identity = identity_of(Reading)
    assert identity.of(Reading(sensor=7, celsius=1.0)) == 7
    assert (identity.values_of(7), identity.of_values((7,))) == ((7,), 7)


@pytest.mark.parametrize("kind", [float, bool, bytes, time, timedelta, Annotated[Decimal, Digits(9, 2)]])
def test_a_type_without_one_text_is_no_key(kind):
    """The error says which types a key may have, and what to write."""
    record = msgspec.defstruct("One", [("it", Annotated[kind, Meta(extra=KEY)])], bases=(Record,), frozen=True)
    with pytest.raises(
        TypeError, match="One: the key it must be a str, Literal, StrEnum, int, UUID, date or datetime; w"
    ):
        identity_of(record)


@pytest.mark.parametrize("symbols", [Literal["a", ""], Literal["a", "é" * 40_000]])
def test_a_symbol_that_cassandra_rejects_as_a_key_is_rejected(symbols):
    """A partition key has 1 to 65,535 bytes."""
    record = msgspec.defstruct("One", [("it", Annotated[symbols, Meta(extra=KEY)])], bases=(Record,), frozen=True)
    with pytest.raises(TypeError, match="the key it has an empty symbol, or one of more than 65,535 bytes"):
        identity_of(record)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("text", 'a\n"b"', 'a\n"b"'),
        ("side", Side.SELL, "sell-short"),
        ("size", "S", "S"),
        ("uuid", ID, "0a1b2c3d-0000-4000-8000-00000000abcd"),
        ("small", -7, "-7"),
        ("big", 2**63 - 1, "9223372036854775807"),
        ("day", date(987, 1, 2), "0987-01-02"),
        ("at", datetime(2026, 1, 31, 12, tzinfo=UTC), "2026-01-31T12:00:00.000Z"),
        ("at", datetime(2026, 1, 31, 1, 30, 0, 5000, timezone(timedelta(hours=2))), "2026-01-30T23:30:00.005Z"),
        ("at", datetime(1, 1, 2, tzinfo=UTC), "0001-01-02T00:00:00.000Z"),
    ],
)
def test_the_text_of_an_id_of_one_field_is_its_value(name, value, text):
    """Dates and moments in ISO 8601; moments in UTC, with three decimals."""
    record = build_record(name)
    assert identity_of(record).text_of(value) == text
    assert identity_of(record).key_of(record(**{name: value})) == text.encode()


def test_the_text_of_an_id_of_several_fields_is_an_object():
    """Compact, sorted by the names in messages; whole numbers are numbers, all other values are texts."""
    record = build_record("text", "small", "at", "day", "uuid")
    instance = record(text='ü"', small=-1, at=NOON, day=date(2026, 1, 1), uuid=ID)
    assert identity_of(record).key_of(instance).decode() == (
        '{"at":"2026-01-31T12:00:00.000Z","day":"2026-01-01","small":-1,"text":"ü\\"",'
        '"uuid":"0a1b2c3d-0000-4000-8000-00000000abcd"}'
    )


@given(keyed_records(), st.randoms())
def test_the_order_of_declaration_does_not_change_a_key(instance, random):
    """A field that is moved in the pipeline's file moves no record to another partition."""
    names = list(instance.__struct_fields__)
    random.shuffle(names)
    other = build_record(*names)(**msgspec.structs.asdict(instance))
    assert identity_of(type(other)).key_of(other) == identity_of(type(instance)).key_of(instance)


@given(keyed_records())
def test_every_id_is_read_back_from_its_text(instance):
    """Of each type, and of any number of them in any order."""
    identity = identity_of(type(instance))
    record_id = identity.of_text(identity.key_of(instance).decode())
    assert record_id == identity.of(instance)
    assert hash(record_id) == hash(identity.of(instance))
    assert identity.text_of(record_id) == identity.key_of(instance).decode()


@given(key_moments, zones, zones)
def test_one_moment_in_two_zones_is_one_id(moment, zone, other):
    """Ids, texts and rows do not depend on how a moment was written."""
    identity = identity_of(Sample)
    ids = [("a", moment.astimezone(zone)), ("a", moment.astimezone(other))]
    assert ids[0] == ids[1]
    assert len({*ids}) == len({identity.text_of(record_id) for record_id in ids}) == 1


@pytest.mark.parametrize(
    "text",
    [
        '{"sensor":"a","at":"2026-01-31T12:00:00.000Z"}',
        ' { "sensor" : "a" ,\n"at" : "2026-01-31T12:00:00Z" } ',
        '{"at":"2026-01-31T14:00:00+02:00","sensor":"\\u0061"}',
        '{"at":"2026-01-31T12:00:00.000000000Z","sensor":"a"}',
    ],
)
def test_an_object_may_be_written_in_several_ways(text):
    """Whoever wrote it: in any order, with spaces, escapes, in another zone."""
    assert identity_of(Sample).of_text(text) == ("a", NOON)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a", "expected a JSON object with exactly the fields sensor, at"),
        ("", "expected a JSON object with exactly the fields sensor, at"),
        ('["a","2026-01-31T12:00:00Z"]', "expected a JSON object with exactly the fields sensor, at"),
        ('{"sensor":"a"}', "expected a JSON object with exactly the fields sensor, at"),
        ('{"sensor":"a","at":"2026-01-31T12:00:00Z","more":1}', "expected a JSON object with exactly"),
        ('{"sensor":"a","sensor":"b","at":"2026-01-31T12:00:00Z"}', "duplicate field name in JSON"),
        ('{"sensor":"","at":"2026-01-31T12:00:00Z"}', "sensor: Expected `str` of length >= 1"),
        ('{"sensor":"a\\u0000","at":"2026-01-31T12:00:00Z"}', "sensor: contains a NUL character"),
        ('{"sensor":7,"at":"2026-01-31T12:00:00Z"}', "sensor: Expected `str`, got `int`"),
        ('{"sensor":null,"at":"2026-01-31T12:00:00Z"}', "sensor: Expected `str`, got `null`"),
        ('{"sensor":"a","at":1769860800}', "at: Expected `datetime`, got `int`"),
        ('{"sensor":"a","at":"1769860800"}', "at: Invalid RFC3339"),
        ('{"sensor":"a","at":"2026-01-31T12:00:00"}', "at: Expected `datetime` with a timezone"),
        ('{"sensor":"a","at":"2026-01-31T12:00:00.0005Z"}', "at: is finer than milliseconds"),
        ('{"sensor":"a","at":"2026-01-31T12:00:00.0009999996Z"}', "at: is finer than milliseconds"),
        ('{"sensor":"a","at":"0001-01-01T00:00:00+01:00"}', "at: is outside the years 1 to 9999 in UTC"),
        ("[" * 100_000, "JSON is nested too deeply"),
    ],
)
def test_a_text_that_is_no_id_of_several_fields_is_rejected(text, why):
    """By the rules of the record, and the error names the field."""
    with pytest.raises(ValueError, match=re.escape(why)):
        identity_of(Sample).of_text(text)


def test_decoded_avro_values_are_ids():
    """Python's own dates, moments and UUIDs, as Avro's logical types are read."""
    record = build_record("uuid", "day", "at", "small", "size")
    values = (ID, date(2026, 1, 1), NOON, 7, "M")
    assert (
        identity_of(record).of_members(dict(zip(("uuid", "day", "at", "small", "size"), values, strict=True))) == values
    )


@pytest.mark.parametrize(("name", "value"), [("day", NOON), ("at", date(2026, 1, 1)), ("small", True), ("text", 7)])
def test_a_decoded_value_of_another_type_is_no_id(name, value):
    """It would have to be changed to be one."""
    with pytest.raises(ValueError, match="Expected"):
        identity_of(build_record(name)).of_members({name: value})


@pytest.mark.parametrize(
    ("text", "is_key"),
    [
        ("2026-01-31T12:00:00.123Z", True),
        ("2026-01-31T12:00:00.123000000Z", True),
        ("2026-01-31T12:00:00.1234Z", False),
        ("2026-01-31T12:00:00.1229999999Z", False),
    ],
)
def test_a_moment_that_a_key_cannot_be_is_a_violation(text, is_key):
    """Cassandra keeps milliseconds: two records would share a row. Also if msgspec rounds it to milliseconds."""
    value = {"sensor": "a", "at": text, "celsius": 1.0}
    result = validate_record(value, Sample, latest_past())
    decoded = Decoder(Sample, FakeSchemas()).decode(msgspec.json.encode(value))
    if is_key:
        assert result == decoded == Sample(sensor="a", at=NOON.replace(microsecond=123_000), celsius=1.0)
    else:
        assert result == [
            Violation("at", Rule.FORMAT, "is finer than milliseconds, which a key cannot be: Cassandra keeps no more")
        ]
        assert decoded.rules == ("at:format",)


def test_a_key_without_a_zone_is_a_violation():
    """Constructing a record does not check it; its text would depend on the machine's zone."""
    naive = msgspec.structs.replace(SAMPLE, at=NOON.replace(tzinfo=None))
    assert build_value_check(Sample)(naive, latest_past()) == [Violation("at", Rule.FORMAT, "has no time zone")]
