"""The generated users of drills."""

from dataclasses import replace
from itertools import islice
from types import SimpleNamespace
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from penstock.contract.record import KEY, Record
from penstock.contract.rules import latest_past, validate_record
from penstock.drill import load
from penstock.pipelines import users
from penstock.produce.send import Delivered
from tests.unit.fakes import FakeProducer, FakeRegistry


def test_generated_users_satisfy_the_contract_and_are_all_different() -> None:
    """Beyond the generated number they differ only in their ids, and each passes the producer's own check."""
    made = list(islice(load.generate_users(users.PIPELINE.record, users.PIPELINE), 2500))
    assert len({item.id for item in made}) == 2500
    assert made[0] != msgspec.structs.replace(made[1], id=made[0].id)
    for record in made[:1000]:
        assert validate_record(msgspec.structs.asdict(record), users.User, latest_past()) == record


def test_records_are_generated_with_python_names() -> None:
    """A key with another name in messages still differs in each record."""
    record = msgspec.defstruct(
        "Item", [("item_id", Annotated[UUID, Meta(extra=KEY)])], bases=(Record,), rename="camel", kw_only=True
    )
    pipeline = replace(users.PIPELINE, record=record, from_source=lambda entry: {"itemId": entry["login"]["uuid"]})
    first, other = islice(load.generate_users(record, pipeline), 2)
    assert first.item_id != other.item_id


def test_records_are_generated_by_a_mapping_that_returns_the_record() -> None:
    """Its values have the record's types, as those of a dict."""
    pipeline = replace(users.PIPELINE, from_source=lambda entry: users.User(**users.from_source(entry)))
    user = next(load.generate_users(users.User, pipeline))
    assert validate_record(msgspec.structs.asdict(user), users.User, latest_past()) == user


def test_two_drills_generate_different_users() -> None:
    """A record of an earlier drill cannot stand in for one of this."""
    first, other = (next(load.generate_users(users.PIPELINE.record, users.PIPELINE)) for _ in range(2))
    assert first.id != other.id


def test_users_are_sent_with_the_current_or_a_given_time(settings, monkeypatch) -> None:
    """Either way more than fit the producer's queue are sent, under their ids, and all are acknowledged."""
    client = FakeProducer(queue=2)
    monkeypatch.setattr(load, "create_producer", lambda _: client)
    monkeypatch.setattr(load, "Registry", lambda _: FakeRegistry())
    direct = load.Direct(SimpleNamespace(settings=settings, pipeline=users.PIPELINE), "some")
    assert direct.send(3).offsets == {0: (0, 2)}
    made = list(islice(direct.users, 3))
    assert direct.send_at([(item, 7) for item in made]).offsets == {0: (3, 5)}
    assert [message.timestamp()[1] for message in client.sent] == [0, 0, 0, 7, 7, 7]
    assert [message.key().decode() for message in client.sent[3:]] == [str(item.id) for item in made]
    assert {tuple(message.headers()) for message in client.sent} == {(("penstock.run", b"drill-some"),)}


def test_the_ranges_of_delivered_records_end_after_the_last_offset() -> None:
    """First and last are both part of what was acknowledged."""
    (span,) = load.ranges_of(Delivered(offsets={2: (5, 7)}))
    assert (span.partition, span.first, span.end, span.records) == (2, 5, 8, 3)
