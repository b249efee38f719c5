import base64
import os
import time
from dataclasses import replace
from decimal import Decimal
from typing import Annotated
from uuid import UUID

import msgspec
import pytest
from msgspec import Meta

from penstock.broker import headers
from penstock.broker.headers import FETCHED, RUN
from penstock.codec.records import Decoder
from penstock.config import read
from penstock.contract.fault import Reason
from penstock.contract.record import KEY, Digits, Record
from penstock.dead_letters.message import parse_message, read_error_headers
from penstock.errors import DeliveryFailed, SourceRefused, TooManyFailed, UsageError, WrongSettings
from penstock.pipeline import ingest
from penstock.pipeline.ingest import RunOrder
from penstock.pipelines.identity import identify_pipeline
from penstock.pipelines.users import PIPELINE, User
from penstock.produce import delivery_log
from penstock.source.entries import Unreadable
from tests.unit.fakes import JSON_ID, FakeProducer, FakeRegistry, FakeSchemas


def copied(item):
    return msgspec.json.decode(msgspec.json.encode(item))


class FakeSource:
    """An API that returns `answers`, entries or their JSON text, then raises `error` if there is one."""

    def __init__(self, answers, error=None) -> None:
        self.answers, self.error = answers, error
        self.read_number = None
        self.asked = []

    def fetch(self, asked, seed, given=0):
        self.asked.append((asked, seed))
        self.given = given
        for answer in self.answers:
            decode = msgspec.json.Decoder(float_hook=self.read_number).decode
            yield [
                item if isinstance(item, Unreadable) else decode(item) if isinstance(item, bytes) else copied(item)
                for item in answer
            ]
        if self.error:
            raise self.error


class World:
    """Everything that a run uses."""

    def __init__(self) -> None:
        self.producer = FakeProducer()
        self.registry = FakeRegistry()
        self.source = FakeSource([])
        self.urls: list[str] = []
        self.topics: list[str] = []

    def sent(self, topic: str) -> list:
        return [message for message in self.producer.sent if message.topic() == topic]


@pytest.fixture
def world(monkeypatch, tmp_path):
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path))
    world = World()

    def source(_settings, url="", read_number=None):
        world.urls.append(url)
        world.source.read_number = read_number
        return world.source

    monkeypatch.setattr(
        ingest.topics,
        "ensure_pipeline_topics",
        lambda _settings, made: world.topics.extend([made.topic, made.dead_letter_topic]),
    )
    monkeypatch.setattr(ingest.topics, "fetch_topic_id", lambda _settings, topic: f"id of {topic}")
    monkeypatch.setattr(ingest, "Registry", lambda _settings: world.registry)
    monkeypatch.setattr(ingest, "create_producer", lambda _settings: world.producer)
    monkeypatch.setattr(ingest.HttpSource, "configured", source)
    return world


def run(order: RunOrder, pipeline=PIPELINE):
    return ingest.run(read(), pipeline, order)


def letters_of(world) -> list:
    return [parse_message(message) for message in world.sent("users_created.dlq")]


@pytest.mark.parametrize(
    ("what", "asked"),
    [
        ({"records": 5}, 5),
        ({"records": 5, "rate": 2.0}, 5),
        ({"seconds": 2.5, "rate": 4.0}, 10),
        ({"seconds": 0.3, "rate": 2.0}, 1),
    ],
    ids=str,
)
def test_a_run_sends_a_number_of_records_or_a_rate_for_a_time(what, asked):
    """A run is asked for a number of records, or for what a time at a rate makes."""
    assert RunOrder("r", **what).asked == asked


@pytest.mark.parametrize(
    "what",
    [
        {},
        {"rate": 5.0},
        {"seconds": 5.0},
        {"seconds": 5.0, "rate": 0.0},
        {"records": 5, "seconds": 5.0, "rate": 1.0},
        {"records": 0},
        {"records": -1},
        {"seconds": 0.1, "rate": 1.0},
        {"seconds": 5.0, "rate": -1.0},
    ],
    ids=str,
)
def test_parameters_that_do_not_say_how_many_are_a_usage_error(what):
    """Neither, both, and less than one record are rejected before anything is done."""
    with pytest.raises(UsageError):
        _ = RunOrder("r", **what).asked


