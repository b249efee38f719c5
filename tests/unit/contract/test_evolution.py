import copy
import pickle

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.contract.evolution import (
    ALLOWED,
    Change,
    ChangeKind,
    compare_schemas,
    describe_encoding_change,
    list_refused,
)
from penstock.contract.fields import fields
from penstock.contract.schemas import avro_schema, json_schema
from penstock.errors import SchemaRefused
from penstock.pipelines.users import User
from tests.unit.records import Everything, Reading

TEXT = {"type": "string"}
MAYBE_TEXT = {"anyOf": [TEXT, {"type": "null"}], "default": None}
SMALL = {"type": "integer", "minimum": 0, "maximum": 9}
REQUIRED, OF_C = {"x-required": True}, TEXT | {"x-alias-of": "c"}


def of_json(required=("a",), **properties):
    return {"type": "object", "properties": properties, "required": list(required)}


def of_avro(*fields_, name="R"):
    return {"type": "record", "name": name, "namespace": "penstock", "fields": list(fields_)}


def summarize(changes):
    return [(change.field, change.kind) for change in changes]


@pytest.mark.parametrize("record", [User, Everything, Reading])
@pytest.mark.parametrize("render", [json_schema, avro_schema])
def test_a_schema_does_not_differ_from_itself(record, render):
    """The same record, rendered twice, changes nothing."""
    assert compare_schemas(render(record), render(record)) == []


JSON_CASES = {
    "optional more": (of_json(a=TEXT), of_json(a=TEXT, b=MAYBE_TEXT), ChangeKind.ADDED_OPTIONAL, "b"),
    "required more": (of_json(a=TEXT), of_json("ab", a=TEXT, b=TEXT), ChangeKind.ADDED_REQUIRED, "b"),
    "required gone": (of_json("ab", a=TEXT, b=TEXT), of_json(a=TEXT), ChangeKind.REMOVED, "b"),
    "optional gone": (of_json(a=TEXT, b=MAYBE_TEXT), of_json(a=TEXT), ChangeKind.REMOVED_OPTIONAL, "b"),
    "renamed": (
        of_json("ab", a=TEXT, b=TEXT),
        of_json(a=TEXT, c=TEXT | REQUIRED, b=OF_C),
        ChangeKind.FIELD_RENAMED,
        "c",
    ),
    "renamed optional": (
        of_json(a=TEXT, b=MAYBE_TEXT),
        of_json(a=TEXT, c=MAYBE_TEXT, b=MAYBE_TEXT | {"x-alias-of": "c"}),
        ChangeKind.FIELD_RENAMED,
        "c",
    ),
    "another name": (of_json("c", c=TEXT), of_json((), c=TEXT | REQUIRED, b=OF_C), ChangeKind.ALIAS_ADDED, "c"),
    "a name less": (of_json((), c=TEXT | REQUIRED, b=OF_C), of_json("c", c=TEXT), ChangeKind.ALIAS_REMOVED, "c"),
    "two fields become one": (
        of_json("bc", b=TEXT, c=TEXT),
        of_json((), c=TEXT | REQUIRED, b=OF_C),
        ChangeKind.FIELD_RENAMED,
        "c",
    ),
    "int to bigint": (of_json(a=SMALL), of_json(a={"type": "integer", "minimum": 0}), ChangeKind.WIDENED, "a"),
    "int to float": (of_json(a=SMALL), of_json(a={"type": "number"}), ChangeKind.WIDENED, "a"),
    "bigint to float": (of_json(a={"type": "integer"}), of_json(a={"type": "number"}), ChangeKind.TYPE_CHANGED, "a"),
    "null allowed": (of_json(a=TEXT), of_json(a=MAYBE_TEXT), ChangeKind.NOW_OPTIONAL, "a"),
    "null forbidden": (of_json(a=MAYBE_TEXT), of_json(a=TEXT), ChangeKind.NOW_REQUIRED, "a"),
    "default instead of null": (
        of_json((), a=MAYBE_TEXT),
        of_json((), a=TEXT | {"default": ""}),
        ChangeKind.NOW_REQUIRED,
        "a",
    ),
    "default": (of_json("a", a=TEXT), of_json((), a=TEXT | {"default": ""}), ChangeKind.NOW_OPTIONAL, "a"),
    "now required": (of_json(a=TEXT, b=MAYBE_TEXT), of_json("ab", a=TEXT, b=TEXT), ChangeKind.NOW_REQUIRED, "b"),
    "now optional": (of_json(a=TEXT), of_json((), a=MAYBE_TEXT), ChangeKind.NOW_OPTIONAL, "a"),
    "text to int": (
        of_json(a=TEXT),
        of_json(a={"type": "integer", "minimum": 0, "maximum": 9}),
        ChangeKind.TYPE_CHANGED,
        "a",
    ),
    "text to uuid": (of_json(a=TEXT), of_json(a=TEXT | {"format": "uuid"}), ChangeKind.TYPE_CHANGED, "a"),
    "shorter": (of_json(a=TEXT | {"maxLength": 5}), of_json(a=TEXT | {"maxLength": 4}), ChangeKind.RULE_TIGHTENED, "a"),
    "longer": (of_json(a=TEXT | {"maxLength": 5}), of_json(a=TEXT | {"maxLength": 6}), ChangeKind.RULE_LOOSENED, "a"),
    "limited": (of_json(a=TEXT), of_json(a=TEXT | {"maxLength": 5}), ChangeKind.RULE_TIGHTENED, "a"),
    "unlimited": (of_json(a=TEXT | {"maxLength": 5}), of_json(a=TEXT), ChangeKind.RULE_LOOSENED, "a"),
    "higher least": (
        of_json(a=TEXT | {"minLength": 1}),
        of_json(a=TEXT | {"minLength": 2}),
        ChangeKind.RULE_TIGHTENED,
        "a",
    ),
    "lower least": (
        of_json(a=TEXT | {"minLength": 1}),
        of_json(a=TEXT | {"minLength": 0}),
        ChangeKind.RULE_LOOSENED,
        "a",
    ),
    "pattern": (of_json(a=TEXT | {"pattern": "a"}), of_json(a=TEXT | {"pattern": "b"}), ChangeKind.RULE_TIGHTENED, "a"),
    "no pattern": (of_json(a=TEXT | {"pattern": "a"}), of_json(a=TEXT), ChangeKind.RULE_LOOSENED, "a"),
    "rule of none": (
        of_json((), a={"anyOf": [TEXT | {"maxLength": 5}, {"type": "null"}]}),
        of_json((), a={"anyOf": [TEXT | {"maxLength": 4}, {"type": "null"}]}),
        ChangeKind.RULE_TIGHTENED,
        "a",
    ),
    "unheard-of rule": (of_json(a=TEXT), of_json(a=TEXT | {"enum": ["x"]}), ChangeKind.RULE_TIGHTENED, "a"),
    "key": (of_json(a=TEXT), of_json(a=TEXT | {"x-key": True}), ChangeKind.KEY_CHANGED, "a"),
    "described": (of_json(a=TEXT), of_json(a=TEXT | {"description": "A."}), ChangeKind.DESCRIBED, "a"),
    "marked": (of_json(a=TEXT), of_json(a=TEXT | {"x-personal": True}), ChangeKind.DESCRIBED, "a"),
    "record described": (of_json(a=TEXT), of_json(a=TEXT) | {"description": "R."}, ChangeKind.DESCRIBED, ""),
}


