import json
import struct
from datetime import UTC, datetime, timedelta
from typing import Annotated
from unittest.mock import Mock, patch
from uuid import UUID

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Meta, structs

from penstock.broker.registry import WriterSchema
from penstock.codec import records
from penstock.codec.avro import AvroReader
from penstock.codec.encode import build_serializer
from penstock.codec.records import Decoder
from penstock.codec.wire_format import encode_header
from penstock.contract.fault import Fault, Reason, Stage
from penstock.contract.record import KEY, PAST, Record
from penstock.contract.rules import MAX_FIELDS, latest_past, validate_record
from penstock.contract.schemas import avro_schema
from penstock.errors import RegistryUnreachable
from penstock.pipelines.users import User
from tests.unit.fakes import AVRO_ID, JSON_ID, FakeSchemas
from tests.unit.records import Everything, Reading
from tests.unit.strategies import everything, json_texts, many_examples, moments, users

GOOD = Reading(sensor=3, celsius=21.5)
GOOD_JSON = msgspec.json.encode(GOOD)
GOOD_AVRO = build_serializer(Reading, "avro", AVRO_ID)(GOOD)


@pytest.fixture
def decoder() -> Decoder:
    return Decoder(Reading, FakeSchemas.of(Reading))


@pytest.mark.parametrize(
    "value", [GOOD_JSON, encode_header(JSON_ID) + GOOD_JSON, GOOD_AVRO], ids=["plain", "json", "avro"]
)
def test_a_valid_value_is_its_record(decoder, value):
    """Plain JSON, JSON and Avro with a header all give the record."""
    assert decoder.decode(value) == GOOD


class Plain(Record, frozen=True, kw_only=True):
    """Its time needs no rule to have a zone."""

    id: Annotated[int, Meta(extra=KEY)]
    at: Annotated[datetime, Meta(extra=PAST)]
    maybe_at: datetime | None = None


class Zoned(Record, frozen=True, kw_only=True):
    """The same with the rule."""

    id: Annotated[int, Meta(extra=KEY)]
    at: Annotated[datetime, Meta(tz=True, extra=PAST)]
    maybe_at: Annotated[datetime, Meta(tz=True)] | None = None


local_times = st.datetimes().map(datetime.isoformat)


@given(st.one_of(moments.map(datetime.isoformat), local_times), st.one_of(moments.map(datetime.isoformat), local_times))
def test_a_time_without_a_zone_is_a_violation_with_or_without_a_rule(at, maybe_at):
    """In JSON and at the source; the message of a plain `datetime` is `has no time zone`."""
    value = {"id": 1, "at": at, "maybe_at": maybe_at}
    results = {
        record: (
            Decoder(record, FakeSchemas.of(record)).decode(msgspec.json.encode(value)),
            validate_record(value, record, latest_past()),
        )
        for record in (Plain, Zoned)
    }
    decoded, validated = results[Plain]
    if isinstance(decoded, Plain):
        assert decoded == validated
        assert structs.asdict(decoded) == structs.asdict(results[Zoned][0])
        return
    assert decoded.rules == tuple(violation.code for violation in validated)
    assert set(results[Zoned][0].rules) <= set(decoded.rules)  # msgspec stops at its own rule
    naive = [name for name in ("at", "maybe_at") if datetime.fromisoformat(value[name]).tzinfo is None]
    assert [violation.field for violation in validated if violation.message == "has no time zone"] == naive
    assert {f"{name}:format" for name in naive} <= set(decoded.rules)


def test_a_time_without_a_zone_is_a_violation_in_avro():
    """Avro's local timestamps have none."""
    schema = avro_schema(Plain)
    schema["fields"][1]["type"] = {"type": "long", "logicalType": "local-timestamp-millis"}
    decoder = Decoder(Plain, FakeSchemas({9: WriterSchema("avro", schema)}))
    assert decoder.decode(encode_header(9) + b"\x02\x02\x00") == Fault(
        Reason.CONTRACT_BROKEN, "at: has no time zone", schema_id=9, rules=("at:format",)
    )


