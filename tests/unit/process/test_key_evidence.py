"""What keys prove, and that the stream and a replay reach the same conclusions, however a topic is split into
batches.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.broker.topics import OffsetRange
from penstock.codec.records import Decoder
from penstock.codec.wire_format import encode_header
from penstock.contract.batch import Decoded
from penstock.contract.fault import Reason
from penstock.contract.proofs import KEY_SHAPES, NOTHING_PROVEN, KeyEvidence, KeyProofs, merge_proofs
from penstock.errors import RegistryUnreachable
from penstock.process.batches import decode_batches
from penstock.sink.key_formats import KeyFormats
from tests.unit.codec.test_keys import JSON_SCHEMA, SCHEMAS, Order, avro
from tests.unit.ddl import arrow_schema
from tests.unit.fakes import FakeSchemas, FakeSession

RAW = arrow_schema("key BINARY, value BINARY, partition INT, offset BIGINT, timestamp_ms BIGINT, order_header BINARY")
DECODER = Decoder(Order, SCHEMAS)
AS_SHAPE = {
    "text": str.encode,
    "json_text": msgspec.json.encode,
    "json_object": lambda text: msgspec.json.encode({"id": text}),
    "connect": lambda text: msgspec.json.encode({"schema": None, "payload": {"id": text}}),
    "registry": lambda text: avro(2, {"id": text}),
}
"""How each shape writes an id that is plain text."""


def upsert(record_id: str, key: bytes | None) -> tuple[bytes | None, bytes | None]:
    return key, msgspec.json.encode(Order(id=record_id))


def batch_of(records: Iterable[tuple[bytes | None, bytes | None]], partition=0, first=0) -> pa.RecordBatch:
    rows = [
        {"key": key, "value": value, "partition": partition, "offset": offset, "timestamp_ms": 0}
        for offset, (key, value) in enumerate(records, first)
    ]
    return pa.RecordBatch.from_pylist(rows, schema=RAW)


def decode(*records, decoder=DECODER, evidence=None) -> Decoded:
    (result,) = decode_batches([batch_of(records)], decoder, "t", proofs=evidence or KeyEvidence(NOTHING_PROVEN))
    return result


def deleted(result: Decoded) -> list[str]:
    return [deletion.key for deletion in result.deletions]


@pytest.mark.parametrize("shape", AS_SHAPE)
def test_records_with_a_value_prove_the_format_of_their_keys(shape):
    """A tombstone of that format deletes its row, one of any other format is ambiguous, whichever it is."""
    write, evidence = AS_SHAPE[shape], KeyEvidence(NOTHING_PROVEN)
    tombstones = [(AS_SHAPE[other]("J1"), None) for other in AS_SHAPE]
    result = decode(upsert("J1", write("J1")), upsert("J2", write("J2")), *tombstones, evidence=evidence)
    assert deleted(result) == ["J1"]
    assert [reject.key for reject in result.rejects] == [AS_SHAPE[other]("J1") for other in AS_SHAPE if other != shape]
    assert {reject.fault.reason for reject in result.rejects} == {Reason.KEY_AMBIGUOUS}
    assert evidence.found == {shape: {0: 0}}


@pytest.mark.parametrize(
    ("shape", "key"),
    [
        ("json_text", rb'"\u004a1"'),
        ("json_object", b' { "id" : "J1" } '),
        ("connect", b'{"payload":"J1"}'),
        ("connect", b'{"schema":{"type":"string","optional":false},"payload":"J1"}'),
        ("registry", avro(1, "J1")),
        ("registry", encode_header(JSON_SCHEMA) + b'{"id":"J1"}'),
        ("registry", encode_header(JSON_SCHEMA) + b'"J1"'),
    ],
)
def test_a_format_has_many_spellings(shape, key):
    """Connect with schema and without, Avro and JSON with a header: each proves its format."""
    evidence = KeyEvidence(NOTHING_PROVEN)
    decode(upsert("J1", key), evidence=evidence)
    assert set(evidence.found) == {shape}


def test_keys_that_are_not_the_id_prove_nothing():
    """In a topic keyed by customers, a text key that happens to be an order's id deletes nothing."""
    keys = ["C1", "C2", "J3"]
    result = decode(*[upsert(f"J{number}", key.encode()) for number, key in enumerate(keys, 1)], (b"J1", None))
    assert (deleted(result), result.rejects[0].fault.reason) == ([], Reason.KEY_AMBIGUOUS)


@pytest.mark.parametrize("key", [None, b"", b"\xff", b"[1]", b'{"id":"J1","region":"eu"}', encode_header(99) + b"J1"])
def test_a_meaningless_key_proves_nothing(key):
    """No key, one that is not an id, and one whose schema is unknown: the record is stored nevertheless."""
    evidence = KeyEvidence(NOTHING_PROVEN)
    assert len(decode(upsert("J1", key), evidence=evidence).rows) == 1
    assert evidence.found == {}


def test_an_unavailable_registry_affects_only_records_that_need_it():
    """A plain value whose key has a header is stored; its key is examined again with the next batch."""
    away, evidence = Decoder(Order, FakeSchemas(error=RegistryUnreachable("away"))), KeyEvidence(NOTHING_PROVEN)
    assert len(decode(upsert("J1", avro(1, "J1")), decoder=away, evidence=evidence).rows) == 1
    assert evidence.found == {}