@pytest.mark.parametrize("case", JSON_CASES)
def test_each_kind_of_change_of_a_json_schema_is_reported(case):
    """One change is one line, with field and kind, and a reason that names the field."""
    older, newer, kind, name = JSON_CASES[case]
    (change,) = compare_schemas(older, newer)
    is_allowed = kind in ALLOWED and case != "two fields become one"
    assert (change.field, change.kind, change.allowed) == (name, kind, is_allowed)
    assert f"`{name}`" in change.why or not name


TEXT_A = {"name": "a", "type": "string"}
MAYBE_B = {"name": "b", "type": ["null", "string"], "default": None}
A_INT = {"name": "a", "type": "int"}
MAYBE_INT, MAYBE_LONG = (MAYBE_B | {"type": ["null", kind]} for kind in ("int", "long"))
AVRO_CASES = {
    "optional more": (of_avro(TEXT_A), of_avro(TEXT_A, MAYBE_B), ChangeKind.ADDED_OPTIONAL, "b"),
    "required more": (of_avro(TEXT_A), of_avro(TEXT_A, {"name": "b", "type": "int"}), ChangeKind.ADDED_REQUIRED, "b"),
    "null but no default": (
        of_avro(TEXT_A),
        of_avro(TEXT_A, {"name": "b", "type": ["null", "int"]}),
        ChangeKind.ADDED_REQUIRED,
        "b",
    ),
    "optional gone": (of_avro(TEXT_A, MAYBE_B), of_avro(TEXT_A), ChangeKind.REMOVED_OPTIONAL, "b"),
    "required gone": (of_avro(TEXT_A, {"name": "b", "type": "int"}), of_avro(TEXT_A), ChangeKind.REMOVED, "b"),
    "now optional": (of_avro({"name": "b", "type": "string"}), of_avro(MAYBE_B), ChangeKind.NOW_OPTIONAL, "b"),
    "renamed": (of_avro(TEXT_A), of_avro({**TEXT_A, "name": "c", "aliases": ["a"]}), ChangeKind.FIELD_RENAMED, "c"),
    "another name": (of_avro(TEXT_A), of_avro(TEXT_A | {"aliases": ["c"]}), ChangeKind.ALIAS_ADDED, "a"),
    "a name less": (of_avro(TEXT_A | {"aliases": ["c"]}), of_avro(TEXT_A), ChangeKind.ALIAS_REMOVED, "a"),
    "int to float": (of_avro(A_INT), of_avro(A_INT | {"type": "double"}), ChangeKind.WIDENED, "a"),
    "float to double": (
        of_avro(A_INT | {"type": "float"}),
        of_avro(A_INT | {"type": "double"}),
        ChangeKind.WIDENED,
        "a",
    ),
    "long to float": (
        of_avro(A_INT | {"type": "long"}),
        of_avro(A_INT | {"type": "double"}),
        ChangeKind.TYPE_CHANGED,
        "a",
    ),
    "maybe int to maybe long": (of_avro(MAYBE_INT), of_avro(MAYBE_LONG), ChangeKind.WIDENED, "b"),
    "now required": (of_avro(MAYBE_B), of_avro({"name": "b", "type": "string"}), ChangeKind.NOW_REQUIRED, "b"),
    "int to long": (
        of_avro({"name": "a", "type": "int"}),
        of_avro({"name": "a", "type": "long"}),
        ChangeKind.WIDENED,
        "a",
    ),
    "long to time": (
        of_avro({"name": "a", "type": "long"}),
        of_avro({"name": "a", "type": {"type": "long", "logicalType": "timestamp-millis"}}),
        ChangeKind.TYPE_CHANGED,
        "a",
    ),
    "record renamed": (of_avro(TEXT_A), of_avro(TEXT_A, name="S"), ChangeKind.RENAMED, ""),
    "described": (of_avro(TEXT_A), of_avro(TEXT_A | {"doc": "A."}), ChangeKind.DESCRIBED, "a"),
}