def test_unknown_fields_are_ignored(decoder):
    """A newer producer may send more."""
    assert decoder.decode(b'{"sensor":3,"celsius":21.5,"new":{"a":[1]}}') == GOOD


@pytest.mark.parametrize(
    ("value", "reason", "message", "schema_id"),
    [
        (None, Reason.VALUE_MISSING, "null", None),
        (b"", Reason.VALUE_MISSING, "empty", None),
        (b"\x00", Reason.FRAME_BROKEN, "1 of 5", None),
        (b"\x00\x00\x00\x00", Reason.FRAME_BROKEN, "4 of 5", None),
        (encode_header(9) + GOOD_JSON, Reason.SCHEMA_UNKNOWN, "no schema 9", 9),
        (b"{", Reason.JSON_MALFORMED, "truncated", None),
        (b"hello", Reason.JSON_MALFORMED, "malformed", None),
        (b'{"sensor":3,"celsius":21.5}x', Reason.JSON_MALFORMED, "trailing", None),
        (b"[" * 100_000, Reason.JSON_MALFORMED, "recursion", None),
        (b'{"sensor":1,"celsius":"x"', Reason.JSON_MALFORMED, "truncated", None),
        (b" " * 1_000_001, Reason.VALUE_TOO_LARGE, "1000001 bytes", None),
        (b'{"x":' + b"[" * 100_000, Reason.JSON_MALFORMED, "recursion", None),
        (b'{"sensor":\xff}', Reason.JSON_MALFORMED, "", None),
        (encode_header(JSON_ID), Reason.JSON_MALFORMED, "truncated", JSON_ID),
        (encode_header(AVRO_ID), Reason.AVRO_MALFORMED, "EOFError", AVRO_ID),
        (GOOD_AVRO[:-1], Reason.AVRO_MALFORMED, "", AVRO_ID),
        (GOOD_AVRO + b"\x00", Reason.AVRO_MALFORMED, "extra bytes", AVRO_ID),
        (b"{}", Reason.CONTRACT_BROKEN, "sensor: is missing; celsius: is missing", None),
        (b'{"sensor":-1,"celsius":1}', Reason.CONTRACT_BROKEN, "sensor: Expected `int` >= 0", None),
        (b'{"sensor":' + b"1" * 400 + b',"celsius":1}', Reason.CONTRACT_BROKEN, "sensor: Expected `int` <=", None),
        (b'{"sensor":' + b"1" * 5000 + b',"celsius":1}', Reason.JSON_MALFORMED, "out of range", None),
        (b'{"sensor":1,"celsius":"x"}', Reason.CONTRACT_BROKEN, "celsius: Expected `float`, got `str`", None),
        (encode_header(JSON_ID) + b"[]", Reason.CONTRACT_BROKEN, "Expected `object`", JSON_ID),
        (encode_header(AVRO_ID) + b"\x01" + b"\x00" * 8, Reason.CONTRACT_BROKEN, "sensor: Expected", AVRO_ID),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_each_kind_of_invalid_value_has_its_reason(decoder, value, reason, message, schema_id):
    """And a message that says what is wrong, and its schema id."""
    fault = decoder.decode(value)
    assert isinstance(fault, Fault)
    assert (fault.reason, fault.schema_id, fault.stage) == (reason, schema_id, Stage.DECODE)
    assert message in fault.message


def test_every_reason_is_covered_by_the_test_above():
    """No reason for rejecting a value is without an example."""
    (mark,) = [mark for mark in test_each_kind_of_invalid_value_has_its_reason.pytestmark if mark.name == "parametrize"]
    of_others = {Reason.KEY_AMBIGUOUS, Reason.ORDER_UNKNOWN, Reason.MAPPING_FAILED, Reason.TRANSFORM_FAILED}
    assert {case[1] for case in mark.args[1]} == set(Reason) - of_others - {Reason.PROCESSING_ERROR}


def test_avro_is_read_by_its_writers_schema():
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
    value = encode_header(5) + b"\x00\x00\xac\x41" + b"\x06red" + b"\x06"
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
def test_avro_of_another_record_is_dead_lettered(schema):
    """A value written with the schema of something else is rejected, whatever its bytes."""
    decoder = Decoder(Reading, FakeSchemas({5: WriterSchema("avro", schema)}))
    assert decoder.decode(encode_header(5) + b"\x06abc").reason in (Reason.AVRO_MALFORMED, Reason.CONTRACT_BROKEN)


@pytest.mark.parametrize(
    "schema",
    [{"type": "record", "name": "x", "fields": [{"name": "a", "type": "no.Such"}]}, {"type": "record"}],
    ids=repr,
)
def test_an_unreadable_schema_counts_as_unknown(schema):
    """A schema that is invalid, or references others, dead-letters the record instead of stopping the job."""
    fault = Decoder(Reading, FakeSchemas({5: WriterSchema("avro", schema)})).decode(encode_header(5) + b"\x00")
    assert (fault.reason, fault.schema_id) == (Reason.SCHEMA_UNKNOWN, 5)
    assert "schema 5 cannot be read" in fault.message


class Dated(Record, frozen=True, kw_only=True):
    """A timestamp that must be in the past."""

    id: Annotated[int, Meta(ge=0, le=9, extra=KEY)]
    at: Annotated[datetime, Meta(tz=True, extra=PAST)]


def test_past_dates_are_compared_with_the_current_time(monkeypatch):
    """A long-lived decoder does not compare dates with an old clock, nor accept one too early."""
    began = datetime(2026, 1, 1, tzinfo=UTC)
    clock = {"latest": began, "asked": 0}

    def latest_past() -> datetime:
        clock["asked"] += 1
        return clock["latest"]

    monkeypatch.setattr(records, "latest_past", latest_past)
    decoder = Decoder(Dated, FakeSchemas())
    value = msgspec.json.encode({"id": 1, "at": began + timedelta(minutes=5)})
    assert decoder.decode(value).rules == ("at:date",)
    clock["latest"] += timedelta(minutes=4)
    assert decoder.decode(value).rules == ("at:date",)
    clock["latest"] += timedelta(minutes=1)
    assert decoder.decode(value) == Dated(id=1, at=began + timedelta(minutes=5))
    asked = clock["asked"]
    assert isinstance(decoder.decode(value), Dated)
    assert clock["asked"] == asked


def test_a_schema_is_requested_once():
    """The registry is not asked for every record."""
    schemas = FakeSchemas({5: WriterSchema("avro", avro_schema(Reading)), 6: WriterSchema("json", {})})
    decoder = Decoder(Reading, schemas)
    for _ in range(3):
        decoder.decode(encode_header(5) + GOOD_AVRO[5:])
        decoder.decode(encode_header(6) + GOOD_JSON)
        decoder.decode(GOOD_JSON)
    assert schemas.asked == [5, 6]


@pytest.mark.parametrize("record", [User, Reading, Everything])
def test_our_producers_schema_needs_no_resolution(record):
    """Both schemas are equal once they are pruned, except for doc and order of keys: fastavro then compares no
    field.
    """
    registered = json.loads(json.dumps(avro_schema(record) | {"doc": "another text"}))
    assert AvroReader(registered, 5).parsed == Decoder(record, FakeSchemas())._schema


def test_an_unavailable_registry_is_not_the_records_fault():
    """The batch fails and is retried: the record is not dead-lettered."""
    decoder = Decoder(Reading, FakeSchemas(error=RegistryUnreachable("away")))
    with pytest.raises(RegistryUnreachable):
        decoder.decode(encode_header(5) + GOOD_JSON)
    assert decoder.decode(GOOD_JSON) == GOOD


class Named(Record, frozen=True, kw_only=True):
    """A record with a text key, and an optional text."""

    name: Annotated[str, Meta(min_length=2, max_length=9, pattern="^[a-z]+$", extra=KEY)]
    note: str | None = None


ID = UUID("0a1b2c3d-0000-4000-8000-00000000abcd")


@pytest.mark.parametrize(
    ("record", "key", "expected"),
    [
        (User, str(ID).encode(), ID),
        (User, str(ID).upper().encode(), ID),
        (User, ID.hex.encode(), ID),
        (Reading, b"7", 7),
        (Named, b"ada", "ada"),
    ],
)
def test_a_null_value_deletes_what_its_key_names(record, key, expected):
    """The key of a tombstone is the text of an id, of whatever kind the id is."""
    assert Decoder(record, FakeSchemas()).deleted(key, None) == expected


@pytest.mark.parametrize(
    ("record", "key"),
    [
        (User, None),
        (User, b""),
        (User, b"key"),
        (User, ID.bytes),
        (User, b"{" + str(ID).encode() + b"}"),
        (User, b"\xff\xfe"),
        (Reading, None),
        (Reading, b"-1"),
        (Reading, b"1000001"),
        (Reading, b"seven"),
        (Named, None),
        (Named, b""),
        (Named, b"a"),
        (Named, b"Ada"),
        (Named, b"\xff"),
    ],
)
def test_a_null_value_whose_key_is_not_an_id_is_dead_lettered(record, key):
    """It names no row; the message says that both value and key are the reason."""
    fault = Decoder(record, FakeSchemas()).deleted(key, None)
    assert (fault.reason, fault.stage, fault.schema_id) == (Reason.VALUE_MISSING, Stage.DECODE, None)
    assert fault.message.startswith("the value is null, and the key is no id")


@pytest.mark.parametrize(
    ("value", "reason", "rules"),
    [
        (rb'{"name":"ada","note":"a\u0000"}', Reason.CONTRACT_BROKEN, ("note:character",)),
        (rb'{"name":"ada\n"}', Reason.CONTRACT_BROKEN, ("name:pattern",)),
        (rb'{"name":"ada","note":"\u0000","note":""}', Reason.JSON_MALFORMED, ()),
        (rb'{"name":"ada","nam\u0065":"ada"}', Reason.JSON_MALFORMED, ()),
        (rb'{"name":5,"name":"ada"}', Reason.JSON_MALFORMED, ()),
        (rb'{"name":"ada","x":{"y":[{"z":1,"z":2}]}}', Reason.JSON_MALFORMED, ()),
    ],
)
def test_violations_that_msgspec_accepts_are_found(value, reason, rules):
    """NUL, a newline after the end, and duplicate names are rejected, with a header or without."""
    decoder = Decoder(Named, FakeSchemas.of(Named))
    for frame in (b"", encode_header(JSON_ID)):
        fault = decoder.decode(frame + value)
        assert (fault.reason, fault.rules) == (reason, rules)


def test_avro_is_checked_for_characters_too():
    """NUL and a newline after the end are found in Avro as in JSON."""
    decoder = Decoder(Named, FakeSchemas.of(Named))
    assert decoder.decode(encode_header(AVRO_ID) + b"\x08ada\n" + b"\x02\x02\0").rules == (
        "name:pattern",
        "note:character",
    )


@pytest.mark.parametrize(("count", "is_fine"), [(MAX_FIELDS - 2, True), (MAX_FIELDS - 1, False), (10_000, False)])
def test_a_record_has_a_bounded_number_of_fields(decoder, count, is_fine):
    """Unknown fields are ignored, but not any number of them; nested ones count too."""
    more = ",".join(f'"x{number}":0' for number in range(count))
    nested = ",".join(f'"x{number}":0' for number in range(count - 1))
    for text in (f'{{"sensor":3,"celsius":21.5,{more}}}', f'{{"sensor":3,"celsius":21.5,"y":[{{{nested}}}]}}'):
        result = decoder.decode(text.encode())
        assert (result == GOOD) if is_fine else (result.rules == (":size",))


def test_too_many_fields_are_reported_next_to_other_broken_rules(decoder):
    """A record that breaks a rule and has too many fields has two reasons."""
    more = ",".join(f'"x{number}":0' for number in range(2000))
    assert decoder.decode(f'{{"sensor":-3,"celsius":1,{more}}}'.encode()).rules == ("sensor:range", ":size")


def spelt(name: str) -> st.SearchStrategy[str]:
    """A name as a JSON text may spell it."""
    ways = st.lists(st.booleans(), min_size=len(name), max_size=len(name))
    return ways.map(
        lambda way: "".join(
            f"\\u{ord(letter):04x}" if escaped else letter for letter, escaped in zip(name, way, strict=True)
        )
    )


@st.composite
def readings(draw) -> str:
    """A `Reading` as JSON text, with duplicate names, or without."""
    values = {"sensor": "3", "celsius": "21.5"}
    more = draw(st.lists(st.sampled_from(["sensor", "celsius", "x", "y", ""]), max_size=2))
    members = []
    for name in draw(st.permutations(["sensor", "celsius", *more])):
        space, value = draw(st.sampled_from(["", " ", "\r\n\t"])), values.get(name) or draw(json_texts)
        members.append(f'{space}"{draw(spelt(name))}"{space}:{space}{value}{space}')
    return "{" + ",".join(members) + "}"


def has_a_name_twice(text: str) -> bool:
    """Find out in the slow but obvious way."""
    twice = []
    json.loads(
        text, object_pairs_hook=lambda pairs: twice.append(len({name for name, _ in pairs}) < len(pairs)), parse_int=str
    )
    return any(twice)


QUOTED_ID = 0x22222222
FRAMES = [b"", encode_header(JSON_ID), encode_header(QUOTED_ID), encode_header(0x22)]


@many_examples
@given(readings(), st.sampled_from(FRAMES))
@example('{"sensor":3,"celsius":21.5,"sensor":3}', b"")
@example('{"sensor":3,"celsius":21.5,"x":"\\"a\\":1,\\"a\\":1"}', encode_header(QUOTED_ID))
def test_a_duplicate_name_is_found_wherever_it_is(text, frame):
    """A JSON value is rejected exactly if one of its objects has a duplicate name, however it is spelt."""
    schemas = {number: WriterSchema("json", {}) for number in (JSON_ID, QUOTED_ID, 0x22)}
    result = Decoder(Reading, FakeSchemas(schemas)).decode(frame + text.encode())
    if has_a_name_twice(text):
        assert result.reason == Reason.JSON_MALFORMED
        assert "duplicate field name" in result.message
    else:
        assert result == GOOD


@given(users(), st.sampled_from([1, 7, 2**30]))
def test_what_our_producer_writes_is_not_read_twice(user, schema_id):
    """Names are checked only in a value that has more quotes than a record needs: here, in a text."""
    value = build_serializer(User, "json", schema_id)(user)
    decoder = Decoder(User, FakeSchemas({schema_id: WriterSchema("json", {})}))
    with patch.object(records, "check_names", return_value=[]) as looked:
        assert decoder.decode(value) == user
    assert looked.called is any('"' in text for text in structs.astuple(user) if isinstance(text, str))


@pytest.mark.parametrize("schema_id", [JSON_ID, 0x22, QUOTED_ID, 0x5C, 0x5C5C5C5C])
def test_the_header_is_not_part_of_the_text(schema_id):
    """A schema id that contains the byte of a quote or a backslash does not cause a second check of every value."""
    schemas, check_texts = FakeSchemas({schema_id: WriterSchema("json", {})}), Mock(return_value=[])
    with (
        patch.object(records, "build_text_check", return_value=check_texts),
        patch.object(records, "check_names", return_value=[]) as check_names,
    ):
        assert Decoder(Reading, schemas).decode(encode_header(schema_id) + GOOD_JSON) == GOOD
    check_texts.assert_not_called()
    check_names.assert_not_called()


@given(everything())
def test_the_minimum_number_of_quotes_is_exact(record):
    """No record is written with fewer quotes, and one without optional fields with as many."""
    values = structs.asdict(record)
    required = {name: value for name, value in values.items() if not name.startswith("maybe_")}
    least = records._least_quotes(Everything)
    assert msgspec.json.encode(record).count(b'"') > least
    assert msgspec.json.encode(required | {"text": "words"}).count(b'"') == least


def raising(error: BaseException, name: str = "id") -> type[Record]:
    """A record whose own code raises `error` once its field is set."""

    def post_init(_self):
        raise error

    kind = Annotated[str, Meta(min_length=1, max_length=9, extra=KEY)]
    return msgspec.defstruct(
        "Raising", [(name, kind)], bases=(Record,), frozen=True, kw_only=True, namespace={"__post_init__": post_init}
    )


class Unforeseen(Exception):
    """An exception that only a pipeline's author knows."""


@pytest.mark.parametrize(
    "error",
    [
        Unforeseen("words"),
        OverflowError("words"),
        struct.error("words"),
        KeyError("words"),
        OSError("words"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("wire_format", ["json", "framed json", "avro"])
def test_whatever_a_record_raises_is_its_own_fault(error, wire_format):
    """The record is a dead letter with the exception's type and message; the decoder continues with the next one."""
    record = raising(error)
    decoder = Decoder(record, FakeSchemas.of(record))
    value = {
        "json": b'{"id":"a"}',
        "framed json": encode_header(JSON_ID) + b'{"id":"a"}',
        "avro": encode_header(AVRO_ID) + b"\x02a",
    }[wire_format]
    fault = decoder.decode(value)
    assert (fault.reason, fault.stage) == (Reason.PROCESSING_ERROR, Stage.DECODE)
    assert type(error).__name__ in fault.message
    assert decoder.decode(b"{").reason == Reason.JSON_MALFORMED


@pytest.mark.parametrize("value", [b'{"id":"a"}', encode_header(AVRO_ID) + b"\x02a"])
def test_a_record_that_recurses_endlessly_is_a_dead_letter(value):
    """In JSON it counts as JSON that is nested too deeply."""
    record = raising(RecursionError("words"))
    fault = Decoder(record, FakeSchemas.of(record)).decode(value)
    assert fault.reason in (Reason.PROCESSING_ERROR, Reason.JSON_MALFORMED)
    assert "words" in fault.message


@pytest.mark.parametrize("error", [ValueError("words"), UnicodeEncodeError("utf-8", "x", 0, 1, "words")])
def test_a_value_error_of_a_record_is_a_broken_rule(error):
    """ValueError is how msgspec lets a record reject its fields."""
    fault = Decoder(raising(error), FakeSchemas()).decode(b'{"id":"a"}')
    assert (fault.reason, fault.rules) == (Reason.CONTRACT_BROKEN, (":type",))
    assert "words" in fault.message


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt(), RegistryUnreachable("away")])
def test_errors_that_affect_every_record_are_no_records_fault(error):
    """Lack of memory, an interruption and an unreachable service fail the batch: it is retried."""
    record = raising(error)
    with pytest.raises(type(error)):
        Decoder(record, FakeSchemas()).decode(b'{"id":"a"}')


def test_whatever_a_key_raises_is_its_own_fault(monkeypatch):
    """A tombstone whose key raises is a dead letter; lack of memory is not."""
    decoder = Decoder(Named, FakeSchemas())
    monkeypatch.setattr(decoder.keys, "read", Mock(side_effect=[Unforeseen("words"), MemoryError]))
    assert decoder.deleted(b"ada", None).reason == Reason.PROCESSING_ERROR
    with pytest.raises(MemoryError):
        decoder.deleted(b"ada", None)