def test_invalid_parameters_have_no_effect(world):
    """A rejected run has created no topic and requested no API."""
    with pytest.raises(UsageError):
        run(RunOrder("r"))
    assert (world.topics, world.urls, world.producer.sent) == ([], [], [])


def test_a_run_for_another_pipeline_has_no_effect(world):
    """It names both pipelines; a run that names none, or this one, proceeds."""
    own = identify_pipeline(read(), PIPELINE).as_dict()
    with pytest.raises(WrongSettings) as refused:
        run(RunOrder("r", records=1, pipeline=own | {"topic": "orders"}))
    assert "triggered for topic 'orders', but Airflow runs PENSTOCK_PIPELINE=" in refused.value.message
    assert "with topic 'users_created'" in refused.value.message
    assert "./penstock restart airflow-scheduler spark-job" in refused.value.hint
    assert (world.topics, world.urls, world.producer.sent) == ([], [], [])
    for expected in (None, own):
        with pytest.raises(DeliveryFailed):  # the API gives nothing
            run(RunOrder("r", records=1, pipeline=expected))


def test_a_run_sends_what_it_fetches(world, captured_users):
    """Every user of the responses is in the topic by its id, with a wire-format header, under the run's id, and all are
    counted.
    """
    world.source = FakeSource([captured_users[:20], captured_users[20:]])
    summary = run(RunOrder("run-1", records=30))
    assert (summary.asked, summary.fetched, summary.produced, summary.refused) == (30, 30, 30, 0)
    assert (summary.run_id, summary.topic, summary.schema_id) == ("run-1", "users_created", JSON_ID)
    assert summary.bytes == sum(len(item) for item in world.producer.sent)
    assert summary.offsets == {"0": [0, 29]}
    assert world.topics == ["users_created", "users_created.dlq"]
    assert world.registry.registered == [("users_created-value", User, "json")]
    decoder = Decoder(User, FakeSchemas.of(User))
    for entry, message in zip(captured_users, world.producer.sent, strict=True):
        user = decoder.decode(message.value())
        assert message.key().decode() == str(user.id) == entry["login"]["uuid"]
        assert message.headers()[0] == (RUN, b"run-1")


def test_the_summary_of_a_run_is_json(world, captured_users):
    """Airflow keeps it as XCom: it consists of JSON values."""
    world.source = FakeSource([captured_users])
    output = run(RunOrder("run-1", records=30)).as_dict()
    assert msgspec.json.decode(msgspec.json.encode(output)).keys() == output.keys()
    assert {"asked", "fetched", "produced", "bytes", "seconds"} <= output.keys()


def test_a_retried_run_requests_the_same_users(world, captured_users):
    """A retry uses the same seed; another run uses another one."""
    for run_id in ("scheduled__2025-01-01", "scheduled__2025-01-01", "scheduled__2025-01-02"):
        world.source.answers = [captured_users]
        run(RunOrder(run_id, records=30))
    (_, first), (_, again), (_, other) = world.source.asked
    assert first == again != other
    assert first[-1].isalpha()


def test_a_run_may_name_another_api(world, captured_users):
    """A run's own URL overrides the setting."""
    world.source = FakeSource([captured_users])
    run(RunOrder("r", records=30, source_url="http://other/"))
    run(RunOrder("r", records=30))
    assert world.urls == ["http://other/", ""]


def test_an_entry_that_breaks_the_contract_is_dead_lettered(world, changed):
    """A damaged entry is in the dead-letter topic with its reason and the run's id; the others are sent."""
    world.source = FakeSource([[changed("nat", "NO"), changed("email", "nobody"), "no user at all"]])
    summary = run(RunOrder("run-1", records=3))
    assert (summary.fetched, summary.produced, summary.refused) == (3, 1, 2)
    email, no_user = world.sent("users_created.dlq")
    facts = read_error_headers(email)
    assert (facts["stage"], facts["reason"], facts["partition"], facts["offset"]) == (
        "produce",
        Reason.CONTRACT_BROKEN,
        "-1",
        "1",
    )
    assert facts["rules"] == "email:pattern"
    assert email.headers()[0] == (RUN, b"run-1")
    assert msgspec.json.decode(email.value())["email"] == "nobody"
    assert no_user.value() == b'"no user at all"'


