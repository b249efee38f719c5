import functools
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import msgspec
import pytest
from msgspec import Meta

from penstock.codec.encode import build_serializer
from penstock.contract.fault import Fault, Reason, Stage
from penstock.contract.record import KEY, PAST, Digits, Record
from penstock.errors import SourceRefused
from penstock.pipelines.definition import Pipeline
from penstock.pipelines.mapping import Mapper
from tests.unit.keyed import SAMPLES, Sample


class Person(Record, frozen=True, kw_only=True):
    id: Annotated[str, Meta(min_length=1, max_length=50, extra=KEY)]
    city: str | None = None


GOOD = {"id": "a", "location": {"city": "Malmö"}}


def from_source(entry):
    return {"id": entry["id"], "city": entry["location"]["city"]}


LINE = 'the line is: return {"id": entry["id"], "city": entry["location"]["city"]}'
FROM_SOURCE_LINE = from_source.__code__.co_firstlineno + 1


def mapped(function, entry=GOOD, changes=None, wire_format="json"):
    pipeline = Pipeline(topic="people", keyspace="k", table="people", record=Person, from_source=function)
    return Mapper(pipeline, build_serializer(Person, wire_format, 1)).outgoing(entry, changes)


def test_a_valid_entry_becomes_key_and_value():
    """The key is the record's id; the value has a wire-format header; changes are applied to the fields first."""
    key, value = mapped(from_source)
    assert (key, msgspec.json.decode(value[5:])["city"]) == (b"a", "Malmö")
    key, value = mapped(from_source, changes={"city": "Lund"})
    assert msgspec.json.decode(value[5:])["city"] == "Lund"


def test_a_record_of_several_key_fields_is_keyed_by_all_of_them():
    """In one text, however the API writes the moment; one that a key cannot keep is the entry's fault."""
    mapper = Mapper(replace(SAMPLES, from_source=dict), build_serializer(Sample, "json", 1))
    entry = {"sensor": "a", "at": "2026-01-31T14:00:00.5+02:00", "celsius": 1.5}
    key, value = mapper.outgoing(entry)
    assert key == b'{"at":"2026-01-31T12:00:00.500Z","sensor":"a"}'
    assert msgspec.json.decode(value[5:], type=Sample) == msgspec.convert(entry, Sample)
    fault = mapper.outgoing(entry | {"at": "2026-01-31T12:00:00.0005Z"})
    assert (fault.stage, fault.rules) == (Stage.PRODUCE, ("at:format",))


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (
            {"id": "a", "location": None},
            "TypeError at test_mapping.py, line {}: 'NoneType' object is not subscriptable",
        ),
        ({"id": "a"}, "KeyError at test_mapping.py, line {}: 'location'"),
        ({"id": "a", "location": []}, "TypeError at test_mapping.py, line {}: list indices must be"),
        (None, "TypeError at test_mapping.py, line {}: 'NoneType' object is not subscriptable"),
        (7, "TypeError at test_mapping.py, line {}: 'int' object is not subscriptable"),
    ],
)
def test_an_entry_on_which_the_mapping_raises_is_a_fault(entry, words):
    """It has type, line and message of the exception, and the text of the line."""
    fault = mapped(from_source, entry)
    assert (fault.reason, fault.stage) == (Reason.MAPPING_FAILED, Stage.PRODUCE)
    assert fault.message.startswith(words.format(FROM_SOURCE_LINE))
    assert fault.message.endswith(LINE)
    assert fault.kind == fault.message.partition(":")[0]


class Odd(Exception):
    def __str__(self):
        raise RuntimeError("cannot say")


RAISED = [
    IndexError("no such"),
    AttributeError("no such"),
    ValueError("bad"),
    ArithmeticError("bad"),
    AssertionError("bad"),
    LookupError(),
    StopIteration(),
    OSError(5, "bad"),
    RecursionError("deep"),
    UnicodeError("bad"),
    NotImplementedError("bad"),
    SourceRefused("bad", hint="no"),
    ExceptionGroup("bad", [ValueError()]),
    Odd(),
]


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_whatever_the_mapping_raises_is_a_fault(error):
    """Of only that entry, with the exception's type and its line."""

    def raising(_entry):
        raise error

    fault = mapped(raising)
    line = raising.__code__.co_firstlineno + 1
    assert fault.cause == f"{type(error).__name__} at test_mapping.py, line {line}"
    assert fault.message.endswith("the line is: raise error")


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt, SystemExit])
def test_other_errors_are_raised(error):
    """Lack of memory and a request to terminate say nothing about an entry."""

    def raising(_entry):
        raise error

    with pytest.raises(error):
        mapped(raising)


