"""Dead letters of records whose id has several fields."""

import pytest

from penstock import pipelines
from penstock.broker.headers import ORDER
from penstock.codec.encode import build_serializer
from penstock.contract.fields import from_epoch_ms
from penstock.dead_letters import redrive as module
from penstock.dead_letters import repair
from penstock.dead_letters.repair import Edit, Outgoing, Repair, StillInvalid
from penstock.errors import UsageError
from tests.unit.dead_letters.test_redrive import World
from tests.unit.dead_letters.test_repair import letter, outgoing
from tests.unit.fakes import JSON_ID
from tests.unit.keyed import SAMPLES, Sample
from tests.unit.letters import GENERATION_US, reject

AT = from_epoch_ms(1_769_860_800_000)
KEY = b'{"at":"2026-01-31T12:00:00.000Z","sensor":"s1"}'
OTHER_KEY = b'{"at":"2026-01-31T12:00:00.000Z","sensor":"s2"}'
UNORDERED_KEY = b'{"sensor": "s1", "at": "2026-01-31T14:00:00+02:00"}'


def value(sensor: str = "s1", at: str = "2026-01-31T12:00:00Z", celsius: str = "2.5") -> bytes:
    return b'{"sensor":"%s","at":"%s","celsius":%s}' % (sensor.encode(), at.encode(), celsius.encode())


@pytest.fixture
def world(monkeypatch):
    world = World(monkeypatch)
    world.begin_generation()
    monkeypatch.setattr(pipelines, "of", lambda _settings: SAMPLES)
    monkeypatch.setattr(module, "Registry", lambda _settings: world.registry)
    monkeypatch.setattr(module, "create_producer", lambda _settings: world.kafka.producer)
    return world


def set_aside(world, *rejects):
    return world.kafka.set_aside(*rejects, topic="samples.dlq")


def sent(world):
    return world.kafka.lying("samples")


@pytest.mark.parametrize("texts", [["sensor=s2"], ["sensor=s2", "at=2026-01-31T12:00:00Z"]])
def test_setting_a_key_field_rebuilds_the_kafka_key(texts):
    """From all fields of the id, those that were not set too."""
    fields = repair.assignments(Sample, texts)
    expected = build_serializer(Sample, "json", JSON_ID)(Sample(sensor="s2", at=AT, celsius=2.5))
    result = outgoing(letter(value(), key=KEY), fields, pipeline=SAMPLES)
    assert result == Outgoing(OTHER_KEY, expected, ("s2", AT), keeps_id=False)


@pytest.mark.parametrize("key", [KEY, UNORDERED_KEY, b"another key"])
def test_a_repaired_record_with_the_same_id_keeps_its_key(key):
    """In whatever form it is: it stays in its partition, and keeps its place in the order."""
    result = outgoing(letter(value(celsius='"hot"'), key=key), {"celsius": 1.5}, pipeline=SAMPLES)
    assert (result.key, result.record_id, result.keeps_id) == (key, ("s1", AT), True)


def test_a_moment_in_another_zone_is_the_same_id():
    """Setting it changes no identity."""
    fields = repair.assignments(Sample, ["at=2026-01-31T14:00:00+02:00"])
    result = outgoing(letter(value(celsius="1"), key=KEY), fields, pipeline=SAMPLES)
    assert (result.key, result.keeps_id) == (KEY, True)


def test_a_moment_with_microseconds_cannot_be_set():
    """Cassandra keeps milliseconds: two ids would be one."""
    with pytest.raises(UsageError, match="finer than milliseconds"):
        repair.assignments(Sample, ["at=2026-01-31T12:00:00.000001Z"])
    edited = {"0:0": Edit(1, "0:0", "x", {"sensor": "s1", "at": "2026-01-31T12:00:00.000001Z", "celsius": 1})}
    assert isinstance(outgoing(letter(value(), key=KEY), edits=edited, pipeline=SAMPLES), StillInvalid)


def test_a_null_value_is_sent_if_its_key_is_an_id():
    """The key is an object with exactly the fields of the id."""
    proven = frozenset({"json_object"})
    assert outgoing(letter(None, key=UNORDERED_KEY), pipeline=SAMPLES, proven=proven) == Outgoing(
        UNORDERED_KEY, None, ("s1", AT)
    )
    assert isinstance(outgoing(letter(None, key=b'{"sensor":"s1"}'), pipeline=SAMPLES, proven=proven), StillInvalid)


def test_a_newer_version_is_looked_up_by_the_whole_key(world):
    """The row of another moment of the sensor does not supersede a record."""
    set_aside(world, reject(5, value(), key=KEY, topic="samples"))
    row = {"kafka_partition": 0, "kafka_offset": 9, "written_us": GENERATION_US + 9}
    world.table.others["samples"] = [row | {"sensor": "s1", "at_day": AT.date(), "at": AT}]
    world.table.others["samples"].append(row | {"sensor": "s1", "at_day": AT.date(), "at": from_epoch_ms(0)})
    done = world.redrive(dry_run=True)
    assert (done.sent, done.superseded) == (0, 1)
    del world.table.others["samples"][0]
    assert world.redrive().sent == 1
    (message,) = sent(world)
    assert (message.key(), dict(message.headers())[ORDER]) == (KEY, b"%d" % (GENERATION_US + 5))


def test_one_key_field_is_set_for_several_records(world):
    """They stay different records by the other fields."""
    rejects = [reject(at, value("", f"2026-01-31T12:00:0{at}Z"), key=b"k", topic="samples") for at in range(3)]
    set_aside(world, *rejects)
    assert world.redrive(Repair({"sensor": "s1"})).sent == 3
    assert len({message.key() for message in sent(world)}) == 3


@pytest.mark.parametrize("fields", [{"sensor": "s1"}, {"sensor": "s1", "at": AT}])
def test_records_that_would_get_one_id_are_refused(world, fields):
    """They would become a single row. Nothing is sent."""
    set_aside(world, *(reject(at, value(""), key=b"k", topic="samples") for at in (1, 2)))
    with pytest.raises(UsageError, match="one record at a time"):
        world.redrive(Repair(fields))
    assert sent(world) == []
