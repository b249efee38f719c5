import json
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated
from uuid import UUID

import msgspec
import pytest
from msgspec import Meta

from penstock.codec.avro import AvroReaders
from penstock.codec.encode import build_serializer
from penstock.codec.wire_format import encode_header
from penstock.contract.fault import Stage
from penstock.contract.record import KEY, Alias, Digits, Record
from penstock.dead_letters import repair
from penstock.dead_letters.export import line, read_letter_fields
from penstock.dead_letters.repair import Edit, Outgoing, Repair, Repairer, StillInvalid
from penstock.errors import UsageError
from penstock.pipelines.users import PIPELINE, User
from tests.unit.contract.test_scalars import GOOD as SCALAR_FIELDS
from tests.unit.fakes import JSON_ID, FakeSchemas
from tests.unit.letters import FakeKafka, reject
from tests.unit.records import READINGS, Everything, Reading, Scalars, Side

GOOD = b'{"sensor":1,"celsius":2.5}'
BAD = b'{"sensor":"one","celsius":2.5}'


def letter(value, **changes):
    (first,) = FakeKafka().set_aside(reject(value=value, **changes))
    return first


def entry_letter(value, **changes):
    """The dead letter of an entry that the producer rejected."""
    return replace(letter(value, **changes), stage=str(Stage.PRODUCE))


def outgoing(item, fields=None, edits=None, pipeline=READINGS, proven=frozenset({"text"})):
    schemas = FakeSchemas.of(pipeline.record)
    serialize = build_serializer(pipeline.record, "json", JSON_ID)
    mender = Repairer(pipeline, schemas, Repair(fields or {}, edits), serialize, lambda: proven)
    return mender.outgoing(item)


def test_an_unchanged_record_that_is_valid_now_is_sent_as_it_is():
    """With its own bytes and key."""
    assert outgoing(letter(GOOD, key=None)) == Outgoing(None, GOOD, 1)
    assert outgoing(letter(encode_header(JSON_ID) + GOOD)) == Outgoing(b"k", encode_header(JSON_ID) + GOOD, 1)


@pytest.mark.parametrize("value", [BAD, b"", b"{", encode_header(9) + GOOD, b"\x00"])
def test_an_unchanged_record_that_is_still_invalid_is_reported(value):
    """It is validated again like in the stream, with the current message."""
    outgoing_record = outgoing(letter(value))
    assert isinstance(outgoing_record, StillInvalid)
    assert outgoing_record.message != "is wrong"


def test_a_null_value_is_sent_if_its_key_is_an_id():
    """A tombstone that the stream would accept now is one."""
    assert outgoing(letter(None, key=b"7")) == Outgoing(b"7", None, 7)
    assert isinstance(outgoing(letter(None, key=b"seven")), StillInvalid)


def test_a_null_value_is_sent_once_its_key_format_is_proven():
    """Until records with values had such keys it stays pending, and the message says what would help."""
    dead_letter = letter(None, key=b'{"sensor":7}')
    waits = outgoing(dead_letter)
    assert isinstance(waits, StillInvalid)
    assert "set key_format" in waits.message
    assert outgoing(dead_letter, proven=frozenset({"text", "json_object"})) == Outgoing(dead_letter.key, None, 7)


def test_a_null_value_is_sent_once_its_key_format_is_declared():
    """A redrive uses the declaration that the dead letter asks for."""
    dead_letter = letter(None, key=b'{"schema":{},"payload":7}')
    assert isinstance(outgoing(dead_letter, pipeline=replace(READINGS, key_format="json")), StillInvalid)
    assert outgoing(dead_letter, pipeline=replace(READINGS, key_format="connect")) == Outgoing(dead_letter.key, None, 7)


def test_a_record_whose_own_code_raises_stays_pending():
    """A redrive reports the error, and continues with the next dead letter."""

    class Picky(Reading, frozen=True, kw_only=True):
        def __post_init__(self):
            raise KeyError("never")

    picky = replace(READINGS, record=Picky)
    assert outgoing(letter(GOOD), pipeline=picky) == StillInvalid("KeyError: 'never'")
    assert outgoing(letter(GOOD), {"celsius": 1.0}, pipeline=picky) == StillInvalid("KeyError: 'never'")


