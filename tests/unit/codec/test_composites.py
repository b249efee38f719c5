"""Composite types through JSON and Avro, there and back."""

import msgspec
import pytest
from hypothesis import given

from penstock.broker.registry import WriterSchema
from penstock.codec.avro import AvroReaders
from penstock.codec.encode import build_serializer
from penstock.codec.records import Decoder
from penstock.codec.values import read_fields
from penstock.contract.cql import build_encoder
from penstock.contract.fault import Fault, Reason
from penstock.contract.rules import latest_past, validate_record
from penstock.contract.schemas import avro_schema
from penstock.contract.table import build_table
from tests.corpus.composite_record import Purchase
from tests.corpus.composites import COMPOSITE_CASES, REQUIRED, CompositeCase
from tests.unit.fakes import FakeSchemas
from tests.unit.records import Composites
from tests.unit.strategies import composites

SCHEMAS = FakeSchemas({1: WriterSchema("json"), 2: WriterSchema("avro", avro_schema(Composites))})
DECODER = Decoder(Composites, SCHEMAS)
TO_JSON = build_serializer(Composites, "json", 1)
TO_AVRO = build_serializer(Composites, "avro", 2)


@given(composites())
def test_what_the_producer_writes_the_stream_reads(record):
    """As JSON and as Avro, whatever is empty, null or nested."""
    assert DECODER.decode(TO_JSON(record)) == record
    assert DECODER.decode(TO_AVRO(record)) == record


@given(composites())
def test_fields_that_a_repair_reads_make_the_same_record(record):
    """Neither way to send a message loses a digit or a JSON text."""
    for value in (TO_JSON(record), TO_AVRO(record)):
        fields = read_fields(value, AvroReaders(SCHEMAS), Composites)
        assert validate_record(fields, Composites, latest_past()) == record


@pytest.mark.parametrize("case", COMPOSITE_CASES, ids=lambda case: case.name)
def test_each_case_of_the_corpus_ends_as_it_says(case):
    """It is stored with these fields, or breaks these rules, named without places."""
    found = Decoder(Purchase, FakeSchemas({2: WriterSchema("avro", avro_schema(Purchase))})).decode(case.value(2))
    if case.rules:
        assert isinstance(found, Fault), found
        assert (found.reason, found.rules) == (Reason.CONTRACT_BROKEN, case.rules)
    else:
        assert found == case.record() or case.wire_format == "avro", found
        assert cells_of(found) == cells_of(case.record())


def cells_of(record: Purchase) -> bytes:
    (cells,) = build_encoder(build_table("ks", "t", Purchase))([(record, 1, 2, 3)], [4])
    return cells


@pytest.mark.parametrize("text", ["[1, 2", '{"a": 1, "a": 2}', "NaN", "01"])
def test_a_json_text_from_avro_is_checked(text):
    """A producer of Avro sends any string: one that is not JSON, or names a field twice, is a violation."""
    values = msgspec.structs.asdict(COMPOSITE_CASES[0].record()) | {"payload": msgspec.Raw(text)}
    record = Purchase(**values)
    schemas = FakeSchemas({2: WriterSchema("avro", avro_schema(Purchase))})
    found = Decoder(Purchase, schemas).decode(build_serializer(Purchase, "avro", 2)(record))
    assert isinstance(found, Fault), found
    assert found.rules == ("payload:format",)


def test_a_large_collection_is_not_too_many_fields():
    """What bounds the names of a flat record does not bound the items of a list."""
    items = [{"product": "x", "price": "1"}] * 1000
    value = msgspec.json.encode({"id": COMPOSITE_CASES[0].id} | REQUIRED | {"items": items})
    found = Decoder(Purchase, FakeSchemas({})).decode(value)
    assert isinstance(found, Purchase), found


def test_a_name_that_occurs_twice_is_malformed_at_every_level():
    """In a dict, a nested record and a JSON value too."""
    decoder = Decoder(Purchase, FakeSchemas({}))
    for name, text in (("prices", '{"a": "1", "a": "2"}'), ("payload", '{"a": 1, "a": 2}')):
        found = decoder.decode(CompositeCase("x", REQUIRED, {name: text}).value(2))
        assert found.reason == Reason.JSON_MALFORMED
