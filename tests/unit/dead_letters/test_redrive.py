import getpass
from dataclasses import replace
from uuid import uuid4

import pytest
from confluent_kafka import KafkaError
from structlog.testing import capture_logs

from penstock import pipelines
from penstock.broker.headers import ORDER, REDRIVEN
from penstock.broker.topics import Position
from penstock.codec.wire_format import encode_header
from penstock.config import read
from penstock.contract.fault import Reason
from penstock.contract.order import TopicLayout, is_placed
from penstock.dead_letters import pending, resolutions
from penstock.dead_letters import redrive as module
from penstock.dead_letters.pending import DeadLetterSelection, group_by_reason
from penstock.dead_letters.redrive import discard, redrive
from penstock.dead_letters.repair import Edit, Repair
from penstock.dead_letters.resolutions import ResolutionStore, State
from penstock.errors import DeliveryFailed, RegistryUnreachable, UsageError
from tests.unit.fakes import JSON_ID, Clock, FakeProducer, FakeRegistry, FakeSession, kafka_error, message
from tests.unit.letters import GENERATION_US, TOPIC_ID, FakeKafka, FakeSettled, reject, set_aside_shrunk
from tests.unit.records import READINGS, Reading

GOOD = b'{"sensor":1,"celsius":2.5}'
BAD = b'{"sensor":"one","celsius":2.5}'
TIMEOUT_S = 30
ORDERED_AT_5 = (ORDER, b"%d" % (GENERATION_US + 5))


class World:
    """A broker, a registry, and the table of resolutions."""

    def __init__(self, monkeypatch) -> None:
        self.kafka = FakeKafka().use(monkeypatch)
        self.table = FakeSettled()
        self.session = FakeSession(self.table)
        self.registry = FakeRegistry()
        self.monkeypatch = monkeypatch

    def redrive(self, mending=None, *, dry_run=False, as_new=False, **selection):
        wanted = DeadLetterSelection(**selection)
        return redrive(read(), self.session, wanted, mending or Repair(), dry_run=dry_run, as_new=as_new)

    def begin_generation(self, epoch_us=GENERATION_US, *layouts):
        """The job has read the topic, with these layouts."""
        self.table.others["generations"] = [{"topic_id": TOPIC_ID, "epoch_us": epoch_us}]
        self.table.others["layouts"] = [
            {"partitions": layout.partitions, "shift_us": layout.shift_us, "starts": layout.starts}
            for layout in layouts
        ]

    def store(self, sensor, offset, written_us):
        """The table has a row."""
        row = {"sensor": sensor, "kafka_partition": 0, "kafka_offset": offset, "written_us": written_us}
        self.table.others.setdefault("readings", []).append(row)

    @property
    def order(self):
        """The position in the header of each record that was sent, or None."""
        return [dict(item.headers()).get(ORDER) for item in self.sent]

    @property
    def partitions(self):
        """The partition of each record that was sent."""
        asked = self.kafka.producer.asked_partitions
        return [to for to, item in zip(asked, self.kafka.producer.sent, strict=True) if item.topic() == "readings"]

    def discard(self, note="", *, dry_run=False, **selection):
        return discard(read(), self.session, DeadLetterSelection(**selection), note, dry_run=dry_run)

    def produce_with(self, producer):
        """Let the next redrives use another producer, with the same topics."""
        producer.sent = self.kafka.producer.sent
        self.monkeypatch.setattr(module, "create_producer", lambda _settings: producer)

    @property
    def sent(self):
        return self.kafka.lying("readings")

    @property
    def lines(self):
        return resolutions.read_resolutions(self.session, "lab", "readings")

    def claim(self, letter, ends):
        """What an interrupted command leaves behind."""
        resolutions.create_table(self.session, "lab")
        claim = uuid4()
        assert ResolutionStore(self.session, "lab", "readings").claim({letter.identity: None}, claim, "they", ends)
        return claim

    def send(self, letter):
        headers = [(REDRIVEN, letter.identity.encode())]
        self.kafka.producer.produce("readings", letter.value, letter.key, headers, lambda *_: None)
        return self.sent[-1]


@pytest.fixture
def world(monkeypatch):
    world = World(monkeypatch)
    monkeypatch.setattr(pipelines, "of", lambda _settings: READINGS)
    monkeypatch.setattr(module, "Registry", lambda _settings: world.registry)
    monkeypatch.setattr(module, "create_producer", lambda _settings: world.kafka.producer)
    return world