@pytest.mark.parametrize("case", AVRO_CASES)
def test_each_kind_of_change_of_an_avro_schema_is_reported(case):
    """One change is one line, with field and kind."""
    older, newer, kind, name = AVRO_CASES[case]
    (change,) = compare_schemas(older, newer)
    assert (change.field, change.kind, change.allowed) == (name, kind, kind in ALLOWED)


def test_every_kind_is_covered_by_the_tests_above():
    """No kind is without an example; `test_expiry.py` has that of a table's TTL."""
    result = {case[2] for case in (*JSON_CASES.values(), *AVRO_CASES.values())}
    others = {describe_encoding_change("s", "AVRO", "JSON").kind, ChangeKind.TTL_CHANGED}
    assert result | others == set(ChangeKind)


def test_a_required_field_is_rejected_with_a_way_out():
    """The reason names the field, the rule, and what to write instead, as in the record's file."""
    (change,) = compare_schemas(of_json(a=TEXT), of_json("ab", a=TEXT, b=TEXT | {"format": "date-time"}))
    assert change.why == "`b` is new and required, but older records do not have it: make it `datetime | None = None`"
    assert str(change) == f"added_required: {change.why}"


def test_a_rule_is_named_as_in_the_record_file():
    """The reason says max_length and le, not JSON Schema's names, and both values."""
    (change,) = compare_schemas(of_json(a=TEXT | {"maxLength": 5}), of_json(a=TEXT | {"maxLength": 4}))
    assert change.why.startswith("`a`: max_length changed from 5 to 4: ")


def test_changes_are_in_the_order_of_the_fields():
    """Fields of the newer schema first, then those that were removed."""
    older, newer = of_json("abz", a=TEXT, b=TEXT, z=TEXT), of_json("ab", c=MAYBE_TEXT, b=TEXT, a={"type": "boolean"})
    changes = compare_schemas(older, newer)
    assert summarize(changes) == [
        ("c", ChangeKind.ADDED_OPTIONAL),
        ("a", ChangeKind.TYPE_CHANGED),
        ("z", ChangeKind.REMOVED),
    ]
    assert summarize(list_refused(changes)) == [("a", ChangeKind.TYPE_CHANGED), ("z", ChangeKind.REMOVED)]


def test_the_changes_of_an_error_can_be_sent_to_another_process():
    """Spark and Airflow send errors between processes: the changes arrive with the error."""
    error = SchemaRefused("no", changes=[Change.of("a", ChangeKind.REMOVED, "why")])
    assert pickle.loads(pickle.dumps(error)).changes == error.changes


