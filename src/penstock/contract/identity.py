"""What identifies a record: its fields marked KEY. An identity as a value, as the text of a Kafka key, and back.

The identity of one field is the field's value, and its text is that value's. The identity of several fields is a tuple,
and its text a JSON object. There is one text for each identity (`Identity.text_of`), whatever the record looked like:
moments are in UTC, whatever their zone was.
"""

import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import cache, cached_property
from operator import attrgetter
from typing import Any
from uuid import UUID

import msgspec
from msgspec import inspect

from penstock.contract.fields import BIGINT, DATE, INT, SYMBOL, TEXT, TIMESTAMP, Field, FieldKind, fields
from penstock.contract.fields import UUID as UUID_KIND
from penstock.contract.json_text import parse_json
from penstock.contract.record import Record
from penstock.contract.rules import build_form_check, build_text_check, build_value_check

MAX_KEY_BYTES = 65_535
"""Maximum size of a partition key, and of each clustering column, in Cassandra."""
_CHARACTER_BYTES = 4
_KEY_CHARACTERS = MAX_KEY_BYTES // _CHARACTER_BYTES
_NEVER = datetime.max.replace(tzinfo=UTC)
_JSON = msgspec.json.Encoder()
_EXAMPLE = "Annotated[str, Meta(min_length=1, max_length=100, extra=KEY)]"


def format_moment(moment: datetime) -> str:
    """Return a moment in UTC as RFC 3339 with three decimals: `2026-01-31T12:00:00.000Z`."""
    text = _JSON.encode(moment.astimezone(UTC)).decode()  # in a third of the time of `isoformat`
    return f"{text[1:20]}.{text[21:24] if text[20] == '.' else '000'}Z"


_FORMS: tuple[tuple[FieldKind, Callable[[Any], str]], ...] = (
    (TEXT, str.__str__),
    (SYMBOL, str.__str__),
    (UUID_KIND, str),
    (INT, str),
    (BIGINT, str),
    (DATE, date.isoformat),
    (TIMESTAMP, format_moment),
)
"""The types that can identify a record, and how the text of a key writes them."""
_NUMBERS = (INT, BIGINT)
_TEXTS = (TEXT, SYMBOL)
_CHECKED = (TEXT, BIGINT, DATE, TIMESTAMP)
"""The types with rules that msgspec lacks."""
_SIZES = {UUID_KIND.cql: 16, INT.cql: 4, BIGINT.cql: 8, DATE.cql: 4, TIMESTAMP.cql: 8}


def find_form(kind: FieldKind) -> Callable[[Any], str]:
    """Return the function that writes a value of a type as text in a key."""
    return next(form for known, form in _FORMS if known is kind)


