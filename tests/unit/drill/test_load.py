"""The generated users of drills."""

from dataclasses import replace
from itertools import islice
from types import SimpleNamespace
from typing import Annotated, Any
from uuid import UUID, uuid4

import msgspec
import pytest
from msgspec import Meta

from penstock.contract.identity import identity_of
from penstock.contract.record import KEY, Record
from penstock.contract.rules import latest_past, validate_record
from penstock.drill import load
from penstock.errors import UsageError
from penstock.pipelines import users
from penstock.produce.send import Delivered
from tests.unit.fakes import FakeProducer, FakeRegistry
from tests.unit.keyed import KEY_TYPES, build_record


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


@pytest.mark.parametrize("names", [[name] for name in KEY_TYPES if name not in ("size", "side")] + [list(KEY_TYPES)])
def test_ids_of_every_type_are_made_up(names: list[str]) -> None:
    """Each record has an id of its own, by the record's rules; a value that is one of a few stays."""
    fixed = {"text": "a", "side": "buy", "size": "S", "uuid": str(uuid4()), "small": 1, "big": 1, "day": "2026-01-31"}
    entry = {name: (fixed | {"at": "2026-01-31T12:00:00Z"})[name] for name in names}
    record = build_record(*names)
    identity = identity_of(record)
    made = islice(load.generate_users(record, replace(users.PIPELINE, record=record, from_source=lambda _: entry)), 50)
    ids = {identity.text_of(identity.of(item)) for item in made}
    assert len(ids) >= 40, "two of them may be equal by chance"
    assert ids == {identity.text_of(identity.of_text(text)) for text in ids}


@pytest.mark.parametrize(
    ("key", "from_source", "why"),
    [
        (Annotated[str, Meta(min_length=1, max_length=9, extra=KEY)], lambda _: {"id": "a"}, "its rules refuse them"),
        (Annotated[UUID, Meta(extra=KEY)], lambda entry: {"id": entry["sensor"]}, "does not map"),
    ],
)
def test_a_pipeline_that_drills_cannot_send_to_is_a_usage_error(key: Any, from_source: Any, why: str) -> None:
    """It says whether the ids or the users do not fit."""
    record = msgspec.defstruct("Item", [("id", key)], bases=(Record,), kw_only=True)
    with pytest.raises(UsageError, match=why):
        next(load.generate_users(record, replace(users.PIPELINE, record=record, from_source=from_source)))


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