def test_text_that_looks_like_json_is_distinguished_from_json():
    """An id that is itself JSON proves unusual text, and then a JSON key of another row is ambiguous."""
    odd = '{"id":"J1"}'
    result = decode(upsert(odd, odd.encode()), (odd.encode(), None))
    assert deleted(result) == [odd]
    both = decode(upsert(odd, odd.encode()), upsert("J2", b'{"id":"J2"}'), (odd.encode(), None))
    assert both.deletions == []


def test_a_declared_format_needs_no_proof():
    """Only the declaration counts, and no key is examined."""
    declared, evidence = Decoder(Order, SCHEMAS, "json"), KeyEvidence(NOTHING_PROVEN)
    assert deleted(decode((b'"J1"', None), decoder=declared, evidence=evidence)) == ["J1"]
    decode(upsert("J1", b'"J1"'), decoder=declared, evidence=evidence)
    assert evidence.found == {}


def test_a_few_records_of_a_batch_are_examined(monkeypatch):
    """Their number does not grow with the batch; with tombstones in it there are more, but still a bound."""
    decoder = Decoder(Order, SCHEMAS)
    looked_at = []
    monkeypatch.setattr(decoder.keys, "readings", lambda key: looked_at.append(key) or {})
    records = [upsert(f"J{number}", b"C%d" % number) for number in range(2000)]
    decode(*records, decoder=decoder)
    assert len(looked_at) == 16
    looked_at.clear()
    monkeypatch.setattr(decoder.keys, "read", lambda *_: "J1")
    decode(*records, (b"J1", None), decoder=decoder)
    assert len(looked_at) == 1000


@dataclass
class Job:
    """The driver's part of the stream and of a replay, with the real decoding of tasks and a table in memory."""

    topic: list[list[tuple[bytes | None, bytes | None]]]
    kept: dict[str, dict[int, int]] = field(default_factory=dict)
    reached: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        session = FakeSession(self._answer)
        session.cluster.metadata.keyspaces = {"lab": SimpleNamespace(tables={"key_formats"})}
        book = SimpleNamespace(topic="t", epoch_us=1, reached=lambda span: self.reached.get(span.partition, 0))
        spans = [OffsetRange(number, 0, len(records)) for number, records in enumerate(self.topic)]
        self.formats = KeyFormats(session, "lab", book, lambda: spans)

    def _answer(self, query: str, values: tuple) -> list[dict]:
        if query.startswith("INSERT"):
            self.kept.setdefault(values[2], values[3])
        return [{"shape": shape, "starts": starts} for shape, starts in self.kept.items()]

    def task(self, partition: int, first: int, end: int, size: int, proofs: KeyProofs | KeyEvidence) -> list:
        """A task's result for a range, in Arrow batches of one size."""
        records = self.topic[partition][first:end]
        batches = [batch_of(records[at : at + size], partition, first + at) for at in range(0, len(records), size)]
        outcomes = []
        for batch in decode_batches(batches, DECODER, "t", proofs=proofs):
            outcomes += [(partition, deletion.offset, "deleted", deletion.key) for deletion in batch.deletions]
            outcomes += [(partition, reject.offset, reject.fault.reason, None) for reject in batch.rejects]
        return outcomes

    def stream(self, sizes: list[tuple[int, int]]) -> list:
        """Everything, in micro-batches of this many records per partition, each in Arrow batches of one size."""
        outcomes: list = []
        for most, size in sizes:
            result, summaries = {}, []
            for partition, records in enumerate(self.topic):
                first = self.reached.get(partition, 0)
                end = min(first + most, len(records))
                if first < end:
                    evidence = KeyEvidence(self.formats.known)
                    outcomes += self.task(partition, first, end, size, evidence)
                    result = merge_proofs([result, evidence.found])
                    summaries.append(SimpleNamespace(partition=partition, last_offset=end - 1))
            self.formats.note(result, summaries)
            self.reached |= {summary.partition: summary.last_offset + 1 for summary in summaries}
        return sorted(outcomes)


ids = st.sampled_from(["J1", "J2", "J3", '"J1"', '{"id":"J1"}'])
keys = st.tuples(st.sampled_from(sorted(AS_SHAPE)), ids).map(lambda pair: (pair[1], AS_SHAPE[pair[0]](pair[1])))
records = st.tuples(keys, ids, st.sampled_from("uuut")).map(
    lambda made: (made[0][1], None) if made[2] == "t" else upsert(made[0][0] if made[2] == "u" else made[1], made[0][1])
)


@given(
    topic=st.lists(st.lists(records, max_size=12), min_size=1, max_size=3),
    sizes=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 4)), min_size=1, max_size=12),
    again=st.tuples(st.integers(1, 12), st.integers(1, 12)),
)
def test_a_replay_decides_like_the_stream(topic, sizes, again):
    """For the same records, split differently, each tombstone deletes the same row or is a dead letter again."""
    job = Job(topic)
    streamed = job.stream([*sizes, (99, 99)])
    step, size = again
    replayed: list = []
    for partition, sent in enumerate(topic):
        for first in range(0, len(sent), step):
            replayed += job.task(partition, first, first + step, size, job.formats.known)
    assert sorted(replayed) == streamed
    assert set(job.kept) <= {"assumed", *KEY_SHAPES}