def test_the_line_is_the_innermost_one_in_the_pipelines_file():
    """Not that of the library that it called, nor the outermost."""

    def read(entry):
        return date.fromisoformat(entry["id"]), Path(entry["none"])

    def outer(entry):
        return functools.reduce(lambda _, item: read(item), [entry], None)

    fault = mapped(outer, {"id": "2026-01-01", "none": 5})
    assert fault.cause == f"TypeError at test_mapping.py, line {read.__code__.co_firstlineno + 1}"


@pytest.mark.parametrize(
    "function",
    [
        functools.partial(from_source),
        functools.wraps(from_source)(lambda entry: from_source(entry or None)),
        functools.lru_cache(from_source),
        type("Callable", (), {"__call__": lambda _self, entry: from_source(entry)})(),
    ],
    ids=["partial", "decorated", "cached", "object"],
)
def test_the_line_is_found_below_wrappers(function):
    """A mapping may be a partial, decorated, or a callable object."""
    assert mapped(function, 7).cause == f"TypeError at test_mapping.py, line {FROM_SOURCE_LINE}"


def test_code_that_python_did_not_compile_has_no_line():
    """The fault then has type and message."""
    assert mapped(int, "x").message == "ValueError: invalid literal for int() with base 10: 'x'"


class Other(Record, frozen=True, kw_only=True):
    id: str


RETURNED = [None, 7, "text", [], object(), iter([]), GOOD.items(), Odd(), Person, Other(id="a")]


@pytest.mark.parametrize("returned", RETURNED, ids=lambda item: type(item).__name__)
def test_a_result_that_is_no_record_is_a_fault_that_says_what_is_expected(returned):
    """Whatever the mapping returns, another record included."""
    fault = mapped(lambda _: returned)
    assert (fault.reason, fault.stage) == (Reason.MAPPING_FAILED, Stage.PRODUCE)
    what = "None" if returned is None else f"an instance of {type(returned).__name__}"
    assert fault.cause == f"{what} returned by from_source in test_mapping.py"
    assert fault.message == f"{fault.cause}: return a Person, or a dict of its fields"


@pytest.mark.parametrize("returned", [{}, {"id": 7}, {1: 2}], ids=str)
def test_fields_that_are_no_record_break_the_contract(returned):
    """Some are missing, wrong or have no name."""
    assert mapped(lambda _: returned).reason == Reason.CONTRACT_BROKEN


def test_any_mapping_of_names_is_fields():
    """A read-only view of a dict is checked like the dict."""
    key, _ = mapped(lambda entry: MappingProxyType({"id": entry["id"]}))
    assert key == b"a"


class Parcel(Record, frozen=True, kw_only=True, rename="camel"):
    parcel_id: Annotated[str, Meta(min_length=1, max_length=5, extra=KEY)]
    unit_price: Annotated[Decimal, Digits(6, 2)] | None = None
    sent_at: Annotated[datetime, Meta(extra=PAST)] | None = None
    grams: Annotated[int, Meta(ge=0)] = msgspec.field(name="weight")


class Heavy(Parcel, frozen=True, kw_only=True):
    pallet: int


PARCELS = Pipeline(topic="parcels", keyspace="k", table="parcels", record=Parcel, from_source=dict)
GOOD_PARCEL = {"parcel_id": "a", "grams": 5, "unit_price": Decimal("1.50"), "sent_at": datetime(2024, 1, 1, tzinfo=UTC)}
NAMES = dict(zip(Parcel.__struct_fields__, Parcel.__struct_encode_fields__, strict=True))