@given(st.data())
@pytest.mark.parametrize("render", [json_schema, avro_schema])
def test_optional_fields_come_and_go(render, data):
    """From a record with fewer optional fields to all, and back, every change is allowed, and each field is named."""
    optional = [field.name for field in fields(Everything) if field.nullable]
    gone = data.draw(st.sets(st.sampled_from(optional)))
    newer = render(Everything)
    older = copy.deepcopy(newer)
    if "fields" in older:
        older["fields"] = [item for item in older["fields"] if item["name"] not in gone]
    else:
        older["properties"] = {name: value for name, value in older["properties"].items() if name not in gone}
    for one, other, kind in ((older, newer, ChangeKind.ADDED_OPTIONAL), (newer, older, ChangeKind.REMOVED_OPTIONAL)):
        changes = compare_schemas(one, other)
        assert sorted(summarize(changes)) == sorted((name, kind) for name in gone)
        assert not list_refused(changes)


somebodys_field = st.booleans() | st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["string", "integer", "array", ["string", "null"]]),
        "format": st.sampled_from(["uuid", "ipv4"]),
        "maxLength": st.integers(0, 9),
        "enum": st.lists(st.integers(), max_size=2),
        "anyOf": st.lists(st.booleans() | st.just({"type": "null"}) | st.just({"type": "string"}), max_size=3),
    },
)


@given(st.booleans() | st.dictionaries(st.sampled_from("abc"), somebodys_field).map(lambda item: of_json((), **item)))
def test_schemas_written_by_others_are_compared_too(older):
    """A subject may contain another author's schema: it is compared, whatever it says about its fields."""
    changes = compare_schemas(older, of_json("ab", a=TEXT, b=TEXT))
    assert {change.field for change in list_refused(changes)} >= {"a", "b"}


@pytest.mark.parametrize("older", ["string", {"type": "array", "items": "int"}, ["null", "string"]], ids=repr)
def test_avro_that_is_not_a_record_is_rejected(older):
    """A subject with another purpose is not taken over."""
    assert list_refused(compare_schemas(older, of_avro(TEXT_A)))


def test_what_a_field_was_counts_if_it_comes_back():
    """Older records have it: a field of that name has the same type, and is optional."""
    older = of_json(a=TEXT, b=MAYBE_TEXT | {"x-removed": True})
    assert summarize(compare_schemas(older, of_json(a=TEXT, b=MAYBE_TEXT))) == [("b", ChangeKind.ADDED_OPTIONAL)]
    (required,) = compare_schemas(older, of_json("ab", a=TEXT, b=MAYBE_TEXT))
    assert (required.kind, required.allowed) == (ChangeKind.ADDED_REQUIRED, False)
    added, retyped = compare_schemas(older, of_json(a=TEXT, b={"anyOf": [SMALL, {"type": "null"}]}))
    assert (added.allowed, retyped.kind) == (True, ChangeKind.TYPE_CHANGED)
    assert compare_schemas(older, of_json(a=TEXT)) == []


def test_an_earlier_name_is_kept_when_a_field_is_renamed_again():
    """There may still be records with the first of its names."""
    second = of_json((), b=TEXT | REQUIRED, a=TEXT | {"x-alias-of": "b"})
    third = of_json((), c=TEXT | REQUIRED, a=OF_C, b=OF_C)
    assert summarize(compare_schemas(second, third)) == [("c", ChangeKind.FIELD_RENAMED)]
    renamed, lost = compare_schemas(second, of_json((), c=TEXT | REQUIRED, b=OF_C))
    assert (renamed.allowed, lost.kind, lost.allowed) == (True, ChangeKind.ALIAS_REMOVED, False)
    assert "`a`" in lost.why


@pytest.mark.parametrize(("is_optional", "does"), [(True, "stores null in `b`"), (False, "dead-letters records")])
def test_a_change_says_what_a_running_job_does(is_optional, does):
    """A job that was started with the older record reads the newer ones too, until it is restarted."""
    older = of_json("a" if is_optional else "ab", a=TEXT, b=TEXT)
    (change,) = compare_schemas(older, of_json(a=TEXT, c=TEXT | ({} if is_optional else REQUIRED), b=OF_C))
    assert f"until it is restarted, a running job {does}" in change.why


def test_a_wider_type_with_a_tighter_rule_is_rejected():
    """Older records may break the rule."""
    widened, tightened = compare_schemas(of_json(a=SMALL), of_json(a={"type": "number", "minimum": 1}))
    assert (widened.kind, widened.allowed) == (ChangeKind.WIDENED, True)
    assert (tightened.kind, tightened.allowed) == (ChangeKind.RULE_TIGHTENED, False)


def test_a_change_has_the_same_content_in_json():
    """Scripts get field, kind, verdict and reason."""
    change = Change.of("a", ChangeKind.REMOVED, "why")
    assert msgspec.json.decode(msgspec.json.encode(change)) == {
        "field": "a",
        "kind": "removed",
        "allowed": False,
        "why": "why",
    }
