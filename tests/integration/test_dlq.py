"""Dead letters in the real Kafka, Cassandra and registry: listed, exported, repaired, redriven, discarded."""

import base64
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cassandra.cluster import Session

from penstock import pipelines
from penstock.broker import topics
from penstock.broker.headers import ORDER, REDRIVEN, RUN
from penstock.broker.kafka import create_producer, produce_record
from penstock.broker.registry import Registry
from penstock.broker.topics import Position
from penstock.codec.encode import build_serializer
from penstock.codec.records import Decoder
from penstock.codec.wire_format import encode_header
from penstock.contract.batch import Reject
from penstock.contract.fault import Fault, Reason, Stage
from penstock.contract.record import Headers
from penstock.dead_letters import redrive, resolutions
from penstock.dead_letters.message import DeadLetter, index_first_copies
from penstock.dead_letters.pending import DeadLetterSelection, Queue
from penstock.dead_letters.redrive import Redriven
from penstock.dead_letters.repair import Repair
from penstock.dead_letters.topic import read_dead_letters, send_dead_letters
from penstock.errors import UsageError
from penstock.pipelines import users
from penstock.sink import cassandra
from tests.conftest import Stack

GENERATION_US = 1_700_000_000_000_000


class Lab:
    """A separate pipeline with topics, keyspace and a session."""

    def __init__(self, stack: Stack, file: Path, session: Session) -> None:
        self.stack = stack
        self.file = file
        self.settings = stack.settings.model_copy(update={"pipeline": str(file)})
        self.pipeline = pipelines.of(self.settings)
        self.session = session
        topics.ensure_pipeline_topics(self.settings, self.pipeline)
        self.registry = Registry(self.settings)
        self.schema_id = self.registry.register(self.pipeline.subject, users.User, "json")
        self.decoder = Decoder(users.User, self.registry)

    def set_aside(self, *rejects: Reject) -> None:
        """Dead-letter each record twice, as a batch that is retried does."""
        for _ in range(2):
            send_dead_letters(create_producer(self.settings), self.pipeline.dead_letter_topic, rejects, GENERATION_US)

    def rejected(self, offset: int, value: bytes | None, key: bytes = b"k") -> Reject:
        """The dead letter that the stream creates for a value."""
        fault = self.decoder.decode(value)
        assert isinstance(fault, Fault)
        return Reject(fault, self.pipeline.topic, 0, offset, key, value, [("h", b"\xff"), ("h", None)])

    def lines(self) -> dict[str, resolutions.Resolution]:
        return resolutions.read_resolutions(self.session, self.pipeline.keyspace, self.pipeline.topic)

    def letters(self) -> list[DeadLetter]:
        return list(index_first_copies(read_dead_letters(self.settings, self.pipeline)).values())

    def sent(self) -> list[Any]:
        spans = topics.fetch_offset_ranges(self.settings, self.pipeline.topic)
        return list(topics.read_records(self.settings, self.pipeline.topic, spans))

    def redrive(self, mending: Repair | None = None, *, dry_run: bool = False, **selection: Any) -> Redriven:
        with cassandra.open_session(self.settings) as session:
            wanted = DeadLetterSelection(**selection)
            return redrive.redrive(self.settings, session, wanted, mending or Repair(), dry_run=dry_run)

    def cli(self, *words: str) -> Any:
        return self.stack.cli("dlq", *words, PENSTOCK_PIPELINE=str(self.file))

    def age_claims(self) -> None:
        """Make every claim look as if its command had died an hour ago."""
        table = f"{self.pipeline.keyspace}.settled"
        for row in list(self.session.execute(f"SELECT topic, bucket, identity FROM {table}")):
            place = (row["topic"], row["bucket"], row["identity"])
            where = "topic = %s AND bucket = %s AND identity = %s"
            aged = f"UPDATE {table} SET at = '2024-01-01T00:00:00Z' WHERE {where} IF state = 'claimed'"
            assert self.session.execute(aged, place).one()["[applied]"]


@pytest.fixture
def lab(stack: Stack, pipeline_file: Callable[..., Path]) -> Iterator[Lab]:
    """A lab without dead letters."""
    with cassandra.open_session(stack.settings) as session:
        yield Lab(stack, pipeline_file(), session)


@pytest.fixture
def entry(captured: list[dict[str, Any]]) -> dict[str, Any]:
    return captured[0]


