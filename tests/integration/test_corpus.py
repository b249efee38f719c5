"""The corpus of bad and strange records, all at once, through the real Kafka and Spark."""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from confluent_kafka import Message
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from penstock.broker.topics import OffsetRange
from penstock.contract.batch import BatchSummary
from penstock.contract.fault import Stage
from penstock.dead_letters.message import PREFIX, read_error_headers
from penstock.pipelines.users import User
from penstock.sink import cassandra
from penstock.sink.ledger import Ledger
from tests.corpus.all import CASES
from tests.corpus.case import Case, Deleted, Rejected, Sender, Stored
from tests.corpus.schemas import SCHEMAS
from tests.integration.streaming import EPOCH_US, Place, Sent, Topic

_TYPES = {"json": "JSON", "avro": "AVRO"}
_SEED = 20_260_101
_HALF_MS = timedelta(microseconds=500)
_IDENTITY = "def transform(df):\n    return df\n"


def _neighbours() -> Iterator[Case]:
    """Valid users, written in each format in turn."""
    ways = [lambda item: item.json(), lambda item: item.framed("json", item.json()), lambda item: item.avro()]
    for at in range(len(CASES)):
        yield Case(f"neighbour {at}", ways[at % len(ways)], Stored())


def _shuffled() -> list[Case]:
    """The corpus in a random order, with a valid record next to each case."""
    order = random.Random(_SEED).sample(CASES, len(CASES))
    return [case for pair in zip(order, _neighbours(), strict=True) for case in pair]


def _schema_ids(topic: Topic) -> dict[str, int]:
    """The registry's id of each schema in the corpus."""
    client = SchemaRegistryClient({"url": topic.settings.registry_url})
    ids = {}
    for name, (wire_format, schema) in SCHEMAS.items():
        registered = Schema(json.dumps(schema), schema_type=_TYPES[wire_format])
        ids[name] = int(client.register_schema(f"{topic.pipeline.topic}-{name}", registered))
    return ids


class Pass:
    """The corpus in a topic: each case with its sender and position; records to be deleted are sent first."""

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        ids = _schema_ids(topic)
        self.cases = [(case, case.sender(ids)) for case in _shuffled()]
        before = [(case.key(item), item.json(), []) for case, item in self.cases if case.becomes == Deleted()]
        self.before = len(before)
        self.sent: list[Sent] = [(case.key(item), case.value(item), case.headers) for case, item in self.cases]
        self.places: list[Place] = topic.send_all([*before, *self.sent])[self.before :]

    def wanted(self, kind: type) -> list[tuple[Case, Sender, Sent, Place]]:
        """The cases with this kind of outcome."""
        every = zip(self.cases, self.sent, self.places, strict=True)
        return [(case, item, sent, place) for (case, item), sent, place in every if isinstance(case.becomes, kind)]