def outcomes(done):
    return [(record.place, record.outcome) for record in done.records]


def test_an_empty_dead_letter_topic_changes_nothing(world):
    """Nothing is sent, no schema is registered, no table is created."""
    assert world.redrive().selected == world.discard().selected == 0
    assert (world.kafka.producer.sent, world.registry.registered, world.table.is_there) == ([], [], False)


def test_a_record_is_sent_once_however_many_copies_it_has(world):
    """Copies of one record are one; the second redrive knows of the first."""
    dead_letter = reject(value=GOOD, headers=[("h", b"1"), (REDRIVEN, b"before"), ("h", None)])
    letter, *_ = world.kafka.set_aside(dead_letter, dead_letter)
    world.kafka.set_aside(dead_letter)
    first, second = world.redrive(), world.redrive()
    assert (first.selected, first.sent, first.already) == (1, 1, 0)
    assert (second.selected, second.sent, second.already) == (1, 0, 1)
    (message,) = world.sent
    assert (message.key(), message.value()) == (b"k", GOOD)
    assert message.headers() == [ORDERED_AT_5, ("h", b"1"), ("h", None), (REDRIVEN, letter.identity.encode())]
    line = world.lines[letter.identity]
    assert (line.state, line.place) == (State.REDRIVEN, Position(0, message.offset()))
    assert f"redriven to {line.place} by {line.who} at 2026-01-01T00:00:00Z" in second.records[0].message


def test_a_repaired_record_is_what_the_producer_would_send(world):
    """Its schema is registered under the topic's subject, and its key is its id."""
    world.kafka.set_aside(reject(value=BAD))
    assert world.redrive(Repair({"sensor": 4})).sent == 1
    (message,) = world.sent
    assert (message.key(), message.value()) == (b"4", encode_header(JSON_ID) + b'{"sensor":4,"celsius":2.5}')
    assert world.registry.registered == [("readings-value", Reading, "json")]


def test_a_record_that_is_still_invalid_stays_pending(world):
    """It is reported with its rules, and neither sent nor claimed."""
    world.kafka.set_aside(reject(1, BAD), reject(2, b"{"), reject(3, GOOD))
    done = world.redrive()
    assert (done.sent, done.still_broken) == (1, 2)
    assert [record.rules for record in done.records[:2]] == [("sensor:type",), ()]
    assert len(world.lines) == len(world.sent) == 1


def test_a_dry_run_reports_and_changes_nothing(world):
    """What would be sent, and what is still invalid: no send, no claim, no table, no schema."""
    letters = world.kafka.set_aside(reject(1, b'{"sensor":4}'), reject(2, b"{"))
    done = world.redrive(Repair({"celsius": 4.0}), dry_run=True)
    assert (done.dry_run, done.sent, done.still_broken) == (True, 1, 1)
    assert outcomes(done) == [(letters[1].place, "still_broken"), (letters[0].place, "sent")]
    assert (world.sent, world.registry.registered, world.table.is_there) == ([], [], False)


def test_a_recent_claim_is_left_alone(world):
    """Another command is sending the record, or was killed: the report says who and when."""
    (letter,) = world.kafka.set_aside(reject(value=GOOD))
    world.claim(letter, {0: 1})
    world.table.pass_time(2 * TIMEOUT_S - 1)
    done, given_up = world.redrive(), world.discard()
    assert (done.in_hand, done.sent, given_up.in_hand, given_up.discarded) == (1, 0, 1, 0)
    assert "by they" in done.records[0].message
    assert world.sent == []


def test_a_record_sent_by_a_killed_command_is_found_and_not_sent_again(world):
    """It is recognized by its header; its row gets the position that was found."""
    (letter,) = world.kafka.set_aside(reject(value=GOOD))
    world.claim(letter, {0: 1})
    message = world.send(letter)
    world.table.pass_time(2 * TIMEOUT_S)
    dry = world.redrive(dry_run=True)
    assert (dry.already, world.lines[letter.identity].state) == (1, State.CLAIMED)
    done = world.redrive()
    assert (done.already, done.sent, len(world.sent)) == (1, 0, 1)
    assert world.lines[letter.identity].place == Position(0, message.offset())


