"""Records that change: what was written before is read afterwards, and what a job does that still runs."""

import json
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from penstock.broker.registry import WriterSchema, schema_of
from penstock.codec.avro import AvroReaders
from penstock.codec.encode import build_serializer
from penstock.codec.records import Decoder
from penstock.codec.renaming import build_name_search, rename_json
from penstock.codec.values import read_fields
from penstock.codec.wire_format import encode_header
from penstock.contract.aliases import rename_fields
from penstock.contract.continuation import allow_nulls, continue_schema
from penstock.contract.evolution import ChangeKind, compare_schemas, list_refused
from penstock.contract.fault import Fault, Reason
from penstock.contract.record import KEY, Alias, Digits, Record
from penstock.pipelines.users import User
from tests.unit.fakes import AVRO_ID, JSON_ID, FakeSchemas
from tests.unit.strategies import decimals, durations, moments, to_ms

ID = UUID(int=7)
FORMATS = ["plain", "json", "avro"]
Small = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]


def record_of(**hints: Any) -> type[Record]:
    """A record with an id and these fields; a field that may be None has that default."""
    members = [(name, hint, None) if is_optional(hint) else (name, hint) for name, hint in hints.items()]
    fields = [("id", Annotated[UUID, Meta(extra=KEY)]), *members]
    return msgspec.defstruct("One", fields, bases=(Record,), frozen=True, kw_only=True)


def is_optional(hint: Any) -> bool:
    return type(None) in getattr(hint, "__args__", ())


def write(record: type[Record], form: str, **values: Any) -> bytes:
    """The value of a record as its own producer writes it, or without a header."""
    instance = record(id=ID, **values)
    if form == "plain":
        return build_serializer(record, "json", JSON_ID)(instance)[5:]
    return build_serializer(record, form, JSON_ID if form == "json" else AVRO_ID)(instance)  # type: ignore[arg-type]


def read(record: type[Record], writer: type[Record], value: bytes) -> Any:
    """What a decoder of `record` makes of a value of `writer`."""
    return Decoder(record, FakeSchemas.of(writer)).decode(value)


# Any sequence of changes


@dataclass(frozen=True)
class Field:
    """A field in some version: its names so far, the newest first, its type in `KINDS`, and whether it is optional."""

    names: tuple[str, ...]
    kind: str
    is_optional: bool

    @property
    def hint(self) -> Any:
        hint = KINDS[self.kind][0]
        if self.names[1:]:
            hint = Annotated[hint, Alias(*self.names[1:])]
        return hint | None if self.is_optional else hint


KINDS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "text": (str, st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5)),
    "small": (Small, st.integers(-(2**31), 2**31 - 1)),
    "big": (int, st.integers(-(2**63), 2**63 - 1)),
    "ratio": (float, st.floats(allow_nan=False, allow_infinity=False)),
    "flag": (bool, st.booleans()),
    "uuid": (UUID, st.uuids()),
    "day": (date, st.dates()),
    "moment": (Annotated[datetime, Meta(tz=True)], moments.map(to_ms)),
    "lasts": (timedelta, durations),
    "price": (Annotated[Decimal, Digits(30, 2)], decimals(Digits(30, 2))),
    "bytes": (bytes, st.binary(max_size=5)),
}
WIDER = {"small": ["big", "ratio"]}


@st.composite
def changed_fields(draw: st.DrawFn, before: dict[int, Field], numbers: Any) -> dict[int, Field]:
    """The fields after allowed changes of some of them, by the number that a field keeps."""
    after = {}
    for number, field in before.items():
        change = draw(st.sampled_from(["keep", "keep", "rename", "loosen", "widen", "remove"]))
        names, kind, optional = field.names, field.kind, field.is_optional
        if change == "remove" and optional:
            continue
        if change == "rename":
            names = (f"f{next(numbers)}", *names)
        if change == "widen" and kind in WIDER:
            kind = draw(st.sampled_from(WIDER[kind]))
        after[number] = Field(names, kind, optional or change == "loosen")
    if draw(st.booleans()):
        number = next(numbers)
        after[number] = Field((f"f{number}",), draw(st.sampled_from(sorted(KINDS))), True)
    return after


