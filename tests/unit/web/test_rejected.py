from datetime import timedelta

import msgspec
import pytest
from cassandra.cluster import NoHostAvailable

from penstock.broker.topics import OffsetRange
from penstock.config import read
from penstock.contract.fault import Fault, Reason, Stage
from penstock.contract.masking import MASK
from penstock.dead_letters.pending import DeadLetterSelection
from penstock.dead_letters.redrive import discard
from penstock.errors import NotFound
from penstock.pipelines import users
from penstock.web.rejected import reader as module
from penstock.web.rejected.reader import DeadLetterFilter, RejectedReader, describe_letter, select_newest
from tests.unit.fakes import FakeRegistry, FakeSession
from tests.unit.letters import FakeKafka, FakeSettled, reject
from tests.unit.records import READINGS


class World:
    """A dead-letter topic, and the resolutions of its records."""

    def __init__(self, monkeypatch, newest=5000):
        self.kafka = FakeKafka().use(monkeypatch)
        self.session = FakeSession(FakeSettled())
        self.rejected = RejectedReader(read(), READINGS, newest)

    def listing(self):
        return self.rejected.read_listing(lambda: self.session, 0)


@pytest.fixture
def world(monkeypatch):
    monkeypatch.setattr("penstock.pipelines.of", lambda _settings: READINGS)
    return World(monkeypatch)


def test_an_empty_dead_letter_topic_has_no_groups(world):
    """Nor is there a topic yet."""
    inventory = world.listing()
    assert (inventory.entries, inventory.groups(), inventory.held, inventory.is_whole) == ([], [], 0, True)


def test_records_are_grouped_by_reason_and_rules_with_their_resolutions(world):
    """Copies count once; discarded records are not pending."""
    first, other = world.kafka.set_aside(reject(1), reject(2))
    world.kafka.set_aside(reject(1), reject(3, reason=Reason.JSON_MALFORMED, rules=()))
    discard(read(), world.session, DeadLetterSelection(places=frozenset({other.place})), "why")
    inventory = world.listing()
    groups = [(group.reason, group.rules, group.waiting, group.discarded) for group in inventory.groups()]
    assert groups == [("contract_broken", ("a:type",), 1, 1), ("json_malformed", (), 1, 0)]
    assert (len(inventory.entries), inventory.held) == (3, 4)
    assert [item.place for item in inventory.select(DeadLetterFilter(state="waiting", rule="a:"))] == [first.place]
    assert [
        entry.place for entry in inventory.select(DeadLetterFilter(reason="contract_broken", state="discarded"))
    ] == [other.place]
    assert inventory.select(DeadLetterFilter(rules="a:type,b:type")) == []


def test_only_new_records_are_read(world, monkeypatch):
    """Only the offsets after the last end are requested."""
    world.kafka.set_aside(reject(1), reject(2))
    world.listing()
    asked = []
    plain = world.kafka.records

    def records(settings, topic, wanted):
        asked.extend(wanted)
        return plain(settings, topic, wanted)

    monkeypatch.setattr(module.topics, "read_records", records)
    world.kafka.set_aside(reject(3))
    assert len(world.listing().entries) == 3
    assert [span for span in asked if span.records] == [OffsetRange(0, 2, 3)]


def test_only_the_newest_are_read(monkeypatch):
    """The result says that older ones were omitted."""
    monkeypatch.setattr("penstock.pipelines.of", lambda _settings: READINGS)
    world = World(monkeypatch, newest=3)
    letters = world.kafka.set_aside(*[reject(offset) for offset in range(5)])
    inventory = world.listing()
    assert {entry.place for entry in inventory.entries} == {letter.place for letter in letters[2:]}
    assert not inventory.is_whole


def test_without_cassandra_the_records_are_listed_and_their_state_is_unknown(world):
    """An unavailable service hides nothing of the other."""
    world.kafka.set_aside(reject(1))
    world.session = FakeSession(FakeSettled(), error=NoHostAvailable("away", {}))
    inventory = world.listing()
    assert inventory.error is not None
    assert [inventory.state(entry) for entry in inventory.entries] == ["unknown"]


def test_a_result_is_shared_while_it_is_fresh(world):
    """Many pages ask Kafka once."""
    world.kafka.set_aside(reject(1))
    first = world.listing()
    world.kafka.set_aside(reject(2))
    assert world.rejected.read_listing(lambda: world.session) is first