def test_a_field_is_set_and_the_record_is_encoded_again():
    """Key and bytes are the producer's; fields that the record does not have are omitted."""
    outgoing_record = outgoing(letter(b'{"sensor":"one","celsius":2.5,"more":1}'), {"sensor": 5})
    assert outgoing_record == Outgoing(b"5", encode_header(JSON_ID) + b'{"sensor":5,"celsius":2.5}', 5, keeps_id=False)


class Warm(Record, frozen=True, kw_only=True):
    """A reading whose fields had other names."""

    sensor: Annotated[int, Meta(ge=0, extra=KEY), Alias("probe")]
    degrees: Annotated[float, Alias("celsius", "value")]


WARM = replace(READINGS, record=Warm)


def test_a_record_with_a_former_name_is_repaired_by_its_new_names():
    """What is set is set by the present name, and the repaired record has only these."""
    sent = encode_header(JSON_ID) + b'{"sensor":1,"degrees":2.5}'
    repaired = outgoing(letter(b'{"probe":1,"celsius":"hot"}', key=b"k"), {"degrees": 2.5}, pipeline=WARM)
    assert repaired == Outgoing(b"k", sent, 1)
    renamed = outgoing(letter(b'{"probe":"one","celsius":2.5}'), {"sensor": 1}, pipeline=WARM)
    assert isinstance(renamed, Outgoing)
    assert renamed.value == sent


def test_a_field_with_two_names_is_repaired_by_setting_it():
    """Nothing is chosen for the operator: setting another field leaves it as it is."""
    value = b'{"sensor":1,"celsius":1.0,"value":2.0}'
    assert isinstance(outgoing(letter(value), pipeline=WARM), StillInvalid)
    still = outgoing(letter(value), {"sensor": 1}, pipeline=WARM)
    assert still == StillInvalid("degrees: occurs twice: as value and as celsius", ("degrees:name",))
    repaired = outgoing(letter(value), {"degrees": 2.5}, pipeline=WARM)
    assert isinstance(repaired, Outgoing)
    assert repaired.value == encode_header(JSON_ID) + b'{"sensor":1,"degrees":2.5}'


def test_an_entry_is_not_renamed():
    """Its fields are the API's: what a pipeline calls by the same name is up to `from_source`."""
    seen = []

    def from_source(entry):
        seen.append(entry)
        return {"sensor": entry["probe"], "degrees": entry["celsius"]}

    pipeline = replace(WARM, from_source=from_source)
    assert isinstance(outgoing(entry_letter(b'{"probe":1,"celsius":2.5}'), pipeline=pipeline), Outgoing)
    assert seen == [{"probe": 1, "celsius": 2.5}]


@pytest.mark.parametrize(
    ("key", "value", "sent"),
    [
        (b"1", b'{"sensor":1,"celsius":"hot"}', b"1"),
        (b"1", b"{", b"1"),
        (b'{"sensor":1}', b"{", b'{"sensor":1}'),
        (b"room-7", b'{"sensor":1,"celsius":"hot"}', b"room-7"),
        (None, b'{"sensor":1,"celsius":"hot"}', b"1"),
    ],
)
def test_a_repaired_record_with_the_same_id_keeps_its_key(key, value, sent):
    """So it stays in its partition. A record without a key gets one."""
    edits = {"0:0": Edit(1, "0:0", "x", {"sensor": 1, "celsius": 2.5})}
    outgoing_record = outgoing(letter(value, key=key), edits=edits)
    assert (outgoing_record.key, outgoing_record.record_id, outgoing_record.keeps_id) == (sent, 1, True)


@pytest.mark.parametrize("key", [b"1", b"room-7", b'{"sensor":1}'])
def test_a_record_with_another_id_is_another_record(key):
    """Its key is that of the new id."""
    outgoing_record = outgoing(letter(b'{"sensor":1,"celsius":2.5}', key=key), {"sensor": 2})
    assert (outgoing_record.key, outgoing_record.record_id, outgoing_record.keeps_id) == (b"2", 2, False)