def test_a_record_not_sent_by_a_killed_command_is_sent(world):
    """The claim is taken over; a record with the same header before the claim's end offsets is not its own."""
    (letter,) = world.kafka.set_aside(reject(value=GOOD))
    world.send(letter)
    world.claim(letter, {0: 2})
    world.table.pass_time(2 * TIMEOUT_S)
    assert world.redrive().sent == 1
    assert len(world.sent) == 2
    assert world.lines[letter.identity].place == Position(0, world.sent[-1].offset())


@pytest.mark.parametrize("ends", [{}, {0: 99}])
def test_the_whole_topic_is_searched_if_the_claim_has_no_start(world, ends):
    """For a partition that is newer than the claim, or a recreated topic."""
    (letter,) = world.kafka.set_aside(reject(value=GOOD))
    world.claim(letter, ends)
    world.send(letter)
    world.table.pass_time(2 * TIMEOUT_S)
    assert (world.redrive().already, len(world.sent)) == (1, 1)


def test_a_record_sent_by_a_killed_command_cannot_be_discarded(world):
    """It is redriven; one that was not sent is discarded."""
    sent, unsent = world.kafka.set_aside(reject(1, GOOD), reject(2, GOOD))
    world.claim(sent, {0: 0})
    world.claim(unsent, {0: 0})
    world.send(sent)
    world.table.pass_time(2 * TIMEOUT_S)
    done = world.discard("no use")
    assert (done.already, done.discarded) == (1, 1)
    assert {name: line.state for name, line in world.lines.items()} == {
        sent.identity: State.REDRIVEN,
        unsent.identity: State.DISCARDED,
    }


@pytest.mark.parametrize("command", ["redrive", "discard"])
def test_exactly_one_of_two_concurrent_commands_wins(world, monkeypatch, command):
    """A record that the other one claimed after this one read is left to it."""
    (letter,) = world.kafka.set_aside(reject(value=GOOD))
    resolutions.create_table(world.session, "lab")
    before = resolutions.read_resolutions(world.session, "lab", "readings")
    world.claim(letter, {})
    monkeypatch.setattr(resolutions, "read_resolutions", lambda *_: before)
    done = getattr(world, command)()
    assert (done.in_hand, world.sent) == (1, [])


def test_an_unacknowledged_record_stays_claimed(world):
    """The others are resolved; the error says how many, and when to retry; then it is sent unless it was."""
    letters = world.kafka.set_aside(*(reject(offset, GOOD) for offset in range(3)))
    world.produce_with(FakeProducer(fails=lambda item: item.offset() == 4))
    with pytest.raises(
        DeliveryFailed, match=r"readings: 1 records were claimed and not acknowledged: .*timed out"
    ) as e:
        world.redrive()
    assert "in 60 s ./penstock dlq redrive" in e.value.hint
    states = [world.lines[letter.identity].state for letter in letters]
    assert sorted(states) == [State.CLAIMED, State.REDRIVEN, State.REDRIVEN]


def test_a_record_without_a_delivery_report_stays_claimed(world):
    """No report within the timeout is no acknowledgement."""
    world.kafka.set_aside(reject(value=GOOD))
    world.produce_with(FakeProducer(held=1))
    with pytest.raises(DeliveryFailed, match="no answer"):
        world.redrive()
    assert [line.state for line in world.lines.values()] == [State.CLAIMED]


def test_an_error_of_the_producer_keeps_the_claim(world):
    """An error at the call is a failed delivery."""
    world.kafka.set_aside(reject(value=GOOD))
    world.produce_with(FakeProducer(refuses=kafka_error(KafkaError.MSG_SIZE_TOO_LARGE)))
    with pytest.raises(DeliveryFailed):
        world.redrive()
    assert [line.state for line in world.lines.values()] == [State.CLAIMED]


def test_a_command_suspended_after_its_claim_sends_nothing(world, monkeypatch):
    """Its claim may have been taken over by then."""
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock.monotonic)
    world.kafka.set_aside(reject(value=GOOD))
    claim = ResolutionStore.claim

    def slow(*arguments):
        clock.sleep(TIMEOUT_S + 1)
        return claim(*arguments)

    monkeypatch.setattr(ResolutionStore, "claim", slow)
    with pytest.raises(DeliveryFailed, match="took too long"):
        world.redrive()
    assert world.sent == []


def test_an_unavailable_registry_sends_and_claims_nothing(world):
    """A failed schema lookup does not make a record invalid."""
    world.registry = FakeRegistry()
    world.registry._error = RegistryUnreachable("away")
    world.kafka.set_aside(reject(value=encode_header(9) + GOOD))
    with pytest.raises(RegistryUnreachable):
        world.redrive()
    assert (world.sent, world.lines) == ([], {})