def test_dead_letters_contain_no_secrets(world, changed, captured_users):
    """Password, salt and hashes of the API are never stored, not even in the dead-letter topic."""
    entry = changed("email", "nobody")
    entry["login"] |= dict.fromkeys(("password", "salt", "md5", "sha1", "sha256"), "s3cret")
    world.source = FakeSource([[entry, captured_users[0]]])
    run(RunOrder("run-1", records=2))
    assert b"s3cret" not in world.sent("users_created.dlq")[0].value()


def test_fewer_entries_than_requested_fail_the_run(world, captured_users):
    """Everything that the API returned is sent nevertheless."""
    world.source = FakeSource([captured_users])
    with pytest.raises(DeliveryFailed, match="30 of 31 requested records were acknowledged"):
        run(RunOrder("r", records=31))
    assert len(world.producer.sent) == 30


def test_fetching_nothing_fails_the_run(world):
    """A run that produced nothing fails."""
    with pytest.raises(DeliveryFailed, match="0 of 1 requested records were acknowledged"):
        run(RunOrder("r", records=1))


def test_an_unacknowledged_record_fails_the_run(world, captured_users):
    """A record that Kafka did not acknowledge fails the run."""
    world.source = FakeSource([captured_users])
    world.producer = FakeProducer(fails=lambda item: item.offset() == 3)
    with pytest.raises(DeliveryFailed, match="users_created: 1 records failed"):
        run(RunOrder("r", records=30))


def test_a_source_that_fails_in_the_middle_fails_the_run(world, captured_users):
    """The API's error is raised; what was sent until then is flushed."""
    world.source = FakeSource([captured_users], SourceRefused("429"))
    with pytest.raises(SourceRefused):
        run(RunOrder("r", records=60))
    assert world.producer.flushed_s[0] == 30.0


def test_a_rate_spaces_the_records(world, captured_users, clock):
    """With a rate, records are sent no faster than that, the first at once."""
    world.source = FakeSource([captured_users[:5]])
    summary = run(RunOrder("r", records=5, rate=4.0))
    assert clock.slept_s == [0, 0.25, 0.25, 0.25, 0.25]
    assert summary.seconds == 1.0


def test_without_a_rate_there_is_no_wait(world, captured_users, clock):
    """Records are sent as fast as they arrive."""
    world.source = FakeSource([captured_users])
    run(RunOrder("r", records=30))
    assert clock.slept_s == []


def test_a_retried_run_sends_exactly_the_same_records(world, captured_users, tmp_path):
    """What was fetched before a failure is sent again from disk, even if the API would return other records now."""
    world.source = FakeSource([captured_users[:10]], SourceRefused("returned 503"))
    with pytest.raises(SourceRefused):
        run(RunOrder("run-1", records=20))
    world.producer.sent.clear()
    world.source = FakeSource([captured_users[20:30]])
    summary = run(RunOrder("run-1", records=20))
    assert (summary.fetched, summary.produced) == (20, 20)
    assert world.source.given == 10
    wanted = [entry["login"]["uuid"] for entry in captured_users[:10] + captured_users[20:30]]
    assert [message.key().decode() for message in world.sent("users_created")] == wanted


def test_a_run_retried_after_all_was_acknowledged_sends_the_same(world, captured_users, tmp_path):
    """The scheduler may have died before it recorded the success; another run never uses the staged responses."""
    world.source = FakeSource([captured_users])
    run(RunOrder("run-1", records=30))
    first = [message.key() for message in world.sent("users_created")]
    world.producer.sent.clear()
    world.source = FakeSource([])
    assert run(RunOrder("run-1", records=30)).produced == 30
    assert [message.key() for message in world.sent("users_created")] == first
    world.source = FakeSource([captured_users[:1]])
    assert run(RunOrder("run-2", records=1)).fetched == 1