@st.composite
def histories(draw: st.DrawFn) -> list[dict[int, Field]]:
    """Versions of a record, each by allowed changes of the one before."""
    numbers = iter(range(1000))
    kinds = draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=5))
    first = {
        number: Field((f"f{number}",), kind, draw(st.booleans())) for number, kind in zip(numbers, kinds, strict=False)
    }
    versions = [first]
    for _ in range(draw(st.integers(1, 3))):
        versions.append(draw(changed_fields(versions[-1], numbers)))
    return versions


def build(fields: dict[int, Field]) -> type[Record]:
    return record_of(**{field.names[0]: field.hint for field in fields.values()})


@given(histories(), st.data())
def test_what_any_version_wrote_every_later_version_reads(history, data):
    """Whatever was renamed, removed, added, widened or made optional in between: each value is where it belongs."""
    first, last = history[0], history[-1]
    older, newer = build(first), build(last)
    values = {
        number: data.draw(KINDS[field.kind][1] | st.none() if field.is_optional else KINDS[field.kind][1])
        for number, field in first.items()
    }
    expected = newer(id=ID, **{field.names[0]: values.get(number) for number, field in last.items()})
    named = {field.names[0]: values[number] for number, field in first.items()}
    for form in FORMATS:
        assert read(newer, older, write(older, form, **named)) == expected


@given(histories())
@pytest.mark.parametrize("wire_format", ["json", "avro"])
def test_every_step_of_a_history_is_allowed(wire_format, history):
    """Each is compared with what the step before registered, and stays the same if it is registered again."""
    own = [schema_of(build(fields), wire_format) for fields in history]
    for adapt in (continue_schema, allow_nulls) if wire_format == "json" else (lambda _, schema: schema,):
        registered = own[0]
        for newer in own[1:]:
            assert not list_refused(compare_schemas(registered, newer))
            registered = adapt(registered, newer)
            assert compare_schemas(registered, newer) == []
            assert adapt(registered, newer) == registered


# Former names


class Person(Record, frozen=True, kw_only=True):
    """A person, some of whose fields had other names."""

    id: Annotated[UUID, Meta(extra=KEY)]
    born: Annotated[date, Alias("dob", "birthday")]
    price: Annotated[Decimal, Digits(30, 2), Alias("cost")] | None = None
    lasts: Annotated[timedelta | None, Alias("took")] = None


BORN = date(1999, 12, 31)
PERSON = Person(id=ID, born=BORN)
DECODER = Decoder(Person, FakeSchemas.of(Person))


@pytest.mark.parametrize("name", ["born", "dob", "birthday", r"\u0064ob", r"do\u0062", r"birthda\u0079"])
@pytest.mark.parametrize("header", [b"", encode_header(JSON_ID)], ids=["plain", "framed"])
def test_a_field_is_read_by_each_of_its_names(name, header):
    """However the name is written in JSON."""
    assert DECODER.decode(header + f'{{"id":"{ID}","{name}":"1999-12-31"}}'.encode()) == PERSON


def test_no_digit_is_lost_by_a_former_name():
    """A value stays as it was written, also while it is renamed for a repair."""
    value = f'{{"id":"{ID}","dob":"1999-12-31","cost":12345678901234567890.12}}'.encode()
    price = Decimal("12345678901234567890.12")
    assert DECODER.decode(value) == Person(id=ID, born=BORN, price=price)
    values = read_fields(value, AvroReaders(FakeSchemas.of(Person)), Person)
    assert rename_fields(values, Person)["price"] == price