def user(entry: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A record of an API entry, as JSON values, with a new id."""
    return users.from_source(entry) | {"id": str(uuid.uuid4())} | changes


OF_CODE = {Reason.PROCESSING_ERROR, Reason.MAPPING_FAILED, Reason.TRANSFORM_FAILED}
OF_A_SETTING = {Reason.KEY_AMBIGUOUS, Reason.ORDER_UNKNOWN}
OF_A_VALUE = set(Reason) - OF_CODE - OF_A_SETTING


@pytest.fixture
def kinds(lab: Lab, entry: dict[str, Any], unique: str) -> None:
    """A dead letter for each reason that bytes alone can have, and one that the producer rejected."""
    avro_id = lab.registry.register(f"{unique}-avro-value", users.User, "avro")
    frame = encode_header(lab.schema_id)
    values = [
        frame + msgspec.json.encode(user(entry, email="nobody", phone="")),
        b'{"id": ',
        encode_header(2_000_000_000) + msgspec.json.encode(user(entry)),
        b"\x00\x00",
        b"",
        encode_header(avro_id) + b"\xff\xff",
        frame + msgspec.json.encode(user(entry, more="x" * 1_100_000)),
    ]
    rejects = [lab.rejected(offset, value) for offset, value in enumerate(values)]
    fault = Fault(Reason.CONTRACT_BROKEN, "email: no", Stage.PRODUCE, rules=("email:pattern",))
    value = msgspec.json.encode(entry | {"email": "nobody"})
    refused = Reject(fault, lab.pipeline.topic, -1, -1, None, value, [(RUN, b"run-7")])
    lab.set_aside(*rejects, refused)
    assert {reject.fault.reason for reject in rejects} == OF_A_VALUE


def test_an_empty_dead_letter_topic_is_no_error(lab: Lab) -> None:
    """Without dead letters and without tables, each command says so and exits with 0."""
    for words in (("list",), ("export", "-"), ("redrive",), ("discard", "--all", "--yes")):
        done = lab.cli(*words)
        assert (done.returncode, done.stdout) == (0, ""), words
        assert (
            "no pending dead letters" in done.stderr
            or "no dead letter matches" in done.stderr
            or "0 dead letters" in done.stderr
        )
    assert json.loads(lab.cli("list", "--json").stdout) == []


def test_a_missing_topic_counts_as_empty(stack: Stack, pipeline_file: Callable[..., Path]) -> None:
    """Before the first record, too."""
    done = stack.cli("dlq", "list", "--json", PENSTOCK_PIPELINE=str(pipeline_file()))
    assert (done.returncode, done.stdout) == (0, "[]\n")


def test_each_record_is_listed_once_under_its_reason(lab: Lab, kinds: None) -> None:
    """Copies do not count, and no value is shown."""
    done = lab.cli("list", "--json")
    groups = json.loads(done.stdout)
    assert {group["reason"] for group in groups} == OF_A_VALUE
    assert sum(group["waiting"] for group in groups) == 8
    assert {tuple(group["rules"]) for group in groups if group["reason"] == "contract_broken"} == {
        ("email:pattern", "phone:length"),
        ("email:pattern",),
    }
    assert "nobody" not in done.stdout
    assert "contract_broken" in lab.cli("list", "--reason", "contract_broken").stdout


def test_one_record_is_shown_with_all_details(lab: Lab, kinds: None) -> None:
    """Facts, headers and value; the suggested next command goes to stderr."""
    (broken,) = [letter for letter in lab.letters() if letter.rules == ("email:pattern", "phone:length")]
    done = lab.cli("show", broken.place)
    assert done.returncode == 0, done.stderr
    assert f"{lab.pipeline.topic}/{GENERATION_US}/0/0" in done.stdout
    assert '"email": "nobody"' in done.stdout
    assert f"redrive --place {broken.place}" in done.stderr
    document = json.loads(lab.cli("show", broken.place, "--json").stdout)
    assert base64.b64decode(document["value_base64"]) == broken.value
    assert document["headers"][0] == {"name": "h", "value": None, "base64": "/w=="}
    assert lab.cli("show", "0:999").returncode == 2


def test_records_repaired_by_setting_a_field_are_sent_once(lab: Lab, kinds: None) -> None:
    """Those that are now valid are sent, linked to their originals; the others stay pending; a second redrive sends
    nothing.
    """
    mending = Repair({"email": "mended@example.org", "phone": "1"})
    tried = lab.redrive(mending, dry_run=True)
    assert (tried.sent, tried.still_broken, lab.sent(), lab.lines()) == (4, 4, [], {})
    done = lab.redrive(mending)
    assert (done.selected, done.sent, done.still_broken, done.already) == (8, 4, 4, 0)
    broken = {item.reason for item in done.records if item.outcome == "still_broken"}
    assert broken == {"json_malformed", "frame_broken", "value_missing", "avro_malformed"}
    sent = lab.sent()
    identities = {item.identity: item for item in lab.letters()}
    for message in sent:
        record = lab.decoder.decode(message.value())
        assert isinstance(record, users.User)
        assert record.email == "mended@example.org"
        letter = identities[dict(message.headers())[REDRIVEN].decode()]
        is_placed = letter.origin.partition >= 0
        assert message.key() == (letter.key if is_placed else str(record.id).encode())
        order = [(ORDER, str(GENERATION_US + letter.origin.offset).encode())] if is_placed else []
        assert message.headers() == [*order, *letter.headers, (REDRIVEN, letter.identity.encode())]
    assert len({dict(message.headers())[REDRIVEN] for message in sent}) == 4
    places = {line.place for line in lab.lines().values()}
    assert places == {(message.partition(), message.offset()) for message in sent}
    again = lab.redrive(mending)
    assert (again.sent, again.already, again.still_broken, len(lab.sent())) == (0, 4, 4, 4)


def test_records_are_repaired_in_an_exported_file(lab: Lab, kinds: None, entry: dict[str, Any], tmp_path: Path) -> None:
    """Export, change the values, redrive: exactly the lines whose values became valid are sent."""
    file = tmp_path / "rejected.jsonl"
    done = lab.cli("export", str(file))
    assert done.returncode == 0, done.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(lines) == 8
    for line in lines:
        if line["rules"] == ["email:pattern", "phone:length"]:
            line["value"] |= {"email": "a@b.se", "phone": "1"}
        elif line["stage"] == "produce":
            line["value"]["email"] = "a@b.se"
        elif line["reason"] == "json_malformed":
            line["value"] = user(entry, email="a@b.se")
    edited = tmp_path / "edited.jsonl"
    edited.write_text("\n".join(map(json.dumps, lines)))
    done = lab.cli("redrive", "--edit", str(edited), "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    sent = {record["reason"] for record in document["records"] if record["outcome"] == "sent"}
    assert sent >= {"contract_broken", "json_malformed"}
    assert document["sent"] == 5  # the two others only lack what a repaired record omits
    emails = sorted(lab.decoder.decode(message.value()).email for message in lab.sent())  # type: ignore[union-attr]
    assert emails.count("a@b.se") == 3
    assert json.loads(lab.cli("redrive", "--edit", str(edited), "--json").stdout)["sent"] == 0
    lines[1]["identity"] = "another"
    edited.write_text("\n".join(map(json.dumps, lines)))
    refused = lab.cli("redrive", "--edit", str(edited))
    assert refused.returncode == 2
    assert "line 2" in refused.stderr


def make_valid_dead_letters(
    lab: Lab, entry: dict[str, Any], count: int, headers: Headers | None = None
) -> list[DeadLetter]:
    """Dead letters whose records are valid now, as if a schema had been registered since."""
    serialize = build_serializer(users.User, "json", lab.schema_id)
    fault = Fault(Reason.SCHEMA_UNKNOWN, "was not known then")
    records = [msgspec.convert(user(entry), users.User) for _ in range(count)]
    rejects = [
        Reject(fault, lab.pipeline.topic, 1, at, str(item.id).encode(), serialize(item), headers or [])
        for at, item in enumerate(records)
    ]
    lab.set_aside(*rejects)
    return lab.letters()


def test_a_record_that_is_valid_now_is_sent_unchanged(lab: Lab, entry: dict[str, Any]) -> None:
    """Without a repair, bytes, key and headers stay; the header of an earlier redrive is replaced."""
    (letter,) = make_valid_dead_letters(lab, entry, 1, [("h", b"1"), (REDRIVEN, b"before")])
    assert lab.redrive().sent == 1
    (message,) = lab.sent()
    assert (message.key(), message.value()) == (letter.key, letter.value)
    order = (ORDER, str(GENERATION_US).encode())
    assert message.headers() == [order, ("h", b"1"), (REDRIVEN, letter.identity.encode())]


def test_an_interrupted_command_sends_nothing_twice(lab: Lab, entry: dict[str, Any]) -> None:
    """Killed between send and resolution: the record is found in the topic. Killed before the send: it is sent."""
    sent, unsent, young = make_valid_dead_letters(lab, entry, 3)
    queue = Queue(lab.settings, lab.session, DeadLetterSelection(), Redriven())
    free = queue.free([sent, unsent])
    assert queue.book.claim(free.claims, uuid.uuid4(), "me", free.ends) == {sent.identity, unsent.identity}
    client = create_producer(lab.settings)
    headers: Headers = [(REDRIVEN, sent.identity.encode())]
    produce_record(client, lab.pipeline.topic, sent.key, sent.value, headers, lambda *_: None)
    assert client.flush(30) == 0
    early = lab.redrive(places=frozenset({sent.place, unsent.place}))
    assert (early.sent, early.in_hand) == (0, 2)
    lab.age_claims()
    queue.book.claim({young.identity: None}, uuid.uuid4(), "another", {})
    done = lab.redrive()
    assert (done.sent, done.already, done.in_hand) == (1, 1, 1)
    identities = [dict(message.headers())[REDRIVEN].decode() for message in lab.sent()]
    assert sorted(identities) == sorted([sent.identity, unsent.identity])
    assert all(lab.lines()[item.identity].state is resolutions.State.REDRIVEN for item in (sent, unsent))


def test_two_commands_at_once_send_each_record_once(lab: Lab, entry: dict[str, Any]) -> None:
    """A record that one command has claimed is left alone by the other."""
    make_valid_dead_letters(lab, entry, 700)
    done: list[Redriven] = []
    start = threading.Barrier(3)

    def work() -> None:
        start.wait()
        done.append(lab.redrive())

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    start.wait()
    for thread in threads:
        thread.join(120)
    assert len(done) == 2
    assert sum(item.sent for item in done) == 700
    sent = [dict(message.headers())[REDRIVEN] for message in lab.sent()]
    assert len(sent) == len(set(sent)) == 700


def test_a_limit_bounds_how_many_are_sent(lab: Lab, entry: dict[str, Any]) -> None:
    """Only that many of the pending records are sent; the next command continues after them."""
    make_valid_dead_letters(lab, entry, 5)
    assert [lab.redrive(limit=2).sent for _ in range(4)] == [2, 2, 1, 0]


def test_a_discarded_record_is_never_redriven_nor_the_reverse(lab: Lab, entry: dict[str, Any]) -> None:
    """Both resolutions are shown, with who, when and why."""
    gone, kept = make_valid_dead_letters(lab, entry, 2)
    assert lab.cli("discard").returncode == 2
    done = lab.cli("discard", "--place", gone.place, "--note", "a test", "--yes")
    assert done.returncode == 0, done.stderr
    assert "record_discarded" in done.stderr
    assert (lab.redrive().sent, len(lab.sent())) == (1, 1)
    document = json.loads(lab.cli("discard", "--all", "--yes", "--json").stdout)
    assert (document["discarded"], document["already"]) == (0, 2)
    assert any("a test" in record["message"] for record in document["records"])
    lines = lab.lines()
    assert (lines[gone.identity].state, lines[gone.identity].note) == (resolutions.State.DISCARDED, "a test")
    assert lines[kept.identity].state is resolutions.State.REDRIVEN
    (group,) = json.loads(lab.cli("list", "--all", "--json").stdout)
    assert (group["waiting"], group["redriven"], group["discarded"]) == (0, 1, 1)


def test_a_position_without_a_record_is_a_usage_error(lab: Lab, entry: dict[str, Any]) -> None:
    """The message says which positions the topic has; nothing is sent."""
    make_valid_dead_letters(lab, entry, 1)
    with pytest.raises(UsageError, match=rf"9:9 in {lab.pipeline.dead_letter_topic} \(available: "):
        lab.redrive(places=frozenset({"9:9"}))
    assert lab.sent() == []


def test_the_consistency_of_plain_writes_does_not_matter(lab: Lab) -> None:
    """Each change is made once, by the first command, with consistency ONE too."""
    settings = lab.settings.model_copy(update={"cassandra_consistency": "ONE"})
    with cassandra.open_session(settings) as session:
        book = Queue(settings, session, DeadLetterSelection(), Redriven()).book
        claim = uuid.uuid4()
        assert book.claim({"a": None, "b": None}, claim, "me", {0: 5}) == {"a", "b"}
        assert book.claim({"a": None}, uuid.uuid4(), "you", {}) == set()
        assert book.finish({"a": Position(1, 2)}, claim) == {"a"}
        assert book.discard({"a": claim, "b": claim}, uuid.uuid4(), "me", "") == {"b"}
    assert lab.lines()["a"].place == (1, 2)
