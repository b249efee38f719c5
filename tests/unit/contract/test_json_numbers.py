import copy
import json
import math
import pickle
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.contract.json_numbers import (
    LongNumber,
    encode_json,
    has_long_numbers,
    keeps_digits,
    nests_records,
    read_number,
    to_decimals,
)
from penstock.contract.record import Digits, Record
from penstock.pipelines.users import User
from tests.unit.records import Everything, Scalars
from tests.unit.strategies import many_examples

LONG = "12345678901234567890.1234567890"
decode = msgspec.json.Decoder(float_hook=read_number).decode
numbers = st.from_regex(r"-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,25})?([eE][-+]?[0-9]{1,3})?", fullmatch=True)


@many_examples
@given(numbers)
def test_a_number_is_read_without_the_loss_of_a_digit(text):
    """And is the float that msgspec reads; one that no float is near is refused, as msgspec does."""
    try:
        plain = msgspec.json.decode(text)
    except msgspec.ValidationError:
        with pytest.raises(msgspec.ValidationError, match="out of range"):
            decode(text)
        return
    number = decode(text)
    assert number == plain
    assert Decimal(str(number)) == Decimal(text)
    assert to_decimals(number) == (Decimal(text) if isinstance(number, LongNumber) else number)
    assert msgspec.json.decode(encode_json([number]), type=list[Decimal]) == [Decimal(text)]


_FEW_DIGITS = ("0.5", "-1234567.12345678", "1e5", "1.5E-300", "4E-7", "-0.0", "0e-999999999")
_MANY_ZEROS = (
    "0.000000000000000000000001",
    "100000000000000000000.0",
    "1.50000000000000000000000",
    "123456789012345.000",
)


@pytest.mark.parametrize("text", [*_FEW_DIGITS, *_MANY_ZEROS])
def test_a_number_of_few_digits_is_a_plain_float(text):
    """Zeros and exponents are no digits."""
    number = decode(text)
    assert (type(number), str(number)) == (float, str(float(text)))


@pytest.mark.parametrize("text", [LONG, "0.1234567890123456", "9007199254740993.0", "1e-400", "1.2345678e-320"])
def test_a_number_that_a_float_may_have_rounded_remembers_its_text(text):
    """Of more than 15 digits, or too small for them."""
    number = decode(text)
    assert (type(number), str(number), repr(number), f"{number}") == (LongNumber, text, text, text)
    for copied in (copy.deepcopy(number), pickle.loads(pickle.dumps(number))):
        assert (type(copied), copied.text) == (LongNumber, text)


@pytest.mark.parametrize("text", ["1e400", "-1E+309", "1e999999999999999999999", "1e-999999999999999999999"])
def test_a_number_out_of_range_is_refused(text):
    """Like msgspec, which has no infinity either; a page with one is then read entry by entry."""
    with pytest.raises(msgspec.ValidationError, match=r"Number out of range - at `\$\[0\]`"):
        decode(f"[{text}]")


def test_a_long_number_is_a_float_in_arithmetic():
    """Its results are plain floats, which claim no exactness."""
    number = LongNumber("0.12345678901234567890")
    plain = 0.12345678901234567890
    results = [number * 1.5, 2 * number, number + 1, -number, abs(number), round(number, 2), sum([number, number])]
    assert results == [plain * 1.5, 2 * plain, plain + 1, -plain, plain, round(plain, 2), plain + plain]
    assert {type(result) for result in results} == {float}
    assert (number == plain, number < 1, math.floor(number), f"{number:.2f}") == (True, True, 0, "0.12")
    assert isinstance(number, float)
    assert json.loads(json.dumps(number)) == plain


def test_a_mapping_of_an_entry_is_copied_with_decimals():
    """At every level, records by their names in messages; the entry keeps its own."""

    class Inner(Record, frozen=True, kw_only=True, rename="camel"):
        unit_price: Decimal
        note: str | None = None

    long, exact = LongNumber(LONG), Decimal(LONG)
    entry = {"a": [long, 0.5, "x", None], "b": {"c": long}, "d": (1, long), "e": Inner(unit_price=long)}
    expected = {"a": [exact, 0.5, "x", None], "b": {"c": exact}, "d": [1, exact]}
    assert to_decimals(entry) == expected | {"e": {"unitPrice": exact, "note": None}}
    assert entry["a"][0] is long


@pytest.mark.parametrize(("value", "has"), [({"a": [0.5, {"b": LongNumber(LONG)}]}, True), ([0.5, {"a": [1]}], False)])
def test_long_numbers_are_found_at_every_level(value, has):
    """In objects and in lists."""
    assert has_long_numbers(value) is has


def test_what_is_not_json_is_not_written():
    """Only numbers are written in another way."""
    with pytest.raises(TypeError, match="Encoding objects of type complex is unsupported"):
        encode_json([1j])


class _Nested(Record, frozen=True, kw_only=True):
    items: list[dict[str, Annotated[Decimal, Digits(5, 2)] | None]]
    again: "_Nested | None" = None


@pytest.mark.parametrize(("record", "keeps"), [(User, False), (Everything, False), (Scalars, True), (_Nested, True)])
def test_a_record_keeps_more_digits_than_a_float_if_it_has_decimals(record, keeps):
    """At any depth; entries of other records are read as ever."""
    assert keeps_digits(record) is keeps


@pytest.mark.parametrize(
    ("kind", "nests"), [(int, False), (list[int], False), (_Nested, True), (dict[str, _Nested], True)]
)
def test_records_in_a_record_are_found_at_any_depth(kind, nests):
    """The record itself is none of them."""
    record = msgspec.defstruct("One", [("it", kind | None)], bases=(Record,), frozen=True, kw_only=True)
    assert nests_records(record) is nests


@pytest.mark.parametrize(
    ("kind", "keeps"),
    [(msgspec.Raw, True), (tuple[int, msgspec.Raw] | None, True), (list[datetime], False), (Literal["a"], False)],
)
def test_any_json_keeps_digits_too(kind, keeps):
    """`msgspec.Raw` is JSON text."""
    assert keeps_digits(msgspec.defstruct("One", [("it", kind)], bases=(Record,), frozen=True, kw_only=True)) is keeps