def test_records_are_processed_in_chunks(world, monkeypatch):
    """With more than one chunk, in records or in bytes, all are sent, those of a chunk together."""
    monkeypatch.setattr(pending, "_CHUNK_BYTES", 5 * len(GOOD))
    world.kafka.set_aside(*(reject(offset, GOOD) for offset in range(12)))
    with capture_logs() as logs:
        assert world.redrive().sent == 12
    assert [log["records"] for log in logs if log["event"] == "records_redriven"] == [5, 5, 2]


def test_a_limit_counts_what_is_sent(world):
    """Invalid and resolved records do not count, and the next redrive continues after them."""
    world.kafka.set_aside(*(reject(offset, BAD if offset % 2 else GOOD) for offset in range(9)))
    first = world.redrive(limit=2)
    assert (first.sent, len(world.sent)) == (2, 2)
    assert [world.redrive(limit=2).sent for _ in range(3)] == [2, 1, 0]


def test_only_the_first_hundred_of_an_outcome_are_named(world):
    """All are counted."""
    world.kafka.set_aside(*(reject(offset, GOOD) for offset in range(120)), reject(200, BAD))
    done = world.redrive(dry_run=True)
    assert (done.sent, done.still_broken, len(done.records)) == (120, 1, 101)


def test_records_are_selected_by_reason_rule_run_and_position(world):
    """All given criteria have to match."""
    world.kafka.set_aside(
        reject(1, GOOD, rules=("email:pattern", "a:type")),
        reject(2, GOOD, rules=("email:type",), headers=[("penstock.run", b"r1")]),
        reject(3, GOOD, rules=(), reason=Reason.JSON_MALFORMED),
    )

    def selects(**selection):
        return [int(record.place.partition(":")[2]) for record in world.redrive(dry_run=True, **selection).records]

    assert selects() == [0, 1, 2]
    assert selects(reasons=frozenset({"json_malformed"})) == [2]
    assert selects(reasons=frozenset({"json_malformed", "contract_broken"})) == [0, 1, 2]
    assert selects(rule="email:") == [0, 1]
    assert selects(rule="email:pattern") == [0]
    assert selects(run="r1") == [1]
    assert selects(rule="a:", run="r1") == []
    assert selects(places=frozenset({"0:2", "0:0"})) == [0, 2]


def test_an_unknown_reason_is_a_usage_error():
    """The error names the known ones."""
    with pytest.raises(UsageError, match=r"unknown reason nope: expected value_missing, .*value_too_large"):
        DeadLetterSelection(frozenset({"nope"}))


def test_a_position_without_a_dead_letter_is_a_usage_error(world):
    """Nothing is sent, not even what is at the other positions."""
    world.kafka.set_aside(reject(value=GOOD))
    with pytest.raises(UsageError, match=r"at 0:7 in readings.dlq \(available: 0:0 to 0:0\)"):
        world.redrive(places=frozenset({"0:0", "0:7"}))
    assert world.sent == []


def test_a_copy_may_be_named_by_its_own_position(world):
    """It is the same record: sent once, whichever position is given."""
    dead_letter = reject(value=GOOD)
    world.kafka.set_aside(dead_letter, dead_letter)
    assert world.redrive(places=frozenset({"0:1"})).sent == 1
    assert world.redrive(places=frozenset({"0:0", "0:1"})).already == 1


def test_an_edit_file_selects_its_own_positions(world):
    """Others are left alone; an empty one selects nothing."""
    letters = world.kafka.set_aside(reject(1, BAD), reject(2, GOOD))
    assert world.redrive(Repair(edits={})).selected == 0
    edit = Edit(1, letters[0].place, letters[0].identity, {"sensor": 3, "celsius": 1.0})
    done = world.redrive(Repair(edits={edit.place: edit}))
    assert (done.selected, done.sent) == (1, 1)
    assert world.sent[0].key() == b"3"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"identity": "another"}, r"line 4 of the edit file: the record at 0:0 is readings/"),
        ({"place": "0:9"}, "line 4"),
    ],
)
def test_an_edit_of_another_record_is_a_usage_error(world, changes, says):
    """Position and identity must both match, or nothing is sent."""
    (letter,) = world.kafka.set_aside(reject(value=BAD))
    edit = Edit(4, letter.place, letter.identity, {"sensor": 3, "celsius": 1.0})._replace(**changes)
    with pytest.raises(UsageError, match=says):
        world.redrive(Repair(edits={edit.place: edit}))
    assert world.sent == []


