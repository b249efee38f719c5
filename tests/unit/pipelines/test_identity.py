from dataclasses import replace
from typing import Annotated

import msgspec
import pytest
from msgspec import Meta

from penstock.config import read
from penstock.contract.primary_key import PrimaryKey, bucket
from penstock.contract.record import KEY, Record
from penstock.pipelines.identity import PipelineIdentity, describe_parts, identify_pipeline
from penstock.pipelines.users import PIPELINE


class Order(Record, frozen=True, kw_only=True):
    id: Annotated[str, Meta(min_length=1, max_length=20, extra=KEY)]
    title: str


def identity_of(record: type[Record] = Order, **more) -> PipelineIdentity:
    return identify_pipeline(read(), replace(PIPELINE, record=record, **more))


def test_a_pipeline_matches_itself():
    """An identity that was transferred as JSON does not differ from the original."""
    own = identity_of()
    assert own.differences(msgspec.json.decode(msgspec.json.encode(own.as_dict()))) == []


@pytest.mark.parametrize("part", ["topic", "keyspace", "table"])
def test_topic_keyspace_and_table_are_compared(part):
    """A different one makes another pipeline."""
    assert identity_of().differences(identity_of(**{part: "other"}).as_dict()) == [part]


def test_the_effective_keyspace_is_compared():
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
def test_an_additional_rule_or_field_is_another_contract(record):
    """The contract decides what is stored and what is a dead letter."""
    assert identity_of().differences(identity_of(record).as_dict()) == ["contract"]


def test_another_primary_key_is_another_contract():
    """Rows would be in other partitions: also with another number of buckets, whose columns are the same."""
    keys = [PrimaryKey(("id",)), *(PrimaryKey((bucket("id", buckets),), ("id",)) for buckets in (8, 16))]
    digests = {identity_of(primary_key=key).contract for key in (None, *keys)}
    assert len(digests) == len(keys)
    assert identity_of(primary_key=keys[0]) == identity_of()


def test_the_contract_of_a_record_with_one_key_field_is_that_of_earlier_versions():
    """Runs that an earlier penstock started, and files that it wrote, still match."""
    assert identify_pipeline(read(), PIPELINE).contract == "e57280c8b225"


def test_another_row_is_another_contract():
    """The table's columns are those of the row, if a transform returns its own."""
    assert identity_of().differences(identity_of(row=Wider).as_dict()) == ["contract"]


def test_descriptions_are_not_part_of_the_contract():
    """A better description of a record does not make another pipeline; a field called `description` does."""
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


def test_only_common_parts_are_compared():
    """An older penstock may send fewer parts, a newer one more."""
    own = identity_of()
    assert own.differences({"topic": own.topic, "colour": "red"}) == []
    assert describe_parts({"topic": "t", "table": "x"}, ["topic", "table"]) == "topic 't', table 'x'"
