"""The composite types: each good, empty, null, and wrong at a path, as JSON and as Avro."""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from penstock.codec.encode import build_serializer
from tests.corpus.composite_record import Purchase

_SPACE = uuid.UUID("5b9d4a5e-3f0e-4c0e-9a55-0c0ffee0c0de")
_ITEM = {"product": "tea", "price": "12.50", "sold_at": "2024-02-29T12:00:00.123Z", "tags": ["b", "a"], "lasts": "P1D"}
_ADDRESS = {"city": "Köln", "postCode": "0050", "livedSince": "2001-02-03"}
REQUIRED: dict[str, Any] = {
    "tags": ["b", "", "b"],
    "sizes": [3, -1],
    "refs": ["0a1b2c3d-0000-4000-8000-00000000abcd", "0a1b2c3d-0000-1000-8000-00000000abcd"],
    "point": [1.5, "x"],
    "opens": {"mon": "08:30:00.5"},
    "prices": {"a b": "1.50", "": "0"},
    "address": _ADDRESS,
    "items": [_ITEM, {"product": "x", "price": "0"}],
    "by_name": {"k": [_ITEM]},
    "former": _ADDRESS | {"postCode": 50667},
    "payload": {"any": [1, None, "\u00e9"]},
    "code": "007",
}
_EMPTY = {name: [] for name in ("tags", "sizes", "refs", "items")} | {
    name: {} for name in ("opens", "prices", "by_name")
}
OPTIONAL: dict[str, Any] = {
    "maybe_tags": [],
    "maybe_point": [0.0, ""],
    "maybe_prices": {"x": "99999999.99"},
    "maybe_address": _ADDRESS,
    "maybe_items": [_ITEM],
    "maybe_payload": [1],
    "words": ["w"],
    "level": 4,
}


@dataclass(frozen=True)
class CompositeCase:
    """A purchase as somebody may send it: its fields, some as JSON text. It is stored unless it breaks rules."""

    name: str
    fields: dict[str, Any]
    raw: dict[str, str] = field(default_factory=dict)
    rules: tuple[str, ...] = ()
    wire_format: str = "json"

    @property
    def id(self) -> str:
        """The purchase's id, which follows from the case's name."""
        return str(uuid.uuid5(_SPACE, self.name))

    def value(self, avro_id: int) -> bytes:
        """The bytes in the topic; `avro_id` is the registry's of the purchase's Avro schema."""
        if self.wire_format == "avro":
            return build_serializer(Purchase, "avro", avro_id)(self.record())
        return self._text()

    def _text(self) -> bytes:
        members = {"id": self.id} | self.fields
        texts = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in members.items() if name not in self.raw]
        texts += [f"{json.dumps(name)}: {text}" for name, text in self.raw.items()]
        return f"{{{', '.join(texts)}}}".encode()

    def record(self) -> Purchase:
        """The purchase that is stored."""
        return msgspec.json.decode(self._text(), type=Purchase)


_GOOD_TEXTS = {
    "payload": ("1e400", "-0.10", "12345678901234567890.123456789", '"\\u00e9"', "[1,  2]", "{}", '""', "false"),
    "prices": ('{"n": 12.50}', '{"n": 99999999.99}', '{"n": 1e2}'),
    "items": ('[{"product": "x", "price": 0.1}]',),
    "code": ("7", '"7"', "-5", '"null"', '"\\"x\\""'),
    "point": ("[1, \"\"]",),
    "maybe_payload": ("null", '{"a": null}'),
    "sizes": ("[1, 1]", "[9223372036854775807]"),
}  # fmt: skip
_WRONG = {
    "tags": {"tags:type": ('"b"', "{}"), "tags[]:type": ("[5]",), "tags[]:required": ("[null]",),
             "tags[]:character": ('["\\u0000"]',), "tags:length": ('["","","","","",""]',)},
    "sizes": {"sizes[]:range": ("[9223372036854775808]",), "sizes[]:type": ("[1.5]",)},
    "point": {"point:length": ("[1.5]",), "point[]:type": ('["x", "y"]',)},
    "opens": {"opens[]:format": ('{"a": "08:30:00Z"}',)},
    "prices": {"prices[]:range": ('{"a": 1.001}', '{"a,b": "1.001"}'), "prices[]:format": ('{"a": "1_0"}',)},
    "address": {"address.city:required": ('{"postCode": 1}',),
                "address.postCode:type": ('{"city": "x", "postCode": []}',)},
    "items": {"items[].price:range": ('[{"product": "x", "price": "1.001"}]',),
              "items[].product:length": ('[{"product": "", "price": "1"}]',)},
    "by_name": {"by_name[][].product:required": ('{"k": [{"price": "1"}]}',)},
    "former": {"former.city:character": ('{"city": "a\\u0000", "postCode": 1}',)},
    "payload": {"payload:required": ("null",)},
    "code": {"code:type": ("true", "[]"), "code:character": ('"\\u0000"',)},
    "words": {"words:required": ("null",)},
}  # fmt: skip


def _good() -> Iterator[CompositeCase]:
    for wire_format in ("json", "avro"):
        yield CompositeCase(f"every field, {wire_format}", REQUIRED | OPTIONAL, wire_format=wire_format)
        yield CompositeCase(f"no optional field, {wire_format}", REQUIRED, wire_format=wire_format)
        yield CompositeCase(f"empty, {wire_format}", REQUIRED | _EMPTY, wire_format=wire_format)
        nulls = {name: None for name in OPTIONAL if name.startswith("maybe_")}
        yield CompositeCase(f"null in each optional field, {wire_format}", REQUIRED | nulls, wire_format=wire_format)
        for name, texts in _GOOD_TEXTS.items():
            for text in texts:
                yield CompositeCase(f"{name} {text}, {wire_format}", REQUIRED, {name: text}, wire_format=wire_format)


def _bad() -> Iterator[CompositeCase]:
    for name in REQUIRED:
        yield CompositeCase(f"{name} null", REQUIRED, {name: "null"}, (f"{name}:required",))
        fields = {other: value for other, value in REQUIRED.items() if other != name}
        yield CompositeCase(f"{name} missing", fields, rules=(f"{name}:required",))
    for name, by_rule in _WRONG.items():
        for rule, texts in by_rule.items():
            for text in texts:
                yield CompositeCase(f"{name} {text} breaks {rule}", REQUIRED, {name: text}, (rule,))


COMPOSITE_CASES = [*_good(), *_bad()]
