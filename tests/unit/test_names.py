"""The names of a field: in messages as set by `rename`, in Python and in the table as written."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

import fastavro
import jsonschema
import msgspec
import pytest
from msgspec import Meta

from penstock.codec.encode import build_serializer
from penstock.codec.records import Decoder
from penstock.contract import cql
from penstock.contract.batch import Decoded, Deletion, summarize_batch
from penstock.contract.evolution import compare_schemas
from penstock.contract.fault import Fault
from penstock.contract.fields import fields
from penstock.contract.identity import identity_of
from penstock.contract.masking import MASK, mask_personal
from penstock.contract.record import KEY, PAST, PERSONAL, Record
from penstock.contract.rules import latest_past, validate_record
from penstock.contract.schemas import avro_schema, json_schema, spark_ddl
from penstock.contract.table import build_table
from penstock.contract.table_evolution import TableDefinition, compare_table
from penstock.dead_letters.repair import assignments
from penstock.pipeline.message_draft import build_template
from penstock.pipelines.validate import find_problems
from penstock.process.batches import decoded_ddl, from_columns, to_columns
from penstock.web.rejected.wording import demand
from tests.unit.ddl import arrow_schema
from tests.unit.fakes import AVRO_ID, JSON_ID, FakeSchemas
from tests.unit.framed import values_in
from tests.unit.records import READINGS


class Item(Record, frozen=True, kw_only=True, rename="camel"):
    """An item as its API writes it."""

    order_id: Annotated[str, Meta(min_length=1, max_length=50, extra=KEY)]
    created_at: Annotated[datetime, Meta(tz=True, extra=PAST)]
    sold_by: Annotated[str, Meta(pattern="^[a-z]+$", extra=PERSONAL)] | None = None
    from_: Annotated[str, Meta(max_length=9)] | None = msgspec.field(default=None, name="from")
    limit: float | None = None


ITEM = Item(order_id="o-1", created_at=datetime(2026, 1, 1, tzinfo=UTC), sold_by="ann", from_="here", limit=1.5)
IN_MESSAGES = ["orderId", "createdAt", "soldBy", "from", "limit"]
IN_TABLES = ["order_id", "created_at", "sold_by", "from_", "limit"]
TABLE = build_table("ks", "t", Item)
DECODER = Decoder(Item, FakeSchemas.of(Item))


def test_a_renamed_record_has_no_problem():
    """`rename` and `field(name=)` are the ways to map a topic's names to columns."""
    assert find_problems(replace(READINGS, record=Item)) == []


def test_messages_and_tables_have_their_own_names():
    """JSON, JSON Schema and Avro have the message's names; Spark and Cassandra the columns'."""
    assert list(msgspec.json.decode(msgspec.json.encode(ITEM))) == IN_MESSAGES
    assert list(json_schema(Item)["properties"]) == IN_MESSAGES
    assert [field["name"] for field in avro_schema(Item)["fields"]] == IN_MESSAGES
    assert [part.split()[0] for part in spark_ddl(Item).split(", ")] == IN_TABLES
    assert list(TABLE.columns)[:-3] == IN_TABLES
    jsonschema.validate(json.loads(msgspec.json.encode(ITEM)), json_schema(Item))
    assert json_schema(Item)["properties"]["orderId"]["x-key"]
    assert 'order_id, created_at, sold_by, from_, "limit", ingested_at' in cql.render_insert(TABLE)


@pytest.mark.parametrize(("wire_format", "schema_id"), [("json", JSON_ID), ("avro", AVRO_ID)])
def test_a_produced_record_is_read_and_bound(wire_format, schema_id):
    """From the source's fields through either format to the values of the INSERT, nothing is lost or mixed up."""
    record = validate_record(json.loads(msgspec.json.encode(ITEM)), Item, latest_past())
    assert record == ITEM
    assert DECODER.decode(build_serializer(Item, wire_format, schema_id)(record)) == ITEM
    (framed,) = cql.build_encoder(TABLE)([(ITEM, 1, 2, 3)], [7])
    values = dict(zip(TABLE.columns, values_in(framed), strict=False))
    assert (values["order_id"], values["sold_by"], values["from_"]) == (b"o-1", b"ann", b"here")