def test_staged_responses_expire_after_a_day(world, captured_users, tmp_path):
    """At the next run."""
    world.source = FakeSource([captured_users])
    run(RunOrder("run-1", records=30))
    (folder,) = (tmp_path / "data" / "landing").iterdir()
    os.utime(folder, (0, 0))
    world.source = FakeSource([captured_users[:1]])
    run(RunOrder("run-2", records=1))
    assert not folder.exists()


def test_two_equal_entries_are_rejected_twice(world, captured_users):
    """They are two dead letters: each has its number in the run."""
    world.source = FakeSource([[None, None, captured_users[0]]])
    assert run(RunOrder("run-1", records=3)).refused == 2
    letters = [parse_message(message) for message in world.sent("users_created.dlq")]
    assert [letter.origin.offset for letter in letters] == [0, 1]
    assert len({letter.identity for letter in letters}) == 2
    assert all(letter.run == "run-1" for letter in letters)


def test_a_deeply_nested_entry_affects_no_other(world, captured_users):
    """However deep it is nested, it is rejected, and its neighbours are sent."""
    deep = None
    for _ in range(600):
        deep = [deep]
    world.source = FakeSource([[deep, captured_users[0]]])
    summary = run(RunOrder("run-1", records=2))
    assert (summary.produced, summary.refused) == (1, 1)


def test_staged_responses_contain_no_secrets(world, captured_users, tmp_path):
    """The API's password, salt and hashes are not written to disk."""
    secret = captured_users[0]["login"]["sha256"].encode()
    world.source = FakeSource([captured_users], SourceRefused("returned 503"))
    with pytest.raises(SourceRefused):
        run(RunOrder("run-1", records=31))
    (landed,) = (tmp_path / "data" / "landing").rglob("*.json")
    assert secret not in landed.read_bytes()
    assert captured_users[0]["login"]["uuid"].encode() in landed.read_bytes()
    assert landed.stat().st_mode & 0o077 == 0


def attempts(home):
    return list(delivery_log.list_attempts(home / "data" / "journal"))


def test_a_run_logs_what_was_acknowledged(world, captured_users, tmp_path):
    """Position and key of each record, under the run and the topic's incarnation; marked as complete."""
    world.source = FakeSource([captured_users[:20], captured_users[20:]])
    summary = run(RunOrder("run-1", records=30))
    (attempt,) = attempts(tmp_path)
    assert (attempt.run_id, attempt.topic, attempt.topic_id) == ("run-1", summary.topic, summary.topic_id)
    assert summary.topic_id == "id of users_created"
    output = [(entry.partition, entry.offset, entry.key) for entry in attempt.entries]
    assert output == [(0, at, entry["login"]["uuid"]) for at, entry in enumerate(captured_users)]
    assert attempt.finished


def test_a_rejected_record_is_not_in_the_delivery_log(world, changed, captured_users, tmp_path):
    """It never reached the topic."""
    world.source = FakeSource([[changed("email", "nobody"), captured_users[1]]])
    assert run(RunOrder("run-1", records=2)).refused == 1
    (attempt,) = attempts(tmp_path)
    assert [entry.key for entry in attempt.entries] == [captured_users[1]["login"]["uuid"]]
    assert attempt.finished


def test_a_failed_delivery_leaves_the_delivery_log_incomplete(world, captured_users, tmp_path):
    """With all that was acknowledged, and nothing else."""
    world.source = FakeSource([captured_users])
    world.producer = FakeProducer(fails=lambda item: item.offset() == 3)
    with pytest.raises(DeliveryFailed):
        run(RunOrder("r", records=30))
    (attempt,) = attempts(tmp_path)
    assert not attempt.finished
    assert [entry.offset for entry in attempt.entries] == [0, 1, 2, *range(4, 30)]


def test_a_failed_source_leaves_the_delivery_log_incomplete(world, captured_users, tmp_path):
    """It contains what was sent until then."""
    world.source = FakeSource([captured_users[:10]], SourceRefused("returned 503"))
    with pytest.raises(SourceRefused):
        run(RunOrder("r", records=20))
    (attempt,) = attempts(tmp_path)
    assert (len(list(attempt.entries)), attempt.finished) == (10, False)


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it, and the rest of the producer's queue is not sent."""