def test_a_position_without_a_dead_letter_says_where_there_are_some(world):
    """It is not found, which differs from an invalid request."""
    (letter,) = world.kafka.set_aside(reject(1))
    assert world.rejected.read_letter(letter.partition, letter.offset).identity == letter.identity
    with pytest.raises(NotFound, match=r"9:9 in readings\.dlq \(available: 0:0 to 0:0\)"):
        world.rejected.read_letter(9, 9)


def test_partitions_share_the_read_budget():
    """What a short one does not need is left to the others."""
    spans = [OffsetRange(0, 0, 100), OffsetRange(1, 5, 7), OffsetRange(2, 0, 100)]
    assert select_newest(spans, 22) == [OffsetRange(0, 90, 100), OffsetRange(1, 5, 7), OffsetRange(2, 90, 100)]
    assert select_newest(spans, 1000) == spans
    assert select_newest([], 5) == []


SECRET = "secret-name"


def show_dead_letter(world, *, personal, value=None, **changes):
    record = {"id": "f0c3b3b8-0000-4000-8000-000000000001", "first_name": SECRET, "gender": "x"}
    held = msgspec.json.encode(record) if value is None else value
    headers = [("penstock.run", b"run-1"), ("theirs", SECRET.encode())]
    (letter,) = world.kafka.set_aside(reject(1, held, rules=("gender:pattern",), headers=headers, **changes))
    return describe_letter(letter, None, users.User, FakeRegistry(), personal=personal)


def test_personal_data_are_hidden_unless_requested(world):
    """In values, keys and headers; what the contract declares as not personal is shown."""
    result = show_dead_letter(world, personal=False, key=SECRET.encode())
    assert SECRET not in repr(result)
    assert result.value.fields == {"id": "f0c3b3b8-0000-4000-8000-000000000001", "first_name": MASK, "gender": "x"}
    assert result.headers[0] == ("penstock.run", "run-1")
    assert (result.run, result.state, result.broken[0].demand) == (
        "run-1",
        "waiting",
        "text that matches ^(female|male)$",
    )
    assert SECRET in repr(show_dead_letter(world, personal=True, key=SECRET.encode()))


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (b"{not json", "text", "{not json"),
        (b"\xff\xfe", "hex", "ff fe"),
        (b"", "none", "the value is empty"),
        (b"\x00\x00\x00\x00\x01[1]", "text", "[1]"),
    ],
)
def test_a_value_that_is_not_a_record_is_shown_as_text_or_bytes(world, value, kind, text):
    """To those who may see it; to others its size."""
    result = show_dead_letter(world, personal=True, value=value).value
    assert (result.kind, result.text) == (kind, text)
    if value:
        hidden = show_dead_letter(world, personal=False, value=value).value
        assert (hidden.kind, hidden.text) == ("hidden", f"{len(value)} bytes hidden, which may be personal data")


def test_a_key_that_is_the_records_id_is_shown(world):
    """The id is not personal data."""
    key = b"f0c3b3b8-0000-4000-8000-000000000001"
    assert show_dead_letter(world, personal=False, key=key).key == key.decode()


def test_a_message_that_quotes_the_record_is_hidden_in_part(world):
    """The contract's own words are not."""
    fault = Fault(Reason.JSON_MALFORMED, f"the name '{SECRET}' stands twice", Stage.DECODE)
    assert show_dead_letter(world, personal=False, fault=fault).message == f"the name '{MASK}' stands twice"


@pytest.mark.parametrize("words", [f"KeyError: '{SECRET}'", f"KeyError\n{SECRET}", f"KeyError: {SECRET}"])
def test_the_message_of_an_exception_is_hidden(world, words):
    """It may quote the record; its type does not."""
    assert show_dead_letter(world, personal=False, fault=Fault(Reason.PROCESSING_ERROR, words)).message == "KeyError"


def test_the_message_of_a_failed_mapping_is_hidden(world):
    """It may quote the entry without quotes; type and line of the pipeline's file are not personal."""
    fault = Fault(Reason.MAPPING_FAILED, f"ValueError at my.py, line 7: no {SECRET}; the line is: x", Stage.PRODUCE)
    assert show_dead_letter(world, personal=False, fault=fault).message == "ValueError at my.py, line 7"
    assert SECRET in show_dead_letter(world, personal=True, fault=fault).message


def test_records_deleted_by_retention_are_removed(world, monkeypatch):
    """Once the topic starts later."""
    first, _ = world.kafka.set_aside(reject(1), reject(2))
    world.listing()
    monkeypatch.setattr(module.topics, "fetch_offset_ranges", lambda *_: [OffsetRange(0, 1, 2)])
    inventory = world.listing()
    assert [entry.offset for entry in inventory.entries] == [1]
    assert first.time - timedelta(days=1) < inventory.entries[0].time