def test_a_duration_by_a_former_name_is_one_for_a_repair():
    """Avro has no type for it: it is read as what the field is."""
    older = record_of(dob=date, took=timedelta)
    values = read_fields(
        write(older, "avro", dob=BORN, took=timedelta(seconds=3)), AvroReaders(FakeSchemas.of(older)), Person
    )
    assert values["took"] == timedelta(seconds=3)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('"dob":"1999-12-31","born":"1999-12-31"', "born: occurs twice: as dob and as born"),
        ('"dob":null,"born":"1999-12-31"', "born: occurs twice: as dob and as born"),
        ('"dob":"1999-12-31","birthday":"1999-12-31"', "born: occurs twice: as birthday and as dob"),
        ('"born":"1999-12-31","price":"1.00","cost":"2.00"', "price: occurs twice: as cost and as price"),
    ],
)
def test_a_field_with_two_names_in_one_message_is_dead_lettered(body, message):
    """Which of the two counts is not ours to choose; the reason names both."""
    fault = DECODER.decode(f'{{"id":"{ID}",{body}}}'.encode())
    assert isinstance(fault, Fault)
    assert (fault.reason, fault.message) == (Reason.CONTRACT_BROKEN, message)
    assert fault.rules == (f"{message.partition(':')[0]}:name",)


def test_avro_whose_schema_has_both_names_is_dead_lettered():
    """As in JSON, with the schema's id."""
    older = record_of(dob=date, born=date)
    fault = read(Person, older, write(older, "avro", dob=BORN, born=BORN))
    assert isinstance(fault, Fault)
    assert (fault.message, fault.schema_id) == ("born: occurs twice: as dob and as born", AVRO_ID)


@pytest.mark.parametrize(
    ("value", "reason", "message"),
    [
        (b'{"dob":"1999-12-31","dob":"1999-12-31"}', Reason.JSON_MALFORMED, "duplicate field name 'dob'"),
        (b'{"id":"x","dob":1}', Reason.CONTRACT_BROKEN, "born: Expected `date`"),
        (b'{"dob":"1999-12-31"', Reason.JSON_MALFORMED, "truncated"),
        (b'["dob"]', Reason.CONTRACT_BROKEN, "Expected `object`"),
        (b'{"dob":"\xff"}', Reason.JSON_MALFORMED, ""),
        (b'{"dob":' + b"[" * 100_000, Reason.JSON_MALFORMED, ""),
        (b'{"dob":"1999-12-31"}', Reason.CONTRACT_BROKEN, "id: is missing"),
    ],
)
def test_a_value_with_a_former_name_has_the_same_faults(value, reason, message):
    """What is wrong is said in the words of the field's own name."""
    fault = DECODER.decode(value)
    assert isinstance(fault, Fault)
    assert fault.reason == reason
    assert message in fault.message


def test_the_key_of_a_tombstone_may_have_the_former_name():
    """An object with the id as its only field, by either name."""
    record = msgspec.defstruct(
        "One", [("number", Annotated[int, Meta(extra=KEY), Alias("id")])], bases=(Record,), frozen=True, kw_only=True
    )
    decoder = Decoder(record, FakeSchemas.of(record), "json")
    for key in (b'{"id": 7}', b'{"number": 7}', b"7"):
        assert decoder.deleted(key, None) == 7
    assert isinstance(decoder.deleted(b'{"id": 7, "number": 7}', None), Fault)


def test_a_record_without_former_names_is_read_in_one_pass():
    """Its values are not searched for names."""
    assert build_name_search(User) is None
    decoder = Decoder(User, FakeSchemas.of(User))
    assert decoder._read_json == decoder._decode_json


texts = st.text(st.characters(codec="utf-8"), max_size=3)
members = st.recursive(
    st.none() | st.integers() | texts, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner)
)


@given(st.dictionaries(st.sampled_from(["id", "born", "price", "x", "dobby"]) | texts, members), st.booleans())
def test_an_object_is_renamed_as_it_is(values, escaped):
    """Only the names of fields change, at the top of the object; everything else is as before."""
    values = {name: value for name, value in values.items() if name not in ("dob", "birthday", "cost", "took")}
    values.pop("born", None)
    text = json.dumps(values | {"dob": {"dob": 1}}, ensure_ascii=escaped)
    renamed = rename_json(text.encode(), Person)
    assert json.loads(renamed) == values | {"born": {"dob": 1}}