class KilledSource(FakeSource):
    """An API during whose second response the task is killed, with records still in the producer's queue."""

    def __init__(self, answers, world) -> None:
        super().__init__(answers)
        self._world = world

    def fetch(self, asked, seed, given=0):
        yield from super().fetch(asked, seed, given)
        self._world.producer.flush = lambda _timeout: 0
        raise Killed


def test_the_retry_of_a_killed_attempt_sends_the_same_records(world, captured_users, tmp_path):
    """It sends the staged records, even if none was acknowledged, and requests only the rest."""
    world.source = KilledSource([captured_users[:10]], world)
    with pytest.raises(Killed):
        run(RunOrder("run-1", records=20))
    killed = world.producer
    world.producer, world.source = FakeProducer(), FakeSource([captured_users[10:20]])
    summary = run(RunOrder("run-1", records=20))
    assert world.source.given == 10
    wanted = [entry["login"]["uuid"].encode() for entry in captured_users[:20]]
    assert [message.key() for message in world.sent("users_created")] == wanted
    assert [message.value() for message in world.sent("users_created")][:10] == [
        message.value() for message in killed.sent
    ]
    assert (summary.fetched, summary.produced) == (20, 20)
    first, second = attempts(tmp_path)
    assert (first.finished, list(first.entries)) == (False, [])
    assert (second.run_id, second.finished, len(list(second.entries))) == ("run-1", True, 20)


def test_each_record_has_its_run_and_fetch_time(world, captured_users):
    """In ms since the epoch; the same for all records of one response."""
    before_ms = time.time_ns() // 1_000_000
    world.source = FakeSource([captured_users[:20], captured_users[20:]])
    run(RunOrder("run-1", records=30))
    after_ms = time.time_ns() // 1_000_000
    marks = [message.headers() for message in world.sent("users_created")]
    assert [[name for name, _ in mark] for mark in marks] == [[RUN, FETCHED]] * 30
    fetched = [int(mark[1][1]) for mark in marks]
    assert before_ms <= fetched[0] <= fetched[-1] <= after_ms
    assert (len(set(fetched[:20])), len(set(fetched[20:]))) == (1, 1)


def test_staged_responses_keep_their_fetch_time(world, captured_users, tmp_path):
    """A run that is retried an hour later fetched them an hour ago."""
    world.source = FakeSource([captured_users[:10]], SourceRefused("returned 503"))
    with pytest.raises(SourceRefused):
        run(RunOrder("run-1", records=20))
    (landed,) = (tmp_path / "data" / "landing").rglob("*.json")
    os.utime(landed, ns=(0, 1_700_000_000_123_000_000))
    world.producer = FakeProducer()
    world.source = FakeSource([captured_users[10:20]])
    run(RunOrder("run-1", records=20))
    fetched = [headers.read_text(message, FETCHED) for message in world.sent("users_created")]
    assert set(fetched[:10]) == {"1700000000123"}
    assert all(int(item) > 1_700_000_000_123 for item in fetched[10:])


@pytest.mark.parametrize("offset_s", [-3600.0, 90.5])
def test_a_clock_offset_moves_kafkas_timestamps(world, captured_users, offset_s):
    """By this many seconds; the fetch time is another clock's."""
    world.source = FakeSource([captured_users])
    before_ms = time.time() * 1000
    run(RunOrder("r", records=30, clock_offset_s=offset_s))
    after_ms = time.time() * 1000
    stamps = [message.timestamp()[1] for message in world.sent("users_created")]
    assert all(before_ms - 1 <= stamp - offset_s * 1000 <= after_ms + 1 for stamp in stamps)
    assert int(headers.read_text(world.producer.sent[0], FETCHED)) >= int(before_ms)


@pytest.mark.parametrize("offset_s", [None, 0.0])
def test_without_an_offset_the_timestamps_are_the_producers(world, captured_users, offset_s):
    """0 stands for that."""
    world.source = FakeSource([captured_users])
    run(RunOrder("r", records=30, clock_offset_s=offset_s))
    assert {message.timestamp()[1] for message in world.producer.sent} == {0}