def _cell(value: Any) -> Any:
    """A value as the driver reads it, to the millisecond, as the driver computes in floating point."""
    if not isinstance(value, datetime):
        return value
    plain = (
        value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else min(value, datetime.max - _HALF_MS) + _HALF_MS
    )
    return plain.replace(microsecond=plain.microsecond // 1000 * 1000)


def _fields(record: User) -> dict[str, Any]:
    return {name: _cell(value) for name, value in msgspec.structs.asdict(record).items()}


def assert_rows_are_as_the_cases_say(corpus: Pass) -> None:
    """There is a row, cell for cell and at its position, for each valid record, and no other."""
    rows = corpus.topic.rows()
    wanted = corpus.wanted(Stored)
    wrong = {}
    for case, sender, _, (partition, offset) in wanted:
        expected = _fields(case.becomes.record(sender)) | {"kafka_partition": partition, "kafka_offset": offset}
        result = rows.pop(sender.id, {})
        differ = {
            name: (result.get(name), value) for name, value in expected.items() if _cell(result.get(name)) != value
        }
        if differ:
            wrong[case.name] = differ
    assert wrong == {}
    assert rows == {}


def _what_is_wrong(case: Case, sent: Sent, letter: Message, stage: Stage) -> dict[str, Any]:
    becomes, facts = case.becomes, read_error_headers(letter)
    assert isinstance(becomes, Rejected)
    own = [header for header in letter.headers() if not header[0].startswith(PREFIX)]
    checks = {
        "reason": facts["reason"] == becomes.reason,
        "stage": facts["stage"] == stage,
        "rules": facts["rules"] == ",".join(becomes.rules),
        "message": becomes.message in facts["message"],
        "key": letter.key() == sent[0],
        "value": letter.value() == sent[1],
        "headers": own == sent[2],
    }
    return {name: facts.get(name) for name, is_right in checks.items() if not is_right}


def assert_dead_letters_are_as_the_cases_say(corpus: Pass) -> None:
    """There is a dead letter, byte for byte, for each invalid record, and no other."""
    letters: dict[Place, Message] = {}
    for letter in corpus.topic.dead_letters():
        facts = read_error_headers(letter)
        letters[int(facts["partition"]), int(facts["offset"])] = letter
    wanted = corpus.wanted(Rejected)
    assert {place for _, _, _, place in wanted} == letters.keys()
    wrong = {case.name: _what_is_wrong(case, sent, letters[place], Stage.DECODE) for case, _, sent, place in wanted}
    assert {name: facts for name, facts in wrong.items() if facts} == {}


def assert_summaries_add_up(corpus: Pass, summaries: list[BatchSummary]) -> None:
    """Every record is counted once, as what became of it."""
    became = Counter(type(case.becomes) for case, _ in corpus.cases)
    total = {
        name: sum(getattr(summary, name) for summary in summaries)
        for name in ("records", "stored", "deleted", "rejected")
    }
    assert total == {
        "records": len(corpus.cases) + corpus.before,
        "stored": became[Stored] + corpus.before,
        "deleted": became[Deleted],
        "rejected": became[Rejected],
    }
    assert all(summary.filtered == 0 and summary.nulls == {} for summary in summaries)
    assert all(summary.last_offset - summary.first_offset + 1 == summary.records for summary in summaries)


def assert_ledger_keeps(topic: Topic, summaries: list[BatchSummary]) -> None:
    """What was written to the ledger is read back, and the last covered offset is known."""
    with cassandra.open_session(topic.settings) as session:
        book = Ledger(session, topic.pipeline.keyspace, topic.pipeline.topic, EPOCH_US)
        book.write("job", 0, summaries)
        for summary in summaries:
            span = OffsetRange(summary.partition, summary.first_offset, summary.last_offset + 1)
            assert [line.summary for line in book.lines(span)] == [summary]
            assert book.reached(span) == span.end


@pytest.mark.parametrize(
    ("before", "more"), [("", ""), (_IDENTITY, "transform=transform")], ids=["as it is", "transformed"]
)
def test_every_case_ends_as_declared(topic: Callable[..., Topic], before: str, more: str) -> None:
    """In a topic full of bad records each is dead-lettered unchanged, its neighbours are stored, and a replay changes
    nothing.
    """
    corpus = Pass(topic(before, more))
    summaries = corpus.topic.summaries()
    assert_summaries_add_up(corpus, summaries)
    assert_ledger_keeps(corpus.topic, summaries)
    assert_rows_are_as_the_cases_say(corpus)
    assert_dead_letters_are_as_the_cases_say(corpus)
    rows = corpus.topic.rows()
    again = corpus.topic.summaries()
    assert [item._replace(stored_at_ms=0, latencies={}) for item in again] == [
        summary._replace(stored_at_ms=0, latencies={}) for summary in summaries
    ]
    assert corpus.topic.rows() == rows
    assert_dead_letters_are_as_the_cases_say(corpus)
