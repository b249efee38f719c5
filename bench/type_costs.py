"""Benchmark the cost of each type of a field: its values decoded and checked from JSON and Avro, and encoded as CQL.

It runs in this process, without the stack.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import partial
from time import process_time_ns
from typing import Annotated, Any, Literal, cast
from uuid import UUID

import msgspec
from msgspec import Meta

from bench.measure import BenchFailed, Contestant
from penstock.broker.registry import WriterSchema
from penstock.codec.encode import build_serializer
from penstock.codec.records import Decoder
from penstock.contract.fault import Fault
from penstock.contract.fields import fields
from penstock.contract.record import AS_TEXT, KEY, Digits, Json, Record
from penstock.contract.schemas import avro_schema

NAME = "types"
WHAT = "cost of each type of a field, in ns per value: decode and check JSON and Avro, encode CQL"
VALUES = 200_000
_FIELDS = 20
_ROUNDS = 5
_AVRO_ID = 1


class Side(StrEnum):
    """A text of a set."""

    BUY = "buy"
    SELL = "sell"


class Address(Record, frozen=True, kw_only=True):
    """A nested record."""

    street: str
    number: int
    post_code: str | None = None


@dataclass(frozen=True)
class Sample:
    """A type of a field as a pipeline's file declares it, and a value."""

    kind: Any
    value: Any


SAMPLES = {
    "str": Sample(str, "Södra Förstadsgatan 40, Malmö"),
    "str, with a pattern": Sample(
        Annotated[str, Meta(pattern=r"^[^@\s]+@[^@\s]+$", max_length=320)], "maria@example.org"
    ),
    "Literal": Sample(Literal["buy", "sell"], "sell"),
    "StrEnum": Sample(Side, Side.SELL),
    "UUID": Sample(UUID, UUID("91c38129-e067-4af8-8705-7d8376747cef")),
    "bool": Sample(bool, True),
    "int of 32 bits": Sample(Annotated[int, Meta(ge=0, le=100_000)], 86_400),
    "int": Sample(int, 1_732_924_800_000),
    "float": Sample(float, 55.60587),
    "Decimal": Sample(Annotated[Decimal, Digits(10, 2)], Decimal("1234.50")),
    "datetime": Sample(datetime, datetime(2024, 5, 1, 12, 0, 0, 500_000, UTC)),
    "date": Sample(date, date(2024, 5, 1)),
    "time": Sample(time, time(12, 30)),
    "timedelta": Sample(timedelta, timedelta(hours=36)),
    "bytes": Sample(bytes, bytes(range(32))),
    "list[str], 3 items": Sample(list[str], ["a", "b", "c"]),
    "set[str], 3 items": Sample(set[str], {"a", "b", "c"}),
    "tuple[float, float]": Sample(tuple[float, float], (13.00073, 55.60587)),
    "dict[str, str], 3 items": Sample(dict[str, str], {"a": "x", "b": "y", "c": "z"}),
    "a record of 3 fields": Sample(Address, Address(street="Södra Förstadsgatan", number=40, post_code="211 43")),
    "a list of 3 such records": Sample(list[Address], [Address(street="Storgatan", number=n) for n in range(3)]),
    "such a record, AS_TEXT": Sample(Annotated[Address, AS_TEXT], Address(street="Storgatan", number=1)),
    "int | str, AS_TEXT": Sample(Annotated[int | str, AS_TEXT], 21143),
    "Json": Sample(Json, msgspec.Raw(b'{"a":[1,2.5,"x"],"b":{"c":null}}')),
}
"""A sample of each type, by the title of its row in the report."""


class _Schemas:
    """A schema registry with the schema of one record."""

    def __init__(self, record: type[Record]) -> None:
        self._writer = WriterSchema("avro", avro_schema(record))

    def writer(self, _schema_id: int) -> WriterSchema:
        return self._writer


def build_contestants(values: int) -> list[Contestant]:
    """Build a contestant for each type, which decodes and encodes this number of its values."""
    return [Contestant(name, name, partial(measure_type, sample, values)) for name, sample in SAMPLES.items()]


def measure_type(sample: Sample, values: int) -> dict[str, float]:
    """Return the CPU time of one value, in ns, by what is done with it."""
    records = max(1, values // _FIELDS)
    figures = {f"{wire_format}_ns": _measure_decoder(sample, wire_format, records) for wire_format in ("json", "avro")}
    encode = fields(_build_record(sample, 1))[1].kind.encode
    return figures | {"cql_ns": _time_calls(encode, sample.value, values)}


def _measure_decoder(sample: Sample, wire_format: Any, records: int) -> float:
    """Return the cost of one field: of records with many, less that of records with only a key."""
    costs_ns = []
    for count in (_FIELDS, 0):
        record = _build_record(sample, count)
        decoder = Decoder(record, _Schemas(record))
        value = build_serializer(record, wire_format, _AVRO_ID)(_build_instance(record, sample.value, count))
        if wire_format == "json":
            value = value[5:]
        decoded = decoder.decode(value)
        if isinstance(decoded, Fault):
            raise BenchFailed(f"{sample}: {decoded.message}")
        costs_ns.append(_time_calls(decoder.decode, value, records))
    return (costs_ns[0] - costs_ns[1]) / _FIELDS


def _build_record(sample: Sample, count: int) -> type[Record]:
    names = [f"field_{number}" for number in range(count)]
    key = ("id", Annotated[int, Meta(ge=0, le=100, extra=KEY)])
    members = [key, *((name, sample.kind) for name in names)]
    return cast(type[Record], msgspec.defstruct("Sample", members, bases=(Record,), frozen=True, kw_only=True))


def _build_instance(record: type[Record], value: Any, count: int) -> Record:
    return record(id=7, **{f"field_{number}": value for number in range(count)})


def _time_calls(function: Callable[[Any], object], argument: Any, calls: int) -> float:
    """Return the CPU time of a call in ns: the least of some rounds, since other work only ever adds to it."""
    arguments: Sequence[Any] = [argument] * max(1, calls // _ROUNDS)
    rounds_ns = []
    for _ in range(_ROUNDS):
        began_ns = process_time_ns()
        for item in arguments:
            function(item)
        rounds_ns.append((process_time_ns() - began_ns) / len(arguments))
    return min(rounds_ns)