def test_delivery_logs_of_deleted_records_expire(world, captured_users, tmp_path, monkeypatch):
    """With the topic's retention."""
    monkeypatch.setenv("PENSTOCK_KAFKA_RETENTION_HOURS", "2")
    world.source = FakeSource([captured_users])
    run(RunOrder("old", records=30))
    (old,) = (tmp_path / "data" / "journal").iterdir()
    for hours, left in ((1.9, 2), (2.1, 2)):
        moment_s = time.time() - hours * 3600
        os.utime(old, (moment_s, moment_s))
        world.source, world.producer = FakeSource([captured_users]), FakeProducer()
        run(RunOrder(f"young {hours}", records=30))
        assert len(attempts(tmp_path)) == left
    assert "old" not in [attempt.run_id for attempt in attempts(tmp_path)]


def plain(entry):
    """A mapping with plain dict access; it pops what it needs from the entry."""
    user = {"id": entry["login"].pop("uuid"), "first_name": entry.pop("name")["first"]}
    return user | {"address": entry.pop("location")["city"], "nationality": entry.pop("nat")}


class Someone(Record, frozen=True, kw_only=True):
    id: Annotated[UUID, Meta(extra=KEY)]
    first_name: str
    address: str
    nationality: str


PLAIN = replace(PIPELINE, record=Someone, from_source=plain)


def test_an_entry_on_which_the_mapping_raises_is_one_dead_letter(world, captured_users, changed):
    """It has exception and line, and the entry as the API returned it, without secrets; the run continues."""
    bad = changed("location", None)
    world.source = FakeSource([[*captured_users[:4], bad, *captured_users[5:10]]])
    summary = run(RunOrder("run-1", records=10), PLAIN)
    assert (summary.fetched, summary.produced, summary.refused) == (10, 9, 1)
    (letter,) = letters_of(world)
    assert (letter.stage, letter.reason, letter.origin.offset, letter.run) == ("produce", "mapping_failed", 4, "run-1")
    line = plain.__code__.co_firstlineno + 3
    assert letter.message.startswith(
        f"TypeError at test_ingest.py, line {line}: 'NoneType' object is not subscriptable"
    )
    assert letter.message.endswith(
        'return user | {"address": entry.pop("location")["city"], "nationality": entry.pop("nat")}'
    )
    kept = msgspec.json.decode(letter.value)
    assert kept.pop("login")["uuid"] == bad["login"]["uuid"]
    bad.pop("login")
    assert kept == bad


class Trade(Record, frozen=True, kw_only=True):
    id: Annotated[str, Meta(min_length=1, max_length=50, extra=KEY)]
    price: Annotated[Decimal, Digits(38, 18)]
    doubled: float


def trade_of(entry) -> Trade:
    return Trade(id=entry["id"], price=entry["price"], doubled=entry["price"] * 2.0)


LONG = "12345678901234567890.123456789012345678"
LONGER = LONG + "9"


def test_every_digit_of_a_number_gets_to_the_topic_or_to_the_dead_letter(world):
    """An API's number that a float would round: sent as it is, staged as it is, and so is one that is refused."""
    good, bad = (f'{{"id":"a","price":{text}}}'.encode() for text in (LONG, LONGER))
    pipeline = replace(PIPELINE, record=Trade, from_source=trade_of)
    for attempt in range(2):
        world.source, world.producer = FakeSource([[good, bad]] if attempt == 0 else []), FakeProducer()
        assert (run(RunOrder("run-1", records=2), pipeline).produced, attempt) == (1, attempt)
        (message,) = world.sent("users_created")
        sent = msgspec.json.decode(message.value()[5:])
        assert sent == {"id": "a", "price": LONG, "doubled": float(LONG) * 2}
        (letter,) = letters_of(world)
        assert (letter.value, letter.message) == (bad, "price: at most 18 decimals")


def test_entries_of_records_without_decimals_are_read_as_ever(world, captured_users):
    """Nothing reads their numbers but msgspec."""
    world.source = FakeSource([captured_users[:1]])
    run(RunOrder("run-1", records=1))
    assert world.source.read_number is None