# What a job does that still runs with the older record


@dataclass(frozen=True)
class Step:
    """A change from one record to another, and what the older job makes of a newer value: None for a dead letter."""

    older: type[Record]
    newer: type[Record]
    values: dict[str, Any]
    expected: dict[str, Any] | None
    kind: ChangeKind
    says: str


A = record_of(a=str)
STEPS = {
    "optional added": Step(
        A,
        record_of(a=str, b=int | None),
        {"a": "x", "b": 1},
        {"a": "x"},
        ChangeKind.ADDED_OPTIONAL,
        "stores rows without",
    ),
    "optional removed": Step(
        record_of(a=str, b=int | None), A, {"a": "x"}, {"a": "x", "b": None}, ChangeKind.REMOVED_OPTIONAL, "stores null"
    ),
    "required renamed": Step(
        A, record_of(b=Annotated[str, Alias("a")]), {"b": "x"}, None, ChangeKind.FIELD_RENAMED, "dead-letters records"
    ),
    "optional renamed": Step(
        record_of(a=str | None),
        record_of(b=Annotated[str, Alias("a")] | None),
        {"b": "x"},
        {"a": None},
        ChangeKind.FIELD_RENAMED,
        "stores null in `a`",
    ),
    "made optional": Step(
        A, record_of(a=str | None), {"a": None}, None, ChangeKind.NOW_OPTIONAL, "dead-letters records without it"
    ),
    "made optional, given": Step(
        A, record_of(a=str | None), {"a": "x"}, {"a": "x"}, ChangeKind.NOW_OPTIONAL, "dead-letters records without it"
    ),
    "widened": Step(record_of(a=Small), record_of(a=int), {"a": 2**40}, None, ChangeKind.WIDENED, "dead-letters"),
    "widened to float": Step(
        record_of(a=Small), record_of(a=float), {"a": 0.5}, None, ChangeKind.WIDENED, "dead-letters"
    ),
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("case", STEPS)
def test_the_plan_is_right_about_a_job_that_still_runs(case, form):
    """What the reason of a change says is what the older record's decoder does with a newer value."""
    step = STEPS[case]
    result = read(step.older, step.newer, write(step.newer, form, **step.values))
    assert isinstance(result, Fault) if step.expected is None else result == step.older(id=ID, **step.expected)
    wire_format = "avro" if form == "avro" else "json"
    (change,) = compare_schemas(schema_of(step.older, wire_format), schema_of(step.newer, wire_format))
    assert change.kind == step.kind
    assert f"until it is restarted, a running job {step.says}" in change.why


@pytest.mark.parametrize(("form", "is_read"), [("plain", True), ("json", True), ("avro", False)])
def test_a_wider_avro_type_is_not_read_at_all_by_a_running_job(form, is_read):
    """JSON is read as far as its values fit: the reasons say so."""
    older, newer = record_of(a=Small), record_of(a=int)
    result = read(older, newer, write(newer, form, a=1))
    assert (result == older(id=ID, a=1)) == is_read
    (change,) = compare_schemas(*(schema_of(record, "json" if is_read else "avro") for record in (older, newer)))
    assert ("every newer record" in change.why) != is_read


def test_a_float_of_another_producer_is_read_as_a_double():
    """Avro promotes it; the value is exact."""
    newer = record_of(a=float)
    writer = schema_of(newer, "avro")
    writer["fields"][1]["type"] = "float"
    (change,) = compare_schemas(writer, schema_of(newer, "avro"))
    assert change.kind == ChangeKind.WIDENED
    value = encode_header(AVRO_ID) + b"\x48" + str(ID).encode() + b"\x00\x00\xac\x41"
    assert Decoder(newer, FakeSchemas({AVRO_ID: WriterSchema("avro", writer)})).decode(value) == newer(id=ID, a=21.5)