def sent(returned, changes=None, pipeline=PARCELS, entry=None):
    """What is sent for a result of the mapping: the message's fields, or the fault."""
    function = returned if callable(returned) else lambda _: returned
    mapper = Mapper(replace(pipeline, from_source=function), build_serializer(pipeline.record, "json", 1))
    outgoing = mapper.outgoing(entry, changes)
    return outgoing if isinstance(outgoing, Fault) else msgspec.json.decode(outgoing[1][5:])


def test_a_returned_record_is_sent_like_a_dict_of_its_fields():
    """A record of a subclass too, of which only the fields of the record are sent."""
    as_dict = sent({NAMES[column]: value for column, value in GOOD_PARCEL.items()})
    assert as_dict["weight"] == 5
    assert sent(Parcel(**GOOD_PARCEL)) == sent(Heavy(pallet=1, **GOOD_PARCEL)) == as_dict


@pytest.mark.parametrize(
    "wrong",
    [
        {"parcel_id": None},
        {"parcel_id": ""},
        {"parcel_id": 7},
        {"grams": -1, "parcel_id": "too long"},
        {"grams": "5"},
        {"unit_price": Decimal("1.505")},
        {"unit_price": Decimal("NaN")},
        {"unit_price": "1_0"},
        {"sent_at": datetime(2999, 1, 1, tzinfo=UTC)},
        {"sent_at": datetime(2024, 1, 1)},
        {"sent_at": "2024-01-01T00:00:00"},
        {"sent_at": msgspec.UNSET},
        {"parcel_id": "a\0"},
        {"parcel_id": [], "grams": [], "unit_price": {}, "sent_at": "x"},
    ],
    ids=str,
)
def test_a_returned_record_is_validated_like_a_dict_of_its_fields(wrong):
    """Its constructor checks nothing: the same rules are broken, with the same messages and names."""
    values = GOOD_PARCEL | wrong
    fault = sent(Parcel(**values))
    assert fault == sent({NAMES[column]: value for column, value in values.items()})
    assert {rule.partition(":")[0] for rule in fault.rules} == {NAMES[column] for column in wrong}


def test_changes_are_applied_to_a_returned_record():
    """By the names in messages, before it is validated."""
    invalid = Parcel(**GOOD_PARCEL | {"grams": -1})
    assert sent(invalid, {"weight": 7, "unitPrice": None}) == sent(
        Parcel(**GOOD_PARCEL | {"grams": 7, "unit_price": None})
    )


def test_a_field_that_a_record_needs_is_missing_where_it_is_made():
    """The constructor raises, which has the line."""
    fault = sent(lambda _: Parcel(parcel_id="a"))
    assert (fault.reason, fault.cause.partition(",")[0]) == (Reason.MAPPING_FAILED, "TypeError at test_mapping.py")
    assert "Missing required argument 'grams'" in fault.message


class Trade(Record, frozen=True, kw_only=True):
    id: Annotated[str, Meta(min_length=1, max_length=50, extra=KEY)]
    price: Annotated[Decimal, Digits(38, 18)] | None = None
    ratio: float | None = None


TRADES = Pipeline(topic="trades", keyspace="k", table="trades", record=Trade, from_source=dict)
LONG = "12345678901234567890.123456789012345678"


def sent_trade(function, text):
    """What is sent for an entry of an API, given as JSON text."""
    return sent(function, pipeline=TRADES, entry=msgspec.json.Decoder(float_hook=TRADES.number_reader).decode(text))


class ApiTrade(msgspec.Struct):
    price: Decimal
    ratio: float


def convert_trade(entry):
    trade = msgspec.convert(entry, ApiTrade)
    return Trade(id="a", price=trade.price, ratio=trade.ratio * 2)


