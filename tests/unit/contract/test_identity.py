"""What identifies a record: its fields, the text of a Kafka key, and back."""

from typing import Annotated
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from msgspec import Meta

from penstock.contract.identity import identity_of
from penstock.contract.record import KEY, Arrival, Record
from penstock.pipelines.users import User
from tests.unit.records import Everything, Reading
from tests.unit.strategies import everything


@pytest.mark.parametrize("rules", [Meta(), Meta(min_length=1), Meta(min_length=1, max_length=65_535)])
def test_a_text_key_that_cassandra_may_reject_is_rejected(rules):
    """A partition key has 1 to 65,535 bytes; a UTF-8 character has up to four."""
    record = msgspec.defstruct(
        "One", [("it", Annotated[str, rules, Meta(extra=KEY)])], bases=(Record,), frozen=True, kw_only=True
    )
    with pytest.raises(TypeError, match="a text key needs min_length"):
        identity_of(record)


def test_the_identity_has_the_fields_marked_as_key():
    """Its columns are their names in Python."""
    assert (identity_of(User).columns, identity_of(Reading).columns) == (("id",), ("sensor",))


def test_a_record_without_a_key_is_rejected():
    """The error says how a key is marked."""
    with pytest.raises(TypeError, match="Arrival needs a field marked KEY, or several: write `id: Annotated"):
        identity_of(Arrival)


def test_an_optional_key_is_rejected():
    """A row without a key cannot be stored, so the key of a record is never None."""
    maybe = msgspec.defstruct(
        "Maybe", [("a", Annotated[str | None, Meta(extra=KEY)])], bases=(Record,), frozen=True, kw_only=True
    )
    with pytest.raises(TypeError, match="Maybe: the key a cannot be None"):
        identity_of(maybe)


class Named(Record, frozen=True, kw_only=True):
    """A record with a text key."""

    name: Annotated[str, Meta(min_length=2, max_length=5, pattern="^[a-z]+$", extra=KEY)]


ID = UUID("0a1b2c3d-0000-4000-8000-00000000abcd")


@pytest.mark.parametrize(
    ("record", "key", "expected"),
    [
        (User, b"0a1b2c3d-0000-4000-8000-00000000abcd", ID),
        (User, b"0A1B2C3D-0000-4000-8000-00000000ABCD", ID),
        (User, b"0a1b2c3d00004000800000000000abcd", ID),
        (Named, b"ada", "ada"),
        (Reading, b"7", 7),
        (Reading, b"0", 0),
    ],
)
def test_a_key_is_parsed_as_its_id(record, key, expected):
    """A Kafka key is the text of an id, whatever the kind of the id."""
    assert identity_of(record).of_text(key.decode()) == expected


@pytest.mark.parametrize(
    ("record", "key"),
    [
        (User, b""),
        (User, b"ada"),
        (User, ID.bytes),
        (User, b"{0a1b2c3d-0000-4000-8000-00000000abcd}"),
        (User, b"0a1b2c3d-0000-4000-8000-00000000abcd\n"),
        (User, b"null"),
        (Named, b""),
        (Named, b"a"),
        (Named, b"abcdef"),
        (Named, b"ADA"),
        (Named, b"\xff\xfe"),
        (Reading, b""),
        (Reading, b"-1"),
        (Reading, b"1000001"),
        (Reading, b"9" * 5000),
        (Reading, b"7.5"),
        (Reading, b"007"),
        (Reading, b" 7"),
        (Reading, b"true"),
        (Reading, b"7\0"),
    ],
)
def test_a_key_that_is_not_an_id_is_rejected(record, key):
    """An id must satisfy the rules of the id's field."""
    with pytest.raises(ValueError):  # noqa: PT011  the errors of msgspec and the codec differ only in their messages
        identity_of(record).of_text(key.decode())


@given(everything())
def test_the_key_that_a_producer_writes_is_read_back(record):
    """The text of an id, which is the Kafka key, gives the id again."""
    assert identity_of(Everything).of_text(identity_of(Everything).key_of(record).decode()) == record.id
