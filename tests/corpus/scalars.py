"""The scalar types that the users lack: each good, null, and wrong in every way, as JSON and as Avro."""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from penstock.codec.encode import build_serializer
from tests.corpus.scalar_record import Deal

_SPACE = uuid.UUID("8a1f4a5e-3f0e-4c0e-9a55-0c0ffee0c0de")
REQUIRED = {
    "price": "12.50",
    "wide": "12345678901234567890.123456789012345678",
    "day": "2024-02-29",
    "born": "1985-12-10",
    "opens": "08:30:00.5",
    "lasts": "P1DT12H",
    "hash": "3q2+7w==",
    "size": "M",
    "side": "sell-short",
    "count": 7,
    "small": 0,
}
OPTIONAL = {
    "maybe_price": "99999",
    "maybe_day": "0001-01-01",
    "maybe_opens": "00:00:00",
    "maybe_lasts": "-PT0.000001S",
    "maybe_hash": "",
    "maybe_size": "L",
    "maybe_side": "buy",
    "maybe_count": 0,
}


@dataclass(frozen=True)
class ScalarCase:
    """A deal as somebody may send it: its fields, some as JSON text. It is stored unless it breaks rules."""

    name: str
    fields: dict[str, Any]
    raw: dict[str, str] = field(default_factory=dict)
    rules: tuple[str, ...] = ()
    wire_format: str = "json"

    @property
    def id(self) -> str:
        """The deal's id, which follows from the case's name."""
        return str(uuid.uuid5(_SPACE, self.name))

    def value(self, avro_id: int) -> bytes:
        """The bytes in the topic; `avro_id` is the registry's of the deal's Avro schema."""
        if self.wire_format == "avro":
            return build_serializer(Deal, "avro", avro_id)(self.record())
        members = {"id": self.id} | self.fields
        texts = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in members.items() if name not in self.raw]
        texts += [f"{json.dumps(name)}: {text}" for name, text in self.raw.items()]
        return f"{{{', '.join(texts)}}}".encode()

    def record(self) -> Deal:
        """The deal that is stored."""
        raw = {name: msgspec.json.decode(text, type=_HINTS[name]) for name, text in self.raw.items()}
        return msgspec.convert({"id": self.id} | self.fields | raw, Deal)


_HINTS = {info.name: info.type for info in msgspec.structs.fields(Deal)}
_EDGES = {
    "price": ("99999999.99", "-99999999.99", "0", "-0.00", "0.01", "1.5000", "1e7", "0E-300"),
    "wide": ("99999999999999999999.999999999999999999", "-0.000000000000000001", "1E-18", "1E+19"),
    "day": ("0001-01-01", "9999-12-31", "1969-12-31", "1582-10-10"),
    "born": ("0001-01-01",),
    "opens": ("00:00:00", "23:59:59.999999", "12:00:00.000001"),
    "lasts": ("PT0S", "P106751991DT14454.775807S", "-P106751991DT14454.775808S", "PT1.5H", "-P1D"),
    "hash": ("", "AA==", "A" * 84),
    "size": ("S", "L"),
    "side": ("buy",),
    "count": (2**63 - 1, -(2**63), 0),
    "small": (-100, 99),
}
_NUMBERS = {
    "price": ("12.5", "-99999999.99", "1e2", "12.5000", "0"),
    "wide": ("99999999999999999999.999999999999999999", "0.1"),
}
_WRONG = {
    "price": {
        "range": ('"1.001"', "1.001", '"100000000"', "1e300", "1e999999999", '"0.001"'),
        "format": ('"NaN"', '"-Infinity"', '"1_0"', '" 1"', '"1,5"', '"\\u0661"', '""', '"0x10"'),
        "type": ("true", "[]", "{}"),
    },
    "day": {
        "format": ('"2023-02-29"', '"0000-01-01"', '"10000-01-01"', '"2024-1-1"', '"2024-01-01T00:00:00Z"', '""'),
        "type": ("5", "true"),
    },
    "born": {"date": ('"2999-01-01"',)},
    "opens": {
        "format": ('"08:30"', '"08:30:00Z"', '"08:30:00+02:00"', '"24:00:00"', '"23:59:60"', '"23:59:59.9999999"'),
        "type": ("5",),
    },
    "lasts": {
        "format": ('"P1M"', '"P1W"', '"P1Y"', '"PT"', '"PT0.0000001S"', '"5"'),
        "range": ('"P106751992D"', '"-P999999999D"'),
        "type": ("5", "1.5"),
    },
    "hash": {
        "format": ('"3q2+7w"', '"3q2-7w=="', '"a b="'),
        "length": (json.dumps("AAAA" * 22),),
        "type": ("5", "[1]"),
    },
    "size": {"enum": ('"XL"', '"m"', '""'), "type": ("5",)},
    "side": {"enum": ('"SELL"', '"hold"'), "type": ("0",)},
    "count": {"range": (str(2**63), str(-(2**63) - 1), "9" * 40), "type": ("1.5", "7.0", '"7"', "true")},
    "small": {"range": ("100", "-101")},
    "maybe_count": {"range": ("-1", str(2**63))},
    "maybe_price": {"range": ('"0.5"', "100000")},
}


def _good() -> Iterator[ScalarCase]:
    for wire_format in ("json", "avro"):
        yield ScalarCase(f"every field, {wire_format}", REQUIRED | OPTIONAL, wire_format=wire_format)
        yield ScalarCase(f"no optional field, {wire_format}", REQUIRED, wire_format=wire_format)
        nulls = dict.fromkeys(OPTIONAL)
        yield ScalarCase(f"null in each optional field, {wire_format}", REQUIRED | nulls, wire_format=wire_format)
        for name, value in OPTIONAL.items():
            fields = REQUIRED | nulls | {name: value}
            yield ScalarCase(f"{name} alone, {wire_format}", fields, wire_format=wire_format)
        for name, values in _EDGES.items():
            for value in values:
                yield ScalarCase(f"{name} {value}, {wire_format}", REQUIRED | {name: value}, wire_format=wire_format)
    for name, texts in _NUMBERS.items():
        for text in texts:
            yield ScalarCase(f"{name} the number {text}", REQUIRED, {name: text})


def _bad() -> Iterator[ScalarCase]:
    for name in REQUIRED:
        yield ScalarCase(f"{name} null", REQUIRED, {name: "null"}, (f"{name}:required",))
        fields = {other: value for other, value in REQUIRED.items() if other != name}
        yield ScalarCase(f"{name} missing", fields, rules=(f"{name}:required",))
    for name, by_rule in _WRONG.items():
        for rule, texts in by_rule.items():
            for text in texts:
                yield ScalarCase(f"{name} {text} breaks {rule}", REQUIRED, {name: text}, (f"{name}:{rule}",))
    several = {"price": '"1.001"', "size": '"XL"', "count": str(2**63)}
    yield ScalarCase("several rules", REQUIRED, several, ("price:range", "size:enum", "count:range"))


SCALAR_CASES = [*_good(), *_bad()]
