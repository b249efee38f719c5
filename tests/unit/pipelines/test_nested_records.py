"""Records within the record that `from_source` returns."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta

from penstock.codec.encode import build_serializer
from penstock.contract.fault import Fault
from penstock.contract.record import JSON_NULL, KEY, Digits, Json, Record
from penstock.contract.schemas import json_schema
from penstock.pipelines.definition import Pipeline
from penstock.pipelines.mapping import Mapper

LONG = "12345678901234567890.12345678901234568"


class Line(Record, frozen=True, kw_only=True, rename="camel"):
    unit_price: Annotated[Decimal, Digits(38, 18)]
    weight_kg: float | None = None


class Order(Record, frozen=True, kw_only=True):
    id: Annotated[str, Meta(min_length=1, max_length=50, extra=KEY)]
    lines: list[Line]
    by_name: dict[str, Line]
    point: tuple[float, float] | None = None
    payload: Json = JSON_NULL
    seen: list[datetime] | None = None


ORDERS = Pipeline(topic="orders", keyspace="k", table="orders", record=Order, from_source=dict)


def sent(from_source: Any, text: str) -> Any:
    """What is sent for an entry of an API, given as JSON text: the message as text, or the fault."""
    entry = msgspec.json.Decoder(float_hook=ORDERS.number_reader).decode(text)
    mapper = Mapper(replace(ORDERS, from_source=from_source), build_serializer(Order, "json", 1))
    outgoing = mapper.outgoing(entry)
    return outgoing if isinstance(outgoing, Fault) else outgoing[1][5:].decode()


ENTRY = f'{{"price": {LONG}, "kg": 0.1234567890123456, "extra": {{"a": [{LONG}, 1.5, 1e2, "x"]}}}}'


def as_records(entry: Any) -> Order:
    line = Line(unit_price=entry["price"], weight_kg=entry["kg"])
    point = (entry["kg"], 2 * entry["kg"])
    return Order(id="a", lines=[line], by_name={"one": line}, point=point, payload=entry["extra"])


def as_dict(entry: Any) -> dict[str, Any]:
    line = {"unitPrice": entry["price"], "weightKg": entry["kg"]}
    point = [entry["kg"], 2 * entry["kg"]]
    return {"id": "a", "lines": [line], "by_name": {"one": line}, "point": point, "payload": entry["extra"]}


def mixed(entry: Any) -> dict[str, Any]:
    return as_dict(entry) | {"lines": as_records(entry).lines}


@pytest.mark.parametrize("from_source", [as_records, as_dict, mixed])
def test_long_numbers_keep_their_digits_in_records_collections_and_json(from_source):
    """Where the type is a float they are one, in any depth; in `Json` they are numbers with all of their digits."""
    line = f'{{"unitPrice":"{LONG}","weightKg":0.1234567890123456}}'
    assert sent(from_source, ENTRY) == (
        f'{{"id":"a","lines":[{line}],"by_name":{{"one":{line}}},"point":[0.1234567890123456,0.2469135780246912],'
        f'"payload":{{"a":[{LONG},1.5,100.0,"x"]}},"seen":null}}'
    )


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ({"unit_price": None}, "lines[].unitPrice:required"),
        ({"unit_price": "1_0"}, "lines[].unitPrice:format"),
        ({"unit_price": Decimal("NaN")}, "lines[].unitPrice:range"),
        ({"unit_price": Decimal(1), "weight_kg": "heavy"}, "lines[].weightKg:type"),
    ],
)
def test_records_in_a_returned_record_are_validated_like_dicts(line, rule):
    """No constructor checks anything: the rule and its path are the same."""
    names = {"unit_price": "unitPrice", "weight_kg": "weightKg"}
    fault = sent(lambda _: Order(id="a", lines=[Line(**line)], by_name={}), "{}")
    assert (fault.rules, fault.message.partition(".")[0]) == ((rule,), "lines[0]")
    assert fault == sent(lambda _: {"id": "a", "lines": [Line(**line)], "by_name": {}}, "{}")
    as_dict = {names[name]: item for name, item in line.items()}
    assert fault == sent(lambda _: {"id": "a", "lines": [as_dict], "by_name": {}}, "{}")


@pytest.mark.parametrize("naive", [datetime(2024, 1, 1), "2024-01-01T00:00:00"])
@pytest.mark.parametrize("wrong", [{}, {"point": 7}], ids=["alone", "beside what msgspec refuses"])
def test_a_time_in_a_collection_has_a_zone_too(naive, wrong):
    """Its path is named."""
    fields = {"id": "a", "lines": [], "by_name": {}, "seen": [datetime(2024, 1, 1, tzinfo=UTC), naive]} | wrong
    for returned in (fields, Order(**fields)):
        fault = sent(lambda _, returned=returned: returned, "{}")
        assert "seen[1]: has no time zone" in fault.message
    items = next(kind for kind in json_schema(Order)["properties"]["seen"]["anyOf"] if "items" in kind)["items"]
    assert items == {"type": "string", "format": "date-time"}