@pytest.mark.parametrize(
    "function",
    [
        lambda entry: {"id": "a", "price": entry["price"], "ratio": entry["ratio"] * 2},
        lambda entry: Trade(id="a", price=entry["price"], ratio=2.0 * entry["ratio"]),
        lambda entry: Trade(id="a", price=Decimal(str(entry["price"])), ratio=entry["ratio"] + entry["ratio"]),
        lambda entry: Trade(id="a", price=f"{entry['price']}", ratio=entry["ratio"] / 0.5),
        convert_trade,
    ],
    ids=["a dict", "a record", "by way of text", "as text", "by msgspec"],
)
@pytest.mark.parametrize(
    ("number", "digits"),
    [
        (LONG, LONG),
        ("0.1", "0.1"),
        ("0.123456789012345678", "0.123456789012345678"),
        ("1234567.8901234567", "1234567.8901234567"),
        ("0.30000000000000004", "0.30000000000000004"),
        ("-0.0", "-0.0"),
        ("1e-18", "0.000000000000000001"),
        ("1.5E+3", "1500"),
        ("9007199254740993.0", "9007199254740993.0"),
    ],
)
def test_a_number_of_an_entry_keeps_its_digits_in_a_decimal(function, number, digits):
    """However it gets there, and floats beside it are floats to calculate with."""
    message = sent_trade(function, f'{{"price": {number}, "ratio": 0.12345678901234567890}}')
    assert Decimal(message["price"]) == Decimal(digits)
    assert message["ratio"] == 0.12345678901234567890 * 2


def test_a_long_number_is_a_float_where_the_record_has_a_float():
    """The nearest one."""
    text = f'{{"id": "a", "ratio": {LONG}}}'
    assert sent_trade(dict, text)["ratio"] == sent_trade(lambda entry: Trade(**entry), text)["ratio"] == float(LONG)


def test_a_number_that_a_mapping_calculated_is_not_taken_for_exact():
    """A float of more than 15 digits may have been rounded; the rule says how to send it instead."""
    fault = sent_trade(lambda entry: {"id": "a", "price": entry["price"] * 1.0}, f'{{"price": {LONG}}}')
    assert fault.message == "price: has more than 15 digits, which a floating-point number rounds: send it as text"


def test_a_mapping_that_msgspec_refuses_is_called_once_if_no_number_is_long():
    """It is called again, with decimals, only if a long number may be what msgspec refused."""
    calls = []

    def refuse(entry):
        calls.append(entry)
        return msgspec.convert(entry, ApiTrade)

    assert "Expected `decimal`, got `object`" in sent_trade(refuse, '{"price": {}, "ratio": 0.5}').message
    assert len(calls) == 1
    assert (
        "Expected `decimal`, got `object`" in sent_trade(refuse, '{"price": {}, "ratio": 0.12345678901234567}').message
    )
    assert calls[1:] == [calls[1], {"price": {}, "ratio": Decimal("0.12345678901234567")}]


def test_records_without_decimals_get_plain_numbers():
    """Their entries are read as before."""
    pipeline = Pipeline(topic="people", keyspace="k", table="people", record=Person, from_source=from_source)
    assert pipeline.number_reader is None


@pytest.mark.parametrize("wire_format", ["json", "avro"])
def test_fields_that_cannot_be_encoded_are_a_fault(wire_format):
    """A lone surrogate passes every rule and has no bytes."""
    for returned in ({"id": "a", "city": "\ud800"}, {"id": "\udc80"}):
        fault = mapped(lambda _, returned=returned: returned, wire_format=wire_format)
        assert (fault.reason, fault.cause) == (Reason.MAPPING_FAILED, "UnicodeEncodeError")
        assert fault.message.isprintable()


def test_a_validation_error_breaks_the_contract():
    """msgspec's own message says which of the API's fields it is."""
    fault = mapped(lambda entry: msgspec.convert(entry, type=dict[str, int]))
    assert (fault.reason, fault.rules) == (Reason.CONTRACT_BROKEN, (":type",))
    assert "Expected `int`" in fault.message


def test_a_value_that_is_too_large_is_a_fault():
    """A record above the maximum value size is not sent."""
    assert mapped(lambda _: {"id": "a", "city": "x" * 1_000_001}).reason == Reason.VALUE_TOO_LARGE


def test_a_message_is_bounded_and_printable():
    """However long the exception's message is, and whatever it contains."""

    def raising(_entry):
        raise ValueError("\x1b[2J\ud800\n" + "x" * 10_000_000)

    message = mapped(raising).message
    assert len(message) < 1000
    assert message.isprintable()