def test_messages_of_other_producers_have_the_message_names():
    """JSON of other producers without a header is read; fastavro accepts the schema."""
    value = b'{"orderId": "o-1", "createdAt": "2026-01-01T00:00:00Z", "other": 1}'
    assert DECODER.decode(value) == Item(order_id="o-1", created_at=ITEM.created_at)
    fastavro.parse_schema(avro_schema(Item))


def test_the_key_is_found_by_either_name():
    """The Kafka key is the id, and the reverse."""
    assert (identity_of(Item).names, identity_of(Item).columns) == (("orderId",), ("order_id",))
    assert identity_of(Item).of_text(identity_of(Item).key_of(ITEM).decode()) == "o-1"
    assert cql.build_key_encoder(TABLE)(ITEM) == b"o-1"


def test_broken_rules_have_the_message_names():
    """A dead letter names the fields as in its value, each with its own fault, and says where names were mixed up."""
    fault = DECODER.decode(b'{"createdAt": "2999-01-01T00:00:00Z", "order_id": "x", "soldBy": "A", "from": 1}')
    assert isinstance(fault, Fault)
    assert fault.rules == ("orderId:required", "soldBy:pattern", "from:type")
    assert "orderId: is missing; `order_id` is the name of its column, not of the field in messages" in fault.message
    fault = DECODER.decode(
        b'{"createdAt": "2999-01-01T00:00:00Z", "orderId": "x", "soldBy": "a\\n", "from": "a\\u0000"}'
    )
    assert fault.rules == ("createdAt:date", "soldBy:pattern", "from:character")
    assert demand(Item, "soldBy") == "text that matches ^[a-z]+$, or null"


def test_a_transform_gets_columns():
    """Records become columns of a DataFrame under the columns' names, and rows again."""
    schema = arrow_schema(decoded_ddl(Item))
    decoded = Decoded(rows=[(ITEM, 1000, 1, 5)], deletions=[Deletion("o-2", 1000, 1, 6)])
    assert schema.names[:5] == IN_TABLES
    (back,) = from_columns(to_columns([decoded], Item, schema), Item, "t")
    assert back == decoded


def test_nulls_are_counted_by_column():
    """The ledger counts nulls in the table."""
    row = (Item(order_id="o", created_at=ITEM.created_at), 1, 0, 0)
    assert summarize_batch(Decoded(rows=[row]), 1)[0].nulls == {"sold_by": 1, "from_": 1, "limit": 1}


def test_personal_data_are_hidden_under_either_name():
    """In messages and in rows."""
    assert mask_personal({"orderId": "o", "soldBy": "ann"}, Item) == {"orderId": "o", "soldBy": MASK}
    assert mask_personal({"order_id": "o", "sold_by": "ann"}, Item) == {"order_id": "o", "sold_by": MASK}


class Crossed(Record, frozen=True, kw_only=True, rename={"a": "b", "b": "a"}):
    """Two fields, each of which has the other's name in messages."""

    id: Annotated[str, Meta(min_length=1, max_length=9, extra=KEY)]
    a: Annotated[str, Meta(extra=PERSONAL)]
    b: str


def test_a_name_that_also_belongs_to_a_personal_field_is_hidden():
    """Whether a value is from a message or a row, nothing personal is shown."""
    assert mask_personal({"id": "1", "a": "x", "b": "y"}, Crossed) == {"id": "1", "a": MASK, "b": MASK}


def test_messages_are_written_and_repaired_by_their_own_names():
    """The template of a message, and `--set`, have the names in the value."""
    made = json.loads(build_template(Item))
    assert list(made) == IN_MESSAGES
    assert DECODER.decode(json.dumps(made).encode()) == msgspec.convert(made, Item)
    assert assignments(Item, ["soldBy=ann", "limit=2"]) == {"soldBy": "ann", "limit": 2.0}


def test_a_table_is_compared_by_columns_and_a_schema_by_messages():
    """A record that is only renamed changes no table, and its schema is another."""
    table = TableDefinition(TABLE.columns, ("order_id",))
    assert compare_table(table, TABLE) == []
    plain = msgspec.defstruct("Item", [(field.column, str) for field in fields(Item)], bases=(Record,), kw_only=True)
    assert {change.field for change in compare_schemas(json_schema(plain), json_schema(Item))} >= {
        "orderId",
        "order_id",
    }