def test_the_key_is_set_for_one_record_at_a_time(world):
    """Many records with one id would end as one row."""
    world.kafka.set_aside(reject(1, BAD), reject(2, BAD))
    with pytest.raises(UsageError, match="one record at a time"):
        world.redrive(Repair({"sensor": 1}))
    assert world.redrive(Repair({"sensor": 1}), places=frozenset({"0:1"})).sent == 1


def test_a_discard_records_who_when_and_why(world, monkeypatch):
    """Row and log have the same content; the record is never sent, and not discarded twice."""
    monkeypatch.setattr(getpass, "getuser", lambda: "ada")
    (letter,) = world.kafka.set_aside(reject(value=GOOD))
    with capture_logs() as logs:
        assert world.discard("a test", dry_run=True).discarded == 1
        assert (logs, world.table.is_there) == ([], False)
        assert world.discard("a test").discarded == 1
    (line,) = logs
    assert (line["event"], line["identity"], line["who"], line["note"]) == (
        "record_discarded",
        letter.identity,
        "ada",
        "a test",
    )
    done = world.redrive()
    assert (done.already, done.sent) == (1, 0)
    assert done.records[0].message == "discarded by ada at 2026-01-01T00:00:00Z: a test"
    assert (world.discard().already, world.sent) == (1, [])


def test_a_redriven_record_is_not_discarded(world):
    """It is in the topic."""
    world.kafka.set_aside(reject(value=GOOD))
    world.redrive()
    done = world.discard()
    assert (done.already, done.discarded) == (1, 0)
    assert [line.state for line in world.lines.values()] == [State.REDRIVEN]


def test_groups_have_one_reason_and_its_rules(world):
    """Those with most pending records come first; with times and an example, a pending one if there is one."""
    letters = world.kafka.set_aside(
        reject(1, reason=Reason.JSON_MALFORMED, rules=()), reject(2), reject(3), reject(4, rules=("b:type",))
    )
    world.discard(places=frozenset({letters[1].place}))
    world.discard(places=frozenset({letters[3].place}))
    dated = [replace(item, time=item.time.replace(year=2020 + at)) for at, item in enumerate(letters)]
    groups = group_by_reason(dated, world.lines)
    assert [
        (group.reason, group.rules, group.waiting, group.redriven, group.discarded, group.place) for group in groups
    ] == [
        ("contract_broken", ("a:type",), 1, 0, 1, letters[2].place),
        ("json_malformed", (), 1, 0, 0, letters[0].place),
        ("contract_broken", ("b:type",), 0, 0, 1, letters[3].place),
    ]
    assert (groups[0].first.year, groups[0].last.year) == (2021, 2022)


LARGE = GOOD.ljust(9000)


def sent_and_shrunk(world, value=LARGE, **changes):
    """A record in the topic, and its dead letter, whose value and headers were omitted."""
    headers = [("h", b"y" * 3000), ("n", None)]
    world.kafka.producer.produce("readings", value, b"1", headers, lambda *_: None)
    world.kafka.producer.flush(1)
    dead_letter = reject(world.sent[-1].offset(), value, **{"key": b"1", "headers": headers} | changes)
    letter = set_aside_shrunk(world.kafka, dead_letter)
    assert letter.left_out.parts == ("value", "headers")
    return letter


@pytest.mark.parametrize("fields", [{}, {"celsius": 3.5}])
def test_omitted_content_is_read_from_the_topic(world, fields):
    """Value and headers are those of the record at its position; fields are set in it as usual."""
    letter = sent_and_shrunk(world)
    assert outcomes(world.redrive(Repair(fields))) == [(letter.place, "sent")]
    original, sent = world.sent
    order = (ORDER, b"%d" % (GENERATION_US + original.offset()))
    assert sent.headers() == [order, *original.headers(), (REDRIVEN, letter.identity.encode())]
    assert sent.value().rstrip().endswith(b'"celsius":3.5}' if fields else b'"celsius":2.5}')
    assert (sent.value() == LARGE) == (not fields)
    assert outcomes(world.redrive()) == [(letter.place, "already")]