def test_setting_a_field_does_not_repair_another():
    """What is still invalid is reported with its rules."""
    outgoing_record = outgoing(letter(b'{"sensor":"one"}'), {"sensor": 5})
    assert outgoing_record == StillInvalid("celsius: is missing", ("celsius:required",))


@pytest.mark.parametrize(
    "value", [None, b"", b"[]", b"{", b'{"sensor":1,"sensor":2}', encode_header(9) + b"x", b"\x00", b"\xff"]
)
def test_a_value_without_fields_cannot_be_set(value):
    """If it is not an object, or has duplicate names, the dead letter's own message gives the reason."""
    outgoing_record = outgoing(letter(value), {"sensor": 1, "celsius": 1.0})
    assert isinstance(outgoing_record, StillInvalid)
    assert outgoing_record.rules == ("a:type",)
    assert "is wrong" in outgoing_record.message


def test_a_header_with_an_unknown_schema_hides_no_json():
    """The fields are read although the registry does not know the schema."""
    assert outgoing(letter(encode_header(9) + GOOD), {"celsius": 3.0}) == Outgoing(
        b"k", encode_header(JSON_ID) + b'{"sensor":1,"celsius":3.0}', 1
    )


def test_an_entry_that_the_producer_rejected_is_mapped_first(entry):
    """Then the fields are set; without any it is validated as it is."""
    dead_letter = entry_letter(msgspec.json.encode(entry | {"email": "nobody"}))
    outgoing_record = outgoing(dead_letter, {"email": "a@b.se"}, pipeline=PIPELINE)
    assert isinstance(outgoing_record, Outgoing)
    assert outgoing_record.key == entry["login"]["uuid"].encode()
    assert msgspec.json.decode(outgoing_record.value[5:], type=User).email == "a@b.se"
    assert outgoing(dead_letter, pipeline=PIPELINE).rules == ("email:pattern",)
    whole = outgoing(entry_letter(msgspec.json.encode(entry)), pipeline=PIPELINE)
    assert isinstance(whole, Outgoing)


def test_an_entry_that_cannot_be_mapped_says_what_is_missing(changed):
    """The API's own field is named."""
    outgoing_record = outgoing(
        entry_letter(msgspec.json.encode(changed("login"))), {"email": "a@b.se"}, pipeline=PIPELINE
    )
    assert "login" in outgoing_record.message


def test_an_entry_whose_mapping_raises_is_still_invalid(changed):
    """Whatever it raises: the redrive continues with the next dead letter."""

    def from_source(entry):
        return {"sensor": entry["sensor"]["number"], "celsius": 1.0}

    pipeline = replace(READINGS, from_source=from_source)
    outgoing_record = outgoing(entry_letter(b'{"sensor": null}'), pipeline=pipeline)
    assert isinstance(outgoing_record, StillInvalid)
    assert "TypeError at test_repair.py" in outgoing_record.message
    edits = {"0:0": Edit(1, "0:0", "x", {"sensor": {"number": 4}})}
    assert outgoing(entry_letter(b'{"sensor": NaN}'), edits=edits, pipeline=pipeline).key == b"4"


class Trade(Record, frozen=True, kw_only=True):
    id: Annotated[str, Meta(min_length=1, max_length=50, extra=KEY)]
    price: Annotated[Decimal, Digits(38, 18)]
    doubled: float


def trade_of(entry) -> Trade:
    return Trade(id=entry["id"], price=entry["cost"], doubled=entry["price"] * 2.0)


TRADES = replace(READINGS, record=Trade, from_source=trade_of)
LONG = "12345678901234567890.123456789012345678"


def test_an_entry_is_mapped_as_when_it_was_fetched():
    """Its numbers keep their digits and are floats to calculate with, even those named like a decimal of the record."""
    entry = f'{{"id": "", "cost": {LONG}, "price": 1.5}}'.encode()
    outgoing_record = outgoing(entry_letter(entry), {"id": "b"}, pipeline=TRADES)
    assert msgspec.json.decode(outgoing_record.value[5:]) == {"id": "b", "price": LONG, "doubled": 3.0}


