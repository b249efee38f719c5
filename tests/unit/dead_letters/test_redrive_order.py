"""What becomes of redriven records if Kafka's timestamp or a field orders the table."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from penstock import pipelines
from penstock.broker.headers import ORDER
from penstock.contract.order_by import Tombstone
from penstock.contract.record import Int64
from penstock.dead_letters import redrive as module
from penstock.dead_letters.repair import Repair
from penstock.errors import UsageError
from tests.unit.dead_letters.test_redrive import World
from tests.unit.letters import GENERATION_US, reject
from tests.unit.records import READINGS, Reading

SENT_MS = 1_700_000_000_000
SENT_AT = datetime.fromtimestamp(SENT_MS / 1000, UTC)


class Numbered(Reading, frozen=True, kw_only=True):
    """A reading with a number that says which is the newest."""

    number: Int64


def value(number: int, sensor: int = 1) -> bytes:
    return b'{"sensor":%d,"celsius":2.5,"number":%d}' % (sensor, number)


@pytest.fixture
def world(monkeypatch):
    world = World(monkeypatch)
    world.begin_generation()
    monkeypatch.setattr(module, "Registry", lambda _settings: world.registry)
    monkeypatch.setattr(module, "create_producer", lambda _settings: world.kafka.producer)
    return world


def order_by(world, name: str, of_tombstone=None) -> None:
    pipeline = replace(READINGS, record=Numbered, order_by=name, order_of_tombstone=of_tombstone)
    world.monkeypatch.setattr(pipelines, "of", lambda _settings: pipeline)


@pytest.mark.parametrize(
    ("timestamp_ms", "header", "kept"),
    [
        (SENT_MS, None, SENT_MS * 1000 + 5),
        (SENT_MS, b"t9000", 9000),
        (SENT_MS, b"9000", SENT_MS * 1000 + 5),
        (-1, None, None),
    ],
)
def test_a_record_keeps_its_first_kafka_timestamp(world, timestamp_ms, header, kept):
    """Also if it was redriven and rejected before; one without a timestamp is new. It returns to its partition."""
    order_by(world, "timestamp")
    headers = [] if header is None else [(ORDER, header)]
    world.kafka.set_aside(reject(5, value(1), timestamp_ms=timestamp_ms, headers=headers))
    assert world.redrive().sent == 1
    assert world.order == [None if kept is None else b"t%d" % kept]
    assert world.partitions == [0]


def test_a_dead_letter_of_an_older_penstock_has_the_time_of_its_rejection(world):
    """Its headers lack Kafka's timestamp; the record was in Kafka before it was rejected."""
    order_by(world, "timestamp")
    (letter,) = world.kafka.set_aside(reject(5, value(1)))
    assert world.redrive().sent == 1
    assert world.order == [b"t%d" % (round(letter.time.timestamp() * 1000) * 1000 + 5)]


@pytest.mark.parametrize(("written_us", "is_newer"), [(-1, False), (0, True), (1, True)])
def test_a_later_timestamp_supersedes_a_record(world, written_us, is_newer):
    """Whatever the offsets are; as new it is sent without its time."""
    order_by(world, "timestamp")
    world.kafka.set_aside(reject(5, value(1), timestamp_ms=SENT_MS))
    world.store(1, 2, SENT_MS * 1000 + 5 + written_us)
    done = world.redrive(dry_run=True)
    assert (done.sent, done.superseded) == (not is_newer, is_newer)
    assert world.redrive(as_new=True).sent == 1
    assert world.order == [None]


def test_a_larger_number_supersedes_a_record_until_it_is_repaired(world):
    """The field is in the value: no header is needed, and a repaired record is ordered by its new value."""
    order_by(world, "number")
    world.kafka.set_aside(reject(5, value(7), timestamp_ms=SENT_MS), reject(6, value(7, 2), timestamp_ms=SENT_MS))
    world.store(1, 2, 8)
    world.store(2, 2, 6)
    tried = world.redrive(dry_run=True)
    assert (tried.sent, tried.superseded) == (1, 1)
    assert world.redrive(Repair({"number": 9})).sent == 2
    assert (world.order, world.partitions) == ([None, None], [0, 0])


def test_a_record_that_a_field_cannot_order_is_still_invalid(world):
    """It is not sent, and stays pending."""
    order_by(world, "number")
    world.kafka.set_aside(reject(5, value(-1)), reject(6, None, key=b"1"))
    done = world.redrive()
    assert done.still_broken == 2
    assert "number: is negative" in done.records[0].message
    assert "define order_of_tombstone" in done.records[1].message
    assert world.redrive(Repair({"number": -2}), places=["0:0"]).still_broken == 1


def test_as_new_has_no_meaning_if_a_field_orders(world):
    """It is rejected with what to do instead."""
    order_by(world, "number")
    with pytest.raises(UsageError, match="ordered by the field number") as refused:
        world.redrive(as_new=True)
    assert "--set number=VALUE" in refused.value.hint


def test_a_tombstone_keeps_the_time_that_the_pipelines_function_gets(world):
    """So it has the same value when it is redriven; a newer row supersedes it."""
    given: list[Tombstone] = []
    order_by(world, "number", lambda item: given.append(item) or 7)
    headers = [("v", b"7")]
    for sensor in (b"1", b"2"):
        world.kafka.set_aside(reject(5 + int(sensor), None, key=sensor, timestamp_ms=SENT_MS, headers=headers))
    world.store(1, 2, 8)
    done = world.redrive()
    assert (done.sent, done.superseded) == (1, 1)
    assert world.order == [b"t%d" % (SENT_MS * 1000 + 7)]
    assert set(map(repr, given)) == {repr(Tombstone(key, SENT_AT, headers)) for key in (b"1", b"2")}


def test_by_default_the_header_has_the_write_timestamp_of_the_position(world):
    """Without a declaration, offsets order."""
    order_by(world, "offset")
    world.kafka.set_aside(reject(5, value(1), timestamp_ms=SENT_MS))
    assert world.redrive().sent == 1
    assert world.order == [b"%d" % (GENERATION_US + 5)]