def test_a_tombstone_with_omitted_headers_is_sent_with_them(world):
    """It is completed before it is validated, by the key formats proven at that time."""
    headers = [("h", b"y" * 3000)]
    world.kafka.producer.produce("readings", None, b"1", headers, lambda *_: None)
    world.kafka.producer.flush(1)
    letter = set_aside_shrunk(world.kafka, reject(0, None, key=b"1", headers=headers))
    assert letter.left_out.parts == ("headers",)
    assert world.redrive().still_broken == 1
    world.monkeypatch.setattr(module, "proven_by_now", lambda *_: frozenset({"text"}))
    assert world.redrive().sent == 1
    assert (world.sent[1].value(), world.sent[1].headers()[1]) == (None, headers[0])


@pytest.mark.parametrize("gone", ["retention", "partition", "recreated", "other topic", "never there"])
def test_a_record_the_topic_no_longer_has_is_not_sent(world, gone):
    """No tombstone and no other record is sent in its place: it stays pending, and the message says where it was."""
    where = {"partition": {"partition": 5}, "other topic": {"topic": "rooms"}, "never there": {"partition": -1}}
    letter = sent_and_shrunk(world, **where.get(gone, {}))
    if gone == "retention":
        world.kafka.producer.sent.pop(0)
    if gone == "recreated":
        world.kafka.producer.sent[0] = message(0, GOOD, topic="readings", key=b"1")
    before = len(world.sent)
    for mending in (Repair(), Repair({"celsius": 3.5})):
        (named,) = world.redrive(mending).records
        assert (named.outcome, named.identity) == ("still_broken", letter.identity)
        assert named.message.startswith("value, headers left out of the dead letter")
        assert ("run it again" if gone == "never there" else "the record is no longer in ") in named.message
    assert len(world.sent) == before


def test_an_edited_record_needs_no_original(world):
    """The edit has the whole value."""
    letter = sent_and_shrunk(world)
    world.kafka.producer.sent.pop(0)
    edit = Edit(1, letter.place, letter.identity, {"sensor": 1, "celsius": 9.5})
    assert world.redrive(Repair(edits={letter.place: edit})).sent == 1
    assert b'"celsius":9.5' in world.sent[-1].value()


def test_chunks_are_sized_by_the_original_records(world, monkeypatch):
    """Omitted content takes memory once it is read from the topic."""
    monkeypatch.setattr(pending, "_CHUNK_BYTES", 10_000)
    for _ in range(4):
        sent_and_shrunk(world)
    chunks = []
    monkeypatch.setattr(
        module.Queue,
        "free",
        lambda self, letters, free=module.Queue.free: chunks.append(len(letters)) or free(self, letters),
    )
    assert world.redrive(dry_run=True).sent == 4
    assert chunks == [2, 2]


def test_a_redriven_record_keeps_its_position_and_partition(world):
    """Its first header is its original write timestamp; one that was redriven before has its first position."""
    world.begin_generation()
    world.kafka.set_aside(
        reject(5, GOOD, partition=2),
        reject(6, GOOD, headers=[(ORDER, b"%d" % (GENERATION_US + 1)), ("h", b"1")]),
        reject(9, GOOD, headers=[("h", b"1"), (ORDER, b"1")]),
        reject(10, GOOD, headers=[(ORDER, b"999999999")]),
    )
    assert world.redrive().sent == 4
    assert [item.headers()[0] for item in world.sent] == [(ORDER, b"%d" % (GENERATION_US + at)) for at in (5, 1, 9, 10)]
    assert all([name for name, _ in item.headers()].count(ORDER) == 1 for item in world.sent)
    assert world.partitions == [2, 0, 0, 0]


def test_a_record_of_an_older_layout_keeps_its_position_there(world):
    """The topic grew since: its write timestamp has the shift of the layout in which it was read."""
    grown = TopicLayout(2, 1_000, {0: 100})
    world.begin_generation(GENERATION_US, TopicLayout(1), grown)
    key = next(key for key in (b"%d" % at for at in range(99)) if is_placed(key, 0, 2))
    world.kafka.set_aside(reject(99, GOOD, key=key), reject(100, GOOD, key=key))
    assert world.redrive().sent == 2
    assert world.order == [b"%d" % (GENERATION_US + 99), b"%d" % (GENERATION_US + 1_100)]


