"""Composite types through JSON and Avro, there and back."""

from hypothesis import given

from penstock.broker.registry import WriterSchema
from penstock.codec.avro import AvroReaders
from penstock.codec.encode import build_serializer
from penstock.codec.records import Decoder
from penstock.codec.values import read_fields
from penstock.contract.rules import latest_past, validate_record
from penstock.contract.schemas import avro_schema
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