class Identity:
    """The identity of a record's class. Its values compare and hash equal exactly if they are of the same row."""

    def __init__(self, record: type[Record]) -> None:
        """Raise `TypeError` unless at least one field is marked KEY, each with a type that can identify a record."""
        self.record = record
        self.fields = tuple(field for field in fields(record) if field.key)
        if not self.fields:
            raise TypeError(
                f"{record.__name__} needs a field marked KEY, or several: write `id: Annotated[UUID, Meta(extra=KEY)]`"
            )
        self._hints = typing.get_type_hints(record, include_extras=True)
        self.max_bytes = {field.column: self._find_max_bytes(field) for field in self.fields}
        """Size of the largest value of each field in Cassandra."""
        self.columns = tuple(field.column for field in self.fields)
        self.names = tuple(field.name for field in self.fields)
        self.is_single = len(self.fields) == 1
        self.of: Callable[[Record], Any] = attrgetter(*self.columns)
        """Return the identity of a record."""
        self._text_form = find_form(self.fields[0].kind)
        self._members = sorted((field.name, at) for at, field in enumerate(self.fields))
        self._member_forms = [int if field.kind in _NUMBERS else find_form(field.kind) for field in self.fields]
        self._template = _build_template(self.fields)
        # Strict, or a moment might be a number of seconds in digits; but a whole number is one.
        self._conversions = [(self._hints[field.column], field.kind not in _NUMBERS) for field in self.fields]
        self._has_checks = any(field.kind in _CHECKED for field in self.fields)

    @cached_property
    def _key_struct(self) -> type[Record]:
        """Return a record with the identity's fields alone, by which their rules are checked."""
        members = [(column, self._hints[column]) for column in self.columns]
        names = dict(zip(self.columns, self.names, strict=True))
        alone = msgspec.defstruct("Key", members, bases=(Record,), rename=names, frozen=True, kw_only=True)
        return typing.cast(type[Record], alone)

    @property
    def described(self) -> str:
        """Return what a key has to be, for messages."""
        if self.is_single:
            return f"an object whose only field is {self.names[0]}"
        return f"a JSON object with exactly the fields {', '.join(self.names)}"

    def values_of(self, record_id: Any) -> tuple[Any, ...]:
        """Return the values of an identity's fields, in declared order."""
        return (record_id,) if self.is_single else typing.cast(tuple[Any, ...], record_id)

    def of_values(self, values: typing.Sequence[Any]) -> Any:
        """Return the identity with these values of its fields, in declared order. They are not checked."""
        return values[0] if self.is_single else tuple(values)

    def key_of(self, record: Record) -> bytes:
        """Return the Kafka key of a record: the text of its identity."""
        if self.is_single:
            return self._text_form(self.of(record)).encode()
        return self.text_of(self.of(record)).encode()

    def text_of(self, record_id: Any) -> str:
        """Return the one text of an identity, as penstock's producer writes it to Kafka keys.

        Of one field: its value; dates and moments in ISO 8601, moments in UTC with milliseconds. Of several: a JSON
        object without spaces, of their values by their names in messages, sorted by name. So the key of a record, and
        its partition, stay the same if the fields are declared in another order.
        """
        if self.is_single:
            return self._text_form(record_id)
        forms = self._member_forms
        return msgspec.json.encode({name: forms[at](record_id[at]) for name, at in self._members}).decode()

    def texts_of(self, record_ids: Sequence[Any]) -> list[str]:
        """Return the texts of many identities, as `text_of`, for speed."""
        if not record_ids:
            return []
        columns = [record_ids] if self.is_single else zip(*record_ids, strict=True)
        return self.join_texts(
            [map(find_form(field.kind), column) for field, column in zip(self.fields, columns, strict=True)]
        )

    def join_texts(self, columns: Sequence[Iterable[str]]) -> list[str]:
        """Return the texts of many identities whose values are given as text, a column for each field as declared."""
        if self.is_single:
            return list(columns[0])
        quoted = (
            _quote_texts(columns[at]) if self.fields[at].kind in _TEXTS else columns[at] for _, at in self._members
        )
        return list(map(self._template.__mod__, zip(*quoted, strict=True)))

    def of_text(self, text: str) -> Any:
        """Return the identity that a text represents; the JSON object may have its fields in any order.

        Raises `ValueError` if a value breaks a rule of the record.
        """
        if self.is_single:
            return self.of_members({self.names[0]: text}) if self._has_checks else self._convert(0, text)
        try:
            members = parse_json(text)
        except ValueError as error:
            raise ValueError(f"expected {self.described}: {error}") from None
        if not isinstance(members, dict):
            raise ValueError(f"expected {self.described}")  # noqa: TRY004  a value error
        return self.of_members(members)

    def normalize_text(self, text: str) -> str:
        """Return the one text of the identity that a text represents; a text that represents none as it is."""
        try:
            return self.text_of(self.of_text(text))
        except ValueError:
            return text

    def of_members(self, members: Mapping[str, Any]) -> Any:
        """Return the identity in decoded values, JSON or Avro, by their names in messages: exactly those of its fields.

        A text may be the text of any type. Raises `ValueError` if a value breaks a rule of the record.
        """
        if members.keys() != set(self.names):
            raise ValueError(f"expected {self.described}")
        values = [self._convert(at, members[name]) for at, name in enumerate(self.names)]
        if self._has_checks:
            self._validate(values, members)
        return self.of_values(values)

    def _validate(self, values: list[Any], members: Mapping[str, Any]) -> None:
        """Raise `ValueError` with the rules of the record that msgspec lacks and the identity breaks."""
        struct = self._key_struct
        key, check_forms = struct(**dict(zip(self.columns, values, strict=True))), build_form_check(struct)
        broken = build_text_check(struct)(key) + build_value_check(struct)(key, _NEVER)
        if check_forms is not None:
            broken += check_forms(members)
        if broken:
            raise ValueError("; ".join(dict.fromkeys(map(str, broken))))

    def _convert(self, at: int, value: Any) -> Any:
        """Return a decoded value as that of the field number `at`."""
        hint, is_strict = self._conversions[at]
        try:
            if isinstance(value, str | UUID):
                return msgspec.convert(str(value), hint, strict=is_strict)
            return msgspec.convert(value, hint)
        except msgspec.ValidationError as error:
            raise ValueError(str(error) if self.is_single else f"{self.names[at]}: {error}") from None

    def _find_max_bytes(self, field: Field) -> int:
        """Return the size of the largest value of a key field. Raises `TypeError` if the field cannot be a key."""
        name, column = self.record.__name__, field.column
        if field.nullable:
            raise TypeError(f"{name}: the key {column} cannot be None; remove `| None` from its type")
        if not any(field.kind is known for known, _ in _FORMS):
            raise TypeError(
                f"{name}: the key {column} must be a str, Literal, StrEnum, int, UUID, date or datetime; "
                f"write `{column}: {_EXAMPLE}`"
            )
        if field.kind is TEXT:
            return self._find_text_bytes(column)
        if field.kind is SYMBOL:
            return self._find_symbol_bytes(field)
        return _SIZES[field.kind.cql]

    def _find_text_bytes(self, column: str) -> int:
        kind = inspect.type_info(self._hints[column])
        text = kind.type if isinstance(kind, inspect.Metadata) else kind
        assert isinstance(text, inspect.StrType)
        if not text.min_length or text.max_length is None or text.max_length > _KEY_CHARACTERS:
            raise TypeError(
                f"{self.record.__name__}: a text key needs min_length >= 1 and max_length <= {_KEY_CHARACTERS}; "
                f"write `{column}: {_EXAMPLE}`"
            )
        return text.max_length * _CHARACTER_BYTES

    def _find_symbol_bytes(self, field: Field) -> int:
        sizes = [len(symbol.encode()) for symbol in field.symbols]
        if min(sizes) == 0 or max(sizes) > MAX_KEY_BYTES:
            raise TypeError(
                f"{self.record.__name__}: the key {field.column} has an empty symbol, or one of more than "
                f"{MAX_KEY_BYTES:,} bytes, which cannot be a key; remove it"
            )
        return max(sizes)


def _build_template(key: Sequence[Field]) -> str:
    """Return the text of an identity of several fields, with `%s` for the value of each; texts have their quotes."""
    members = []
    for field in sorted(key, key=lambda field: field.name):
        name = msgspec.json.encode(field.name).decode().replace("%", "%%")
        members.append(f"{name}:%s" if field.kind in (*_NUMBERS, *_TEXTS) else f'{name}:"%s"')
    return f"{{{','.join(members)}}}"


def _quote_texts(texts: Iterable[str]) -> Iterable[str]:
    return map(bytes.decode, map(_JSON.encode, texts))


@cache
def identity_of(record: type[Record]) -> Identity:
    """Return what identifies a record. Raises `TypeError` that says what to write instead."""
    return Identity(record)
