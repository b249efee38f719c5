import msgspec
import pytest

from penstock.broker import dlq
from penstock.config import read
from penstock.contract.reject import Reason
from penstock.errors import DeliveryFailed, SourceRefused, WrongUse
from penstock.pipeline import ingest
from penstock.pipeline.ingest import RUN_HEADER, Order
from penstock.pipelines.users import PIPELINE, User
from penstock.process.decode import Decoder
from tests.unit.fakes import JSON_ID, FakeProducer, FakeRegistry, FakeSchemas


class FakeSource:
    """An API that gives `answers`, then raises `error` if there is one."""

    def __init__(self, answers, error=None) -> None:
        self.answers, self.error = answers, error
        self.asked = []

    def fetch(self, asked, seed, given=0):
        self.asked.append((asked, seed))
        self.given = given
        yield from self.answers
        if self.error:
            raise self.error


class World:
    """Everything that a run talks to."""

    def __init__(self) -> None:
        self.producer = FakeProducer()
        self.registry = FakeRegistry()
        self.source = FakeSource([])
        self.urls: list[str] = []
        self.topics: list[str] = []

    def sent(self, topic: str) -> list:
        return [one for one in self.producer.sent if one.topic() == topic]


@pytest.fixture
def world(monkeypatch, tmp_path):
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path))
    world = World()

    def source(_settings, url=""):
        world.urls.append(url)
        return world.source

    monkeypatch.setattr(
        ingest.topics,
        "ensure_pipeline",
        lambda _settings, made: world.topics.extend([made.topic, made.dead_letter_topic]),
    )
    monkeypatch.setattr(ingest, "Registry", lambda _settings: world.registry)
    monkeypatch.setattr(ingest, "producer", lambda _settings: world.producer)
    monkeypatch.setattr(ingest.HttpSource, "configured", source)
    return world


def run(order: Order):
    return ingest.run(read(), PIPELINE, order)


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
def test_what_a_run_is_asked_for(what, asked):
    """A run is asked for a number of records, or for what a time at a rate makes."""
    assert Order("r", **what).asked == asked


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
def test_an_order_that_does_not_say_how_many_is_wrong_use(what):
    """Neither, both, and less than one record are refused before anything is done."""
    with pytest.raises(WrongUse):
        _ = Order("r", **what).asked


def test_a_wrong_order_touches_nothing(world):
    """A run that is refused has made no topic and asked no API."""
    with pytest.raises(WrongUse):
        run(Order("r"))
    assert (world.topics, world.urls, world.producer.sent) == ([], [], [])


def test_a_run_sends_what_it_fetches(world, captured_users):
    """Every user of the answers lies in the topic by its id, framed, under the run's id, and all are counted."""
    world.source = FakeSource([captured_users[:20], captured_users[20:]])
    summary = run(Order("run-1", records=30))
    assert (summary.asked, summary.fetched, summary.produced, summary.refused) == (30, 30, 30, 0)
    assert (summary.run_id, summary.topic, summary.schema_id) == ("run-1", "users_created", JSON_ID)
    assert summary.bytes == sum(len(one) for one in world.producer.sent)
    assert summary.offsets == {"0": (0, 29)}
    assert world.topics == ["users_created", "users_created.dlq"]
    assert world.registry.registered == [("users_created-value", User, "json")]
    decoder = Decoder(User, FakeSchemas.of(User))
    for entry, message in zip(captured_users, world.producer.sent, strict=True):
        user = decoder.decode(message.value())
        assert message.key().decode() == str(user.id) == entry["login"]["uuid"]
        assert message.headers() == [(RUN_HEADER, b"run-1")]


def test_what_a_run_says_is_json(world, captured_users):
    """Airflow keeps the summary as XCom: it is made of JSON values."""
    world.source = FakeSource([captured_users])
    told = run(Order("run-1", records=30)).as_dict()
    assert msgspec.json.decode(msgspec.json.encode(told)).keys() == told.keys()
    assert {"asked", "fetched", "produced", "bytes", "seconds"} <= told.keys()


def test_the_same_run_asks_for_the_same_users(world, captured_users):
    """A run that is tried again seeds the API as before; another run seeds it otherwise."""
    for run_id in ("scheduled__2025-01-01", "scheduled__2025-01-01", "scheduled__2025-01-02"):
        world.source.answers = [captured_users]
        run(Order(run_id, records=30))
    (_, first), (_, again), (_, other) = world.source.asked
    assert first == again != other
    assert first[-1].isalpha()


def test_an_order_may_name_another_api(world, captured_users):
    """A run's own URL is stronger than the setting."""
    world.source = FakeSource([captured_users])
    run(Order("r", records=30, source_url="http://other/"))
    run(Order("r", records=30))
    assert world.urls == ["http://other/", ""]