@pytest.mark.parametrize("exported", [b'"cost": %s, "price": 1.5', b'"price": %s, "doubled": 3.0'])
def test_an_edited_export_loses_no_digit(exported):
    """Of an entry, which is mapped again, and of a record, in which a number may then be too long for its type."""
    value = b'{"id": "b", %s}' % exported % LONG.encode()
    dead_letter = (entry_letter if b"cost" in value else letter)(value)
    fields = read_letter_fields(dead_letter, AvroReaders(FakeSchemas.of(Trade)), TRADES)
    whole = repair.edits([line(replace(dead_letter, partition=0, offset=0), {}, fields)], TRADES.number_reader)
    direct = repair.edits([b'{"place": "0:0", "identity": "a", "value": %s}' % value], TRADES.number_reader)
    for edits in (whole, direct):
        sent = outgoing(dead_letter, edits=edits, pipeline=TRADES)
        assert msgspec.json.decode(sent.value[5:]) == {"id": "b", "price": LONG, "doubled": 3.0}


def test_a_record_that_became_too_large_is_not_sent(entry):
    """The size is that of the bytes that would be sent."""
    dead_letter = letter(BAD)
    mender = Repairer(READINGS, FakeSchemas.of(Reading), Repair({"sensor": 1}), lambda _: b"x" * 1_000_001, frozenset)
    assert mender.outgoing(dead_letter).rules == (":size",)


def test_an_edited_value_replaces_the_value():
    """Also if the value could not be read at all."""
    edits = {"0:0": Edit(3, "0:0", "x", {"sensor": 4, "celsius": 1.0})}
    mended = encode_header(JSON_ID) + b'{"sensor":4,"celsius":1.0}'
    assert outgoing(letter(b"{"), edits=edits) == Outgoing(b"4", mended, 4, keeps_id=False)
    edits = {"0:0": Edit(3, "0:0", "x", None)}
    assert outgoing(letter(GOOD), edits=edits) == StillInvalid("line 3: the value is not an object", ("a:type",))


def test_fields_and_edits_cannot_be_combined():
    """Which of the two should win is undefined."""
    with pytest.raises(UsageError, match="either"):
        Repair({"sensor": 1}, {})


def test_values_get_the_types_of_their_fields():
    """The command line has them as text."""
    texts = ["small=-5", "ratio=2.5", "flag=true", "moment=2020-01-02T03:04:05Z", "text=a=b", "maybe_small=null"]
    texts.append("id=91c38129-e067-4af8-8705-7d8376747cef")
    assert repair.assignments(Everything, texts) == {
        "small": -5,
        "ratio": 2.5,
        "flag": True,
        "moment": datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC),
        "text": "a=b",
        "maybe_small": None,
        "id": UUID("91c38129-e067-4af8-8705-7d8376747cef"),
    }


def test_values_of_the_other_types_are_set_as_messages_have_them():
    """Digits, ISO 8601, Base64, one of the texts; null where there may be none."""
    texts = ["price=12.50", "day=2024-02-29", "opens=08:30:00.5", "lasts=P1DT12H", "hash=3q2+7w==", "size=M"]
    texts += ["side=sell-short", "count=-5", "maybe_price=null", "maybe_opens=null", "maybe_lasts=null"]
    assert repair.assignments(Scalars, texts) == {
        "price": Decimal("12.50"),
        "day": date(2024, 2, 29),
        "opens": time(8, 30, 0, 500_000),
        "lasts": timedelta(hours=36),
        "hash": b"\xde\xad\xbe\xef",
        "size": "M",
        "side": Side.SELL,
        "count": -5,
        **dict.fromkeys(("maybe_price", "maybe_opens", "maybe_lasts")),
    }


@pytest.mark.parametrize("text", ["price=1_0", "price=x", "day=x", "opens=23:59:59.9999999", "lasts=P1M", "size=XL"])
def test_a_value_of_the_other_types_that_no_record_could_have_is_wrong_use(text):
    """Before any dead letter is read."""
    with pytest.raises(UsageError, match=f"{text.partition('=')[0]}: "):
        repair.assignments(Scalars, [text])


SCALARS = replace(READINGS, record=Scalars)


