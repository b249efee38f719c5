"""A case of the corpus: a Kafka record as somebody may send it, and its expected outcome."""

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from typing import Any

import fastavro
import msgspec

from penstock.codec.wire_format import encode_header
from penstock.contract.fault import Reason
from penstock.contract.record import Headers
from penstock.pipelines.users import User
from tests.corpus.schemas import SCHEMAS

_SPACE = uuid.UUID("5f1d9a4e-7d2f-4f0c-9a55-0c0ffee0c0de")


def good_fields(name: str) -> dict[str, Any]:
    """The fields of a valid user whose id is derived from `name`."""
    return {
        "id": str(uuid.uuid5(_SPACE, name)),
        "first_name": "Ada",
        "last_name": "Lovelace",
        "gender": "female",
        "address": "12 St James's Square, London, England, United Kingdom",
        "post_code": "SW1Y 4JH",
        "email": "ada@example.com",
        "username": "ada",
        "dob": "1985-12-10T10:20:30.123Z",
        "registered_date": "2015-01-02T03:04:05.678Z",
        "phone": "020-7946-0000",
        "picture": "https://example.com/ada.jpg",
        "nationality": "GB",
    }


class Sender:
    """Write values for one case, from its own valid user; `schema_ids` are the registry's by schema name."""

    def __init__(self, name: str, schema_ids: Mapping[str, int]) -> None:
        self.fields = good_fields(name)
        self._schema_ids = schema_ids

    @property
    def id(self) -> str:
        """The user's id."""
        return str(self.fields["id"])

    @cached_property
    def user(self) -> User:
        """The user as a record."""
        return msgspec.convert(self.fields, User)

    def json(self, *without: str, **changes: Any) -> bytes:
        """The user as plain JSON, with fields changed, added, or removed."""
        fields = {name: value for name, value in (self.fields | changes).items() if name not in without}
        return json.dumps(fields, ensure_ascii=False).encode()

    def with_raw(self, name: str, raw: bytes) -> bytes:
        """The user as plain JSON in which the field `name`, known or not, has the JSON text `raw`."""
        start = self.json(name)
        return start[:-1] + b', "%b": %b}' % (name.encode(), raw)

    def framed(self, schema: str, body: bytes) -> bytes:
        """`body` with the wire-format header of a schema in the corpus."""
        return encode_header(self._schema_ids[schema]) + body

    def avro(self, schema: str = "avro", **changes: Any) -> bytes:
        """The user as Avro with a wire-format header, by that schema, without a check of any value."""
        return self.framed(schema, self.avro_body(schema, **changes))

    def avro_body(self, schema: str = "avro", **changes: Any) -> bytes:
        """Like `avro`, without the header."""
        dates = {"dob": self.user.dob, "registered_date": self.user.registered_date}
        body = BytesIO()
        fastavro.schemaless_writer(
            body,
            fastavro.parse_schema(SCHEMAS[schema].schema),
            self.fields | dates | changes,
            disable_tuple_notation=True,
        )
        return body.getvalue()


@dataclass(frozen=True)
class Stored:
    """A row: the case's user with these fields instead."""

    fields: Mapping[str, Any] = field(default_factory=dict)

    def record(self, sender: Sender) -> User:
        """The record that is stored."""
        return msgspec.convert(sender.fields | self.fields, User)


@dataclass(frozen=True)
class Deleted:
    """The row of the case's user, which was sent before, is gone."""


@dataclass(frozen=True)
class Rejected:
    """A dead letter with this reason, exactly these rules, and `message` somewhere in its message."""

    reason: Reason
    message: str = ""
    rules: tuple[str, ...] = ()


def broken(*rules: str, message: str = "") -> Rejected:
    """The outcome of a record that breaks these rules of the contract."""
    return Rejected(Reason.CONTRACT_BROKEN, message, rules)


Value = Callable[[Sender], bytes | None]
Key = Callable[[Sender], bytes | None]


def own_id(sender: Sender) -> bytes:
    """The key that the producer gives a record: its id."""
    return sender.id.encode()


@dataclass(frozen=True)
class Case:
    """A record as somebody may send it, and its expected outcome."""

    name: str
    value: Value
    becomes: Stored | Deleted | Rejected
    key: Key = own_id
    headers: Headers = field(default_factory=lambda: [("origin", b"corpus")])

    def sender(self, schema_ids: Mapping[str, int]) -> Sender:
        """The sender of the case's value."""
        return Sender(self.name, schema_ids)