def test_an_entry_that_breaks_the_contract_is_set_aside(world, changed):
    """A damaged entry lies in the dead-letter topic with its reason and the run's id; the others are sent."""
    world.source = FakeSource([[changed("nat", "NO"), changed("email", "nobody"), "no user at all"]])
    summary = run(Order("run-1", records=3))
    assert (summary.fetched, summary.produced, summary.refused) == (3, 1, 2)
    email, no_user = world.sent("users_created.dlq")
    facts = dlq.facts(email)
    assert (facts["stage"], facts["reason"], facts["partition"], facts["offset"]) == (
        "produce",
        Reason.CONTRACT_BROKEN,
        "-1",
        "-1",
    )
    assert facts["rules"] == "email:pattern"
    assert email.headers()[0] == (RUN_HEADER, b"run-1")
    assert msgspec.json.decode(email.value())["email"] == "nobody"
    assert no_user.value() == b'"no user at all"'


def test_nothing_secret_is_set_aside(world, changed):
    """Password, salt and hashes of the API are never stored, in the dead-letter topic neither."""
    entry = changed("email", "nobody")
    entry["login"] |= dict.fromkeys(("password", "salt", "md5", "sha1", "sha256"), "s3cret")
    world.source = FakeSource([[entry]])
    run(Order("run-1", records=1))
    assert b"s3cret" not in world.sent("users_created.dlq")[0].value()


def test_less_than_asked_fails(world, captured_users):
    """An API that gives fewer users than asked for fails the run, though all it gave are sent."""
    world.source = FakeSource([captured_users])
    with pytest.raises(DeliveryFailed, match="30 records were acknowledged, 31 were asked for"):
        run(Order("r", records=31))
    assert len(world.producer.sent) == 30


def test_nothing_fetched_fails(world):
    """A run that produced nothing fails."""
    with pytest.raises(DeliveryFailed, match="0 records were acknowledged, 1 were asked for"):
        run(Order("r", records=1))


def test_less_than_acknowledged_fails(world, captured_users):
    """A record that Kafka did not acknowledge fails the run."""
    world.source = FakeSource([captured_users])
    world.producer = FakeProducer(fails=lambda one: one.offset() == 3)
    with pytest.raises(DeliveryFailed, match="users_created: 1 records failed"):
        run(Order("r", records=30))


def test_a_source_that_fails_in_the_middle_fails_the_run(world, captured_users):
    """The API's error comes out; what was sent until then is flushed."""
    world.source = FakeSource([captured_users], SourceRefused("429"))
    with pytest.raises(SourceRefused):
        run(Order("r", records=60))
    assert world.producer.flushed_s == [30.0]


def test_a_rate_spaces_the_records(world, captured_users, clock):
    """With a rate, records are sent no faster than that, the first at once."""
    world.source = FakeSource([captured_users[:5]])
    summary = run(Order("r", records=5, rate=4.0))
    assert clock.slept_s == [0, 0.25, 0.25, 0.25, 0.25]
    assert summary.seconds == 1.0


def test_without_a_rate_nothing_waits(world, captured_users, clock):
    """Without a rate, records are sent as fast as they come."""
    world.source = FakeSource([captured_users])
    run(Order("r", records=30))
    assert clock.slept_s == []


def test_a_run_that_is_tried_again_sends_the_same_records_and_no_others(world, captured_users, tmp_path):
    """What was fetched before a failure is sent again from disk, though the API would now answer otherwise."""
    world.source = FakeSource([captured_users[:10]], SourceRefused("answered 503"))
    with pytest.raises(SourceRefused):
        run(Order("run-1", records=20))
    world.producer.sent.clear()
    world.source = FakeSource([captured_users[20:30]])
    summary = run(Order("run-1", records=20))
    assert (summary.fetched, summary.produced) == (20, 20)
    assert world.source.given == 10
    wanted = [entry["login"]["uuid"] for entry in captured_users[:10] + captured_users[20:30]]
    assert [one.key().decode() for one in world.sent("users_created")] == wanted


def test_landed_answers_are_forgotten_once_all_is_acknowledged(world, captured_users, tmp_path):
    """A run that succeeded leaves nothing behind; another run never sees its answers."""
    world.source = FakeSource([captured_users])
    run(Order("run-1", records=30))
    assert not list((tmp_path / "data" / "landing").rglob("*.json"))


def test_what_was_landed_holds_nothing_secret(world, captured_users, tmp_path):
    """The API's password, salt and hashes do not get to the disk."""
    world.source = FakeSource([captured_users], SourceRefused("answered 503"))
    with pytest.raises(SourceRefused):
        run(Order("run-1", records=31))
    (landed,) = (tmp_path / "data" / "landing").rglob("*.json")
    assert captured_users[0]["login"]["sha256"].encode() not in landed.read_bytes()
    assert captured_users[0]["login"]["uuid"].encode() in landed.read_bytes()
    assert landed.stat().st_mode & 0o077 == 0
