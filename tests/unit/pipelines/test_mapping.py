import functools
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Annotated

import msgspec
import pytest
from msgspec import Meta

from penstock.codec.encode import build_serializer
from penstock.contract.fault import Reason, Stage
from penstock.contract.record import KEY, Record
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


RETURNED = [None, 7, "text", [], object(), {}, {"id": 7}, {1: 2}, iter([]), GOOD.items(), Odd()]


@pytest.mark.parametrize("returned", RETURNED, ids=lambda item: type(item).__name__)
def test_a_result_that_is_not_a_record_breaks_the_contract(returned):
    """Whatever the mapping returns."""
    fault = mapped(lambda _: returned)
    assert (fault.reason, fault.stage) == (Reason.CONTRACT_BROKEN, Stage.PRODUCE)


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
