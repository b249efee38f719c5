from dataclasses import replace
from typing import Annotated

import msgspec
import pytest
from msgspec import Meta

from penstock.config import read
from penstock.contract.record import KEY, Record
from penstock.pipelines.identity import Identity, describe_parts, identify_pipeline
from penstock.pipelines.users import PIPELINE


class Order(Record, frozen=True, kw_only=True):
    id: Annotated[str, Meta(min_length=1, max_length=20, extra=KEY)]
    title: str


def identity_of(record: type[Record] = Order, **more) -> Identity:
    return identify_pipeline(read(), replace(PIPELINE, record=record, **more))


def test_a_pipeline_agrees_with_itself():
    """An identity that came over the wire as JSON has no difference to the one it was made of."""
    own = identity_of()
    assert own.differences(msgspec.json.decode(msgspec.json.encode(own.as_dict()))) == []


@pytest.mark.parametrize("part", ["topic", "keyspace", "table"])
def test_each_place_counts(part):
    """Another topic, keyspace or table is another pipeline."""
    assert identity_of().differences(identity_of(**{part: "other"}).as_dict()) == [part]


def test_the_keyspace_in_force_counts():
    """A setting that overrides the pipeline's keyspace makes it another pipeline."""
    moved = identify_pipeline(read(cassandra_keyspace="other"), replace(PIPELINE, record=Order))
    assert identity_of().differences(moved.as_dict()) == ["keyspace"]


class Longer(Record, frozen=True, kw_only=True):
    id: Annotated[str, Meta(min_length=1, max_length=30, extra=KEY)]
    title: str


class Wider(Record, frozen=True, kw_only=True):
    id: Annotated[str, Meta(min_length=1, max_length=20, extra=KEY)]
    title: str
    note: str | None = None


@pytest.mark.parametrize("record", [Longer, Wider])
def test_a_rule_or_a_field_more_is_another_contract(record):
    """What a record may be decides what is stored and what is a dead letter."""
    assert identity_of().differences(identity_of(record).as_dict()) == ["contract"]


def test_another_row_is_another_contract():
    """The table's columns come from the row, where a transform makes one of its own."""
    assert identity_of().differences(identity_of(row=Wider).as_dict()) == ["contract"]


def test_prose_is_no_contract():
    """A better description of a record is no other pipeline; a field called `description` is one."""
    described = msgspec.defstruct(
        "Renamed",
        [("id", Annotated[str, Meta(min_length=1, max_length=20, extra=KEY, description="The id.")]), ("title", str)],
        bases=(Record,),
        frozen=True,
        kw_only=True,
    )
    named = msgspec.defstruct(
        "Order",
        [("id", Annotated[str, Meta(min_length=1, max_length=20, extra=KEY)]), ("description", str)],
        bases=(Record,),
        frozen=True,
    )
    assert identity_of().differences(identity_of(described).as_dict()) == []
    assert identity_of().differences(identity_of(named).as_dict()) == ["contract"]


def test_only_what_both_know_is_compared():
    """An older penstock may send fewer parts, a newer one more."""
    own = identity_of()
    assert own.differences({"topic": own.topic, "colour": "red"}) == []
    assert describe_parts({"topic": "t", "table": "x"}, ["topic", "table"]) == "topic 't', table 'x'"