@pytest.mark.parametrize("price", ["12345678.90", '"12345678.90"', "1.234567890e7"])
def test_a_repaired_record_keeps_its_other_values(price):
    """Digits of numbers too, which are text from then on."""
    broken = {"size": "XL"}
    value = json.dumps(SCALAR_FIELDS | broken | {"price": "@"}).replace('"@"', price).encode()
    assert isinstance(outgoing(letter(value), pipeline=SCALARS), StillInvalid)
    sent = json.loads(outgoing(letter(value), {"size": "M"}, pipeline=SCALARS).value[5:])
    assert isinstance(sent["price"], str)
    assert msgspec.convert(sent, Scalars) == msgspec.convert(SCALAR_FIELDS | {"price": "12345678.90"}, Scalars)


def test_an_edited_number_of_too_many_digits_is_refused():
    """A number in an edit file is a float: one that it may have rounded is not taken for exact."""
    edits = {"0:0": Edit(1, "0:0", "a", SCALAR_FIELDS | {"price": 1234567.8901234567})}
    found = outgoing(letter(BAD), edits=edits, pipeline=SCALARS)
    assert "price: has more than 15 digits" in found.message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nope=1", "expected sensor, celsius"),
        ("sensor", "no value for sensor"),
        ("sensor=x", "sensor: "),
        ("sensor=-1", ">= 0"),
    ],
)
def test_values_that_cannot_be_set_are_a_usage_error(text, says):
    """An unknown field, with the known ones; no value; a value that no record could have."""
    with pytest.raises(UsageError, match=says):
        repair.assignments(Reading, [text])


def test_an_edit_file_is_read_by_position():
    """Empty lines are skipped; other content of a line is ignored."""
    lines = [
        b'{"place":"0:1","identity":"a","value":{"x":1},"more":2}\n',
        b"\n",
        b'{"place":"0:2","identity":"b","value":null}',
    ]
    assert repair.edits(lines) == {"0:1": Edit(1, "0:1", "a", {"x": 1}), "0:2": Edit(3, "0:2", "b", None)}
    assert repair.edits([]) == {}


GOOD_LINE = b'{"place":"0:1","identity":"a","value":1}'


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b'{"place":"0:1","value":1}',
        b'{"place":"0:1","identity":"a"}',
        b'{"place":"nowhere","identity":"a","value":1}',
        b"\xff",
        GOOD_LINE,
        b'{"place":"0:2","identity":"a","value":' + b"[" * 100_000,
    ],
    ids=range(8),
)
def test_an_invalid_line_is_named(line):
    """Malformed, incomplete, or of a position that had a line before."""
    with pytest.raises(UsageError, match="line 2 of the edit file"):
        repair.edits([GOOD_LINE, line])


class Basket(Record, frozen=True, kw_only=True):
    """A record with an exact number within a list."""

    id: Annotated[int, Meta(ge=0, extra=KEY)]
    prices: list[Annotated[Decimal, Digits(10, 2)]]


def test_a_value_within_a_record_is_repaired_by_its_path():
    """As the violation names it; the other items keep their digits, and a place that is not there is named."""
    pipeline = replace(READINGS, record=Basket)
    dead_letter = letter(b'{"id":1,"prices":[12345678.90,"1.234"]}', key=b"1")
    assert "prices[1]: at most 2 decimals" in outgoing(dead_letter, pipeline=pipeline).message
    fields = repair.assignments(Basket, ["prices[1]=1.23"])
    message = outgoing(dead_letter, fields, pipeline=pipeline)
    assert json.loads(message.value[5:]) == {"id": 1, "prices": ["12345678.90", "1.23"]}
    absent = outgoing(dead_letter, repair.assignments(Basket, ["prices[5]=1"]), pipeline=pipeline)
    assert (absent.message, absent.rules) == ("prices: has 2 items: the next one is prices[2]", ("prices:type",))


def test_a_value_within_an_entry_is_set_in_its_record():
    """What `from_source` made of it."""
    pipeline = replace(READINGS, record=Basket, from_source=lambda entry: {"id": 1, "prices": entry["all"]})
    message = outgoing(entry_letter(b'{"all":[1,2]}'), {"prices[0]": Decimal("0.50")}, pipeline=pipeline)
    assert json.loads(message.value[5:]) == {"id": 1, "prices": ["0.50", "2"]}
