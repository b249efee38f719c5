import pytest

from penstock.contract.evolution import ALLOWED, ChangeKind, compare_schemas

TEXT, SMALL, BIG = {"type": "string"}, {"type": "integer", "minimum": 0, "maximum": 9}, {"type": "integer"}
MAYBE_TEXT = {"anyOf": [TEXT, {"type": "null"}], "default": None}
PLACE = {"type": "object", "title": "Place", "properties": {"city": TEXT}, "required": ["city"]}
GROWN = PLACE | {"properties": {"city": TEXT, "zip": MAYBE_TEXT}}
DEFINITIONS = {"$defs": {"Old": PLACE, "New": GROWN}}


def of_json(**properties):
    return {"type": "object", "properties": properties, "required": list(properties), **DEFINITIONS}


def of_avro(*fields, name="R"):
    return {"type": "record", "name": name, "namespace": "penstock", "fields": list(fields)}


def items(item, **more):
    return {"type": "array", "items": item, **more}


def values(item):
    return {"type": "object", "additionalProperties": item}


def first(*types):
    return {"type": "array", "prefixItems": list(types), "items": False}


IN_JSON = {
    "record": (PLACE, GROWN, ChangeKind.ADDED_OPTIONAL, "it.zip"),
    "record, required": (PLACE, GROWN | {"required": ["city", "zip"]}, ChangeKind.ADDED_REQUIRED, "it.zip"),
    "record, gone": (GROWN, PLACE, ChangeKind.REMOVED_OPTIONAL, "it.zip"),
    "record renamed": (PLACE, PLACE | {"title": "Spot"}, ChangeKind.TYPE_CHANGED, "it"),
    "reference": ({"$ref": "#/$defs/Old"}, {"$ref": "#/$defs/New"}, ChangeKind.ADDED_OPTIONAL, "it.zip"),
    "list": (items(PLACE), items(GROWN), ChangeKind.ADDED_OPTIONAL, "it[].zip"),
    "list of ints": (items(SMALL), items(BIG), ChangeKind.WIDENED, "it[]"),
    "list to set": (items(TEXT), items(TEXT, uniqueItems=True), ChangeKind.TYPE_CHANGED, "it"),
    "fewer items": (items(TEXT, maxItems=9), items(TEXT, maxItems=8), ChangeKind.RULE_TIGHTENED, "it"),
    "shorter items": (items(TEXT), items(TEXT | {"maxLength": 5}), ChangeKind.RULE_TIGHTENED, "it[]"),
    "map": (values(TEXT), values(BIG), ChangeKind.TYPE_CHANGED, "it[]"),
    "map of records": (values(PLACE), values(GROWN), ChangeKind.ADDED_OPTIONAL, "it[].zip"),
    "tuple": (first(TEXT, SMALL), first(TEXT, BIG), ChangeKind.WIDENED, "it[1]"),
    "longer tuple": (first(TEXT), first(TEXT, TEXT), ChangeKind.TYPE_CHANGED, "it"),
    "tuple, draft-07": (items([TEXT, SMALL]), items([TEXT, BIG]), ChangeKind.WIDENED, "it[1]"),
    "any JSON": (TEXT, {}, ChangeKind.TYPE_CHANGED, "it"),
    "union": ({"type": ["integer", "string"]}, {"type": ["integer", "boolean"]}, ChangeKind.TYPE_CHANGED, "it"),
    "more choices": (
        {"anyOf": [TEXT, BIG]},
        {"anyOf": [BIG, {"type": "boolean"}, TEXT]},
        ChangeKind.WIDENED,
        "it",
    ),
    "a choice of one": (TEXT, {"anyOf": [TEXT, BIG]}, ChangeKind.TYPE_CHANGED, "it"),
    "choice": ({"anyOf": [TEXT, BIG]}, {"anyOf": [TEXT, {"type": "boolean"}]}, ChangeKind.TYPE_CHANGED, "it"),
    "maybe record": (
        {"anyOf": [PLACE, {"type": "null"}]},
        {"anyOf": [GROWN, {"type": "null"}]},
        ChangeKind.ADDED_OPTIONAL,
        "it.zip",
    ),
}


@pytest.mark.parametrize("case", IN_JSON)
def test_the_inside_of_a_json_type_is_compared(case):
    """Each change is named by its path, as a violation is."""
    older, newer, kind, path = IN_JSON[case]
    (change,) = compare_schemas(of_json(it=older), of_json(it=newer))
    assert (change.field, change.kind, change.allowed) == (path, kind, kind in ALLOWED)
    assert f"`{path}`" in change.why
    assert compare_schemas(of_json(it=newer), of_json(it=newer)) == []


AVRO_PLACE = of_avro({"name": "city", "type": "string"}, name="Place")
AVRO_GROWN = of_avro(*AVRO_PLACE["fields"], {"name": "zip", "type": ["null", "string"], "default": None}, name="Place")
AVRO_MAP = {"type": "map", "values": "int"}
IN_AVRO = {
    "record": (AVRO_PLACE, AVRO_GROWN, ChangeKind.ADDED_OPTIONAL, "it.zip"),
    "record renamed": (AVRO_PLACE, AVRO_PLACE | {"name": "Spot"}, ChangeKind.TYPE_CHANGED, "it"),
    "array": (items(AVRO_PLACE), items(AVRO_GROWN), ChangeKind.ADDED_OPTIONAL, "it[].zip"),
    "map": (AVRO_MAP, AVRO_MAP | {"values": "long"}, ChangeKind.WIDENED, "it[]"),
    "map to array": (AVRO_MAP, items("int"), ChangeKind.TYPE_CHANGED, "it"),
    "maybe array": (["null", items("string")], ["null", items("int")], ChangeKind.TYPE_CHANGED, "it[]"),
    "union": (["string", "int"], ["string", "long"], ChangeKind.TYPE_CHANGED, "it"),
}


@pytest.mark.parametrize("case", IN_AVRO)
def test_the_inside_of_an_avro_type_is_compared(case):
    """Each change is named by its path."""
    older, newer, kind, path = IN_AVRO[case]
    (change,) = compare_schemas(*(of_avro({"name": "it", "type": item}) for item in (older, newer)))
    assert (change.field, change.kind, change.allowed) == (path, kind, kind in ALLOWED)


@pytest.mark.parametrize("name", ["Place", "penstock.Place"])
def test_a_record_type_that_is_used_by_name_is_compared_too(name):
    """Its fields are those of its definition."""
    older, newer = (
        of_avro({"name": "a", "type": item}, {"name": "b", "type": items(name)}) for item in (AVRO_PLACE, AVRO_GROWN)
    )
    assert [change.field for change in compare_schemas(older, newer)] == ["a.zip", "b[].zip"]


@pytest.mark.parametrize(
    "node",
    [of_avro({"name": "next", "type": ["null", "R"], "default": None}), of_json(next={"$ref": "#"})],
    ids=["avro", "json"],
)
def test_a_type_that_contains_itself_is_compared_to_a_bounded_depth(node):
    """A schema of another author cannot keep the comparison busy for ever."""
    assert compare_schemas(node, node) == []