def test_a_retried_run_writes_the_same_dead_letters(world, captured_users, changed):
    """For entries on which the mapping raises and for those that are not JSON: their copies have one identity."""
    bad = [changed("location"), Unreadable(b'{"n": NaN}', "NaN is not a JSON number"), changed("nat", ["DE"])]
    world.source = FakeSource([[*bad, *captured_users[:20]]], SourceRefused("returned 503"))
    with pytest.raises(SourceRefused):
        run(RunOrder("run-1", records=24), PLAIN)
    world.source = FakeSource([captured_users[20:21]])
    assert run(RunOrder("run-1", records=24), PLAIN).refused == 3
    letters = letters_of(world)
    assert len(letters) == 6
    assert len({letter.identity for letter in letters}) == 3
    assert [letter.value for letter in letters[:3]] == [letter.value for letter in letters[3:]]


def test_an_entry_that_is_not_json_is_one_dead_letter(world, captured_users):
    """Its bytes are the value, without secrets, on disk neither; the others are sent."""
    bad = Unreadable(b'{"score": NaN, "login": {"password": "s3cret"}}', "NaN is not a JSON number")
    world.source = FakeSource([[*captured_users[:5], bad]])
    summary = run(RunOrder("run-1", records=6))
    assert (summary.produced, summary.refused) == (5, 1)
    (letter,) = letters_of(world)
    assert (letter.stage, letter.reason, letter.origin.offset) == ("produce", "json_malformed", 5)
    assert letter.message == "NaN is not a JSON number"
    assert letter.value == b'{"score": NaN, "login": {}}'
    (landed,) = (read().home / "data" / "landing").rglob("*.json")
    assert b"s3cret" not in landed.read_bytes()
    assert base64.b64encode(b"s3cret") not in landed.read_bytes()


def test_too_many_failed_entries_end_a_run_at_once(world, captured_users):
    """After 200 entries no more are requested; failed ones are in the dead-letter topic, sent ones stay."""
    world.source = FakeSource([[*[{}] * 25, *captured_users[:25]]] * 100)
    with pytest.raises(
        TooManyFailed, match=r"100 of 200 entries .* KeyError at test_ingest.py, line \d+, for example entry 0"
    ):
        run(RunOrder("run-1", records=5000), PLAIN)
    assert len(list((read().home / "data" / "landing").rglob("*.json"))) == 4
    assert [len(world.sent(topic)) for topic in ("users_created", "users_created.dlq")] == [100, 100]


def test_failed_entries_of_every_kind_count_towards_the_share(world, captured_users, changed):
    """Broken rules, exceptions, and what is not JSON; a setting defines the limit."""
    bad = [changed("nat", ["DE"]), changed("location"), Unreadable(b"NaN", "no"), changed("name", None)] * 3
    world.source = FakeSource([[*bad, *captured_users[:28]]])
    with pytest.raises(TooManyFailed, match="12 of 40"):
        run(RunOrder("run-1", records=40), PLAIN)
    assert len(world.sent("users_created.dlq")) == 12


def test_the_share_of_failed_entries_is_a_setting(world, monkeypatch):
    """1 allows every entry to fail."""
    monkeypatch.setenv("PENSTOCK_SOURCE_MAX_FAILED_SHARE", "1")
    world.source = FakeSource([[None] * 300])
    assert run(RunOrder("run-1", records=300)).refused == 300


def test_entries_rejected_before_the_source_failed_are_kept(world, captured_users):
    """The API may never respond again: its bad entries are in the dead-letter topic nevertheless."""
    world.source = FakeSource([[None, *captured_users]], SourceRefused("returned 503"))
    with pytest.raises(SourceRefused):
        run(RunOrder("run-1", records=60))
    assert len(world.sent("users_created.dlq")) == 1


def test_secret_fields_are_dropped_at_any_depth():
    """In objects and lists; everything else stays."""
    entries = [{"a": [{"s": 1, "b": {"s": {"c": 2}, "d": 3}}], "s": None}, ["s", [{"s": 4}]], "s", None]
    ingest.drop_fields(frozenset({"s"}), entries)
    assert entries == [{"a": [{"b": {"d": 3}}]}, ["s", [{}]], "s", None]
