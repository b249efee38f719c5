import json
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Annotated
from uuid import UUID

import msgspec
import pytest
from msgspec import Meta

from penstock.contract.aliases import check_aliases, find_doubled_names, former_names, rename_fields, set_fields
from penstock.contract.fields import fields
from penstock.contract.masking import MASK, mask_personal
from penstock.contract.record import KEY, PERSONAL, Alias, Digits, Record
from penstock.contract.schemas import avro_schema, json_schema
from penstock.contract.violation import Rule
from penstock.pipelines.validate import find_problems
from tests.unit.records import READINGS


class Person(Record, frozen=True, kw_only=True):
    """A person, some of whose fields had other names."""

    id: Annotated[UUID, Meta(extra=KEY)]
    born: Annotated[date, Meta(extra=PERSONAL), Alias("dob", "birthday")]
    price: Annotated[Decimal, Digits(30, 2), Alias("cost")] | None = None
    nick_name: Annotated[str | None, Alias("alias")] = msgspec.field(default=None, name="nickName")


def record_of(**hints):
    return msgspec.defstruct("One", list(hints.items()), bases=(Record,), frozen=True, kw_only=True)


def test_former_names_are_found_in_any_form_of_an_annotation():
    """Beside other marks, and within or around `| None`; they lead to the field's name in messages."""
    assert {field.column: field.aliases for field in fields(Person)} == {
        "id": (),
        "born": ("dob", "birthday"),
        "price": ("cost",),
        "nick_name": ("alias",),
    }
    assert former_names(Person) == {"dob": "born", "birthday": "born", "cost": "price", "alias": "nickName"}


@pytest.mark.parametrize("names", [(), (1,), (None,)])
def test_an_alias_consists_of_names(names):
    """Anything else is refused where it is written."""
    with pytest.raises(TypeError, match=r'Alias\("dob"\)'):
        Alias(*names)


def test_values_are_renamed():
    """Unknown names stay as they are, and so does a field under two names."""
    values = {"id": 1, "dob": 2, "cost": 3, "nickName": 4, "other": 5}
    assert rename_fields(values, Person) == {"id": 1, "born": 2, "price": 3, "nickName": 4, "other": 5}
    doubled = {"dob": 1, "born": 2, "cost": 3}
    assert rename_fields(doubled, Person) == {"dob": 1, "born": 2, "price": 3}


def test_a_field_under_two_names_breaks_a_rule():
    """The violation names both, also if neither is the present one."""
    first, second = find_doubled_names({"dob": 1, "born": 2, "price": 3, "cost": None}, Person)
    assert (first.code, first.message) == ("born:name", "occurs twice: as dob and as born")
    assert (second.code, second.message) == ("price:name", "occurs twice: as cost and as price")
    (third,) = find_doubled_names({"dob": 1, "birthday": 2}, Person)
    assert (third.rule, third.message) == (Rule.NAME, "occurs twice: as birthday and as dob")
    assert find_doubled_names({"dob": 1}, Person) == []


def test_a_field_that_is_set_has_one_name():
    """Its former names are gone; others stay."""
    assert set_fields({"dob": 1, "birthday": 2, "cost": 3}, {"born": 4}, Person) == {"cost": 3, "born": 4}


def test_a_former_name_is_personal_if_the_field_is():
    """Also if it is public elsewhere: messages with it are shown on the same pages."""
    shown = mask_personal({"born": "x", "dob": "x", "price": 1, "cost": 2, "alias": "a"}, Person)
    assert shown == {"born": MASK, "dob": MASK, "price": 1, "cost": 2, "alias": "a"}


def test_the_schemas_have_former_names():
    """JSON Schema as properties with a mark, of which none is in `required`; Avro as aliases."""
    schema = json_schema(Person)
    assert list(schema["properties"]) == ["id", "born", "dob", "birthday", "price", "cost", "nickName", "alias"]
    assert schema["required"] == ["id"]
    of_born = {"type": "string", "format": "date", "x-personal": True}
    assert schema["properties"]["born"] == of_born | {"x-required": True}
    assert schema["properties"]["dob"] == of_born | {"x-alias-of": "born"}
    assert "x-required" not in json.dumps(schema["properties"]["price"])
    aliases = {field["name"]: field.get("aliases") for field in avro_schema(Person)["fields"]}
    assert aliases == {"id": None, "born": ["dob", "birthday"], "price": ["cost"], "nickName": ["alias"]}


WRONG = {
    "of another field": ({"a": str, "b": Annotated[str, Alias("a")]}, "Alias('a') is the name of field a in messages"),
    "its own": ({"a": Annotated[str, Alias("a")]}, "Alias('a') is the name of field a in messages: remove it"),
    "twice": ({"a": Annotated[str, Alias("x", "x")]}, "Alias('x') is declared 2 times: keep one"),
    "of two fields": ({"a": Annotated[str, Alias("x")], "b": Annotated[str, Alias("x")]}, "is declared 2 times"),
    "not a name": ({"a": Annotated[str, Alias("ge burt")]}, "invalid name 'ge burt'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_ambiguous_former_name_is_refused_when_the_pipeline_is_loaded(case):
    """The problem names the field and says what to write instead."""
    hints, expected = WRONG[case]
    record = record_of(id=Annotated[UUID, Meta(extra=KEY)], **hints)
    problems = find_problems(replace(READINGS, record=record, order_by="offset"))
    assert any("field " in problem and expected in problem for problem in problems), problems


def test_a_former_name_may_be_the_column_of_its_own_field_alone():
    """A field may keep its column when its name in messages changes; a column of another field is ambiguous."""

    class Kept(Record, frozen=True, kw_only=True):
        dob: Annotated[date, Alias("dob")] = msgspec.field(name="born")

    class Taken(Record, frozen=True, kw_only=True):
        dob: date = msgspec.field(name="born")
        day: Annotated[date, Alias("dob")]

    check_aliases(Kept)
    with pytest.raises(TypeError, match="is the column of field dob: rename that attribute"):
        check_aliases(Taken)


def test_the_names_of_a_key_of_several_fields_cannot_change():
    """They are part of the Kafka key, which decides the partition; the name of a single key field may change."""
    first = Annotated[UUID, Meta(extra=KEY), Alias("x")]
    check_aliases(record_of(a=first))
    with pytest.raises(TypeError, match="a key of several fields has their names"):
        check_aliases(record_of(a=first, b=Annotated[int, Meta(extra=KEY)]))


def test_a_field_within_a_field_has_no_former_name():
    """Where it is declared, and what to write instead."""

    class Place(msgspec.Struct):
        town: Annotated[str, Alias("city")]

    class Nested(msgspec.Struct):
        places: dict[str, list[Place | None]]

    with pytest.raises(TypeError, match=r"Place.town: .*`town: ... = msgspec.field\(name='city'\)`"):
        check_aliases(Nested)