def test_as_new_a_record_is_sent_after_all_others(world):
    """Without a position to keep: in its own partition, or in the key's partition if the topic grew since."""
    world.begin_generation(GENERATION_US, TopicLayout(1), TopicLayout(2, 1_000, {0: 100}))
    key = next(key for key in (b"%d" % at for at in range(99)) if is_placed(key, 0, 2))
    world.kafka.set_aside(reject(99, GOOD, key=key), reject(100, GOOD, key=key))
    world.store(1, 500, GENERATION_US + 1_500)
    assert world.redrive(as_new=True).sent == 2
    assert (world.order, world.partitions) == ([None, None], [-1, 0])


def test_a_record_of_an_earlier_incarnation_is_older_than_all_of_the_current_one(world):
    """Its partition is chosen by its key, as the topic may have others now."""
    world.begin_generation(GENERATION_US + 1_000_000)
    world.kafka.set_aside(reject(5, GOOD))
    assert world.redrive().sent == 1
    assert (world.order, world.partitions) == ([b"%d" % (GENERATION_US + 5)], [-1])


@pytest.mark.parametrize(
    "what", [reject(5, BAD), reject(-1, b"{}", partition=-1), reject(5, BAD, topic="rooms")], ids=["id", "run", "topic"]
)
def test_a_record_without_a_position_in_the_topic_is_new(world, what):
    """A record that was given another id, one that never reached the topic, and one of another topic."""
    world.begin_generation()
    letter, *_ = world.kafka.set_aside(what)
    edit = Edit(1, letter.place, letter.identity, {"sensor": 4, "celsius": 2.5})
    assert world.redrive(Repair(edits={letter.place: edit})).sent == 1
    assert (world.order, world.partitions) == ([None], [-1])


def test_a_record_with_a_newer_version_in_the_table_is_superseded(world):
    """It is not sent and no longer pending; the report distinguishes it from redriven ones, with the newer position."""
    world.begin_generation()
    old, young = world.kafka.set_aside(reject(5, GOOD), reject(8, b'{"sensor":2,"celsius":2.5}'))
    world.store(1, 7, GENERATION_US + 7)
    world.store(2, 7, GENERATION_US + 7)
    tried = world.redrive(dry_run=True)
    assert (tried.sent, tried.superseded, world.sent, world.lines) == (1, 1, [], {})
    done = world.redrive()
    assert (done.selected, done.sent, done.superseded) == (2, 1, 1)
    assert done.records[0].message == "a newer version of its id is stored, from 0:7"
    assert [item.headers()[-1][1].decode() for item in world.sent] == [young.identity]
    line = world.lines[old.identity]
    assert (line.state, line.place) == (State.SUPERSEDED, Position(0, 7))
    assert resolutions.describe_resolution(line).startswith(f"superseded (newer version at 0:7) by {line.who} at ")
    again = world.redrive(as_new=True)
    assert (again.already, again.selected, len(world.sent)) == (2, 2, 1)
    (group,) = group_by_reason([old, young], world.lines)
    assert (group.waiting, group.redriven, group.superseded, group.discarded) == (0, 1, 1, 0)


def test_a_record_whose_own_row_is_stored_is_superseded(world):
    """A replay stored it: Cassandra would mix the columns of two writes with one timestamp."""
    world.begin_generation()
    world.kafka.set_aside(reject(5, GOOD))
    world.store(1, 5, GENERATION_US + 5)
    assert world.redrive().superseded == 1


def test_a_deletion_is_superseded_by_a_newer_row(world):
    """A tombstone that was ambiguous does not delete what arrived later."""
    world.begin_generation()
    world.kafka.set_aside(reject(5, None, key=b"1"), reject(6, None, key=b"2"))
    world.store(1, 7, GENERATION_US + 7)
    done = world.redrive()
    assert (done.sent, done.superseded) == (1, 1)


def test_a_row_without_a_position_in_kafka_supersedes_nothing(world):
    """Not penstock wrote it: which of the two is newer is unknown."""
    world.begin_generation()
    world.kafka.set_aside(reject(5, GOOD))
    world.store(1, None, None)
    assert (world.redrive().sent, world.order) == (1, [b"%d" % (GENERATION_US + 5)])


def test_one_of_two_concurrent_commands_finds_a_record_superseded(world, monkeypatch):
    """The other reports that it was taken."""
    world.begin_generation()
    (letter,) = world.kafka.set_aside(reject(5, GOOD))
    world.store(1, 7, GENERATION_US + 7)
    monkeypatch.setattr(ResolutionStore, "claim", lambda *_: set())
    assert outcomes(world.redrive()) == [(letter.place, "in_hand")]
    assert world.sent == []
