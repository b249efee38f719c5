"""The trace of a record, from a stream in memory."""

import pytest

from penstock.broker import headers, topics
from penstock.broker.topics import OffsetRange
from penstock.codec.wire_format import encode_header
from penstock.dead_letters import resolutions
from penstock.errors import RegistryUnreachable, UsageError
from penstock.reconcile import trace
from penstock.sink.ledger import REPLAY
from tests.unit.carried import EPOCH_US, Carried, message, value


class FakeVersions:
    """A registry's response for a schema; `penstock.broker.registry.Registry`."""

    def versions(self, schema_id):
        if schema_id == 9:
            raise RegistryUnreachable("away")
        return {1: ["readings-value version 3"]}.get(schema_id, [])


@pytest.fixture
def topic(tmp_path, monkeypatch):
    topic = Carried(tmp_path)
    monkeypatch.setattr(trace, "Registry", lambda _settings: FakeVersions())
    with topic.in_place():
        yield topic


def passages(topic: Carried, text: str = "7"):
    return trace.trace_record(topic.settings, topic.tables.session, text)


def outcomes(topic: Carried) -> list[str]:
    return [passage.outcome for passage in passages(topic)]


def test_a_stored_record_is_traced_stage_by_stage(topic):
    """Fetched, produced, recorded, stored, each with its time, in UTC; other records are skipped."""
    topic.send(6)
    topic.kafka[0].append(
        message(
            1,
            value(7),
            topic="readings",
            key=b"7",
            headers=[(headers.RUN, b"r1"), (headers.FETCHED, b"1700000000123")],
            timestamp_ms=1_700_000_001_456,
        )
    )
    topic.carry_out()
    (result,) = passages(topic)
    assert (result.partition, result.offset, result.outcome) == (0, 1, "stored")
    assert [(hop.name, hop.at) for hop in result.hops] == [
        ("fetched", "2023-11-14T22:13:20.123+00:00"),
        ("produced", "2023-11-14T22:13:21.456+00:00"),
        ("recorded", "2023-11-14T23:13:20.000+00:00"),
        ("stored", "2023-11-14T23:13:20.000+00:00"),
    ]
    assert result.hops[0].detail == "run r1"
    assert result.hops[1].detail == f"partition 0 offset 1, {len(value(7))} bytes, plain JSON"
    assert result.hops[2].detail == (
        "micro-batch 1 of job-a: offsets 0 to 1, 2 stored, 0 deleted, 0 rejected, 0 filtered"
    )


def test_a_redriven_record_has_its_first_position(topic):
    """A version that arrived after it was rejected has the row; then it has the row itself, until a newer one
    arrives.
    """
    topic.send(7, b"junk")
    topic.send(7)
    topic.send(7, order_us=0)
    topic.carry_out()
    assert outcomes(topic) == ["rejected", "stored", "stored, superseded by partition 0 offset 1"]
    topic.send(8, b"junk")
    topic.send(8, order_us=3)
    topic.carry_out(OffsetRange(0, 3, 5))
    assert [passage.outcome for passage in passages(topic, "8")] == ["rejected", "stored"]


def test_each_record_of_the_id_has_its_own_trace(topic):
    """In the order in which they were sent: superseded, deleted, a tombstone, and the one that has the row."""
    topic.send(7)
    topic.send(7, tombstone=True)
    topic.send(7)
    topic.send(7)
    topic.carry_out()
    assert outcomes(topic) == [
        "stored, superseded by partition 0 offset 3",
        "deleted",
        "stored, superseded by partition 0 offset 3",
        "stored",
    ]


def test_a_tombstone_is_found_by_the_id_in_its_key(topic):
    """Whatever the format of its key: the id is searched for, not its bytes."""
    topic.send(7)
    topic.send(7, tombstone=True, named=b'{"schema":{},"payload":{"sensor":7}}')
    topic.send(8, tombstone=True, named=b'{"sensor":8}')
    topic.carry_out()
    assert outcomes(topic) == ["stored, deleted by offset 1", "deleted"]


def test_the_trace_of_a_deleted_record_names_its_tombstone(topic):
    """Also if the id was sent again and that record is pending, or was rejected."""
    topic.send(7)
    topic.send(7, tombstone=True)
    topic.carry_out()
    assert outcomes(topic) == ["stored, deleted by offset 1", "deleted"]
    topic.send(7)
    assert outcomes(topic) == ["stored, deleted by offset 1", "deleted", "waiting"]
    topic.send(7, b"junk")
    topic.carry_out(OffsetRange(0, 3, 4))
    assert outcomes(topic)[0] == "stored, deleted by offset 1"
    assert outcomes(topic)[3] == "rejected"


def test_a_record_found_nowhere_is_missing(topic):
    """The ledger counts it, or skipped it; an older row of the id is no proof."""
    topic.send(7)
    topic.send(7)
    topic.send(7, tombstone=True)
    topic.carry_out(OffsetRange(0, 0, 2))
    topic.tables.put(7, 0, 0, EPOCH_US)
    assert outcomes(topic) == ["stored", "missing", "waiting"]
    topic.send(6)
    topic.carry_out(OffsetRange(0, 3, 4))
    assert outcomes(topic) == ["stored", "missing", "missing"]


def test_a_tombstone_that_did_not_delete_is_missing(topic):
    """The row exists, older than its tombstone."""
    topic.send(7)
    topic.send(7, tombstone=True)
    topic.carry_out()
    topic.tables.put(7, 0, 0, EPOCH_US)
    assert outcomes(topic) == ["stored", "missing"]


def test_a_record_that_the_transform_dropped_is_traced(topic):
    """Its ledger entry says that some were."""
    topic.filters = True
    topic.send(7, value(7, -1))
    topic.carry_out()
    assert outcomes(topic) == ["filtered"]


def test_a_record_that_only_a_replay_recorded_is_traced(topic):
    """The stream has not come so far; the row exists."""
    topic.send(7)
    topic.carry_out(job=f"{REPLAY}1")
    (result,) = passages(topic)
    assert (result.outcome, [hop.name for hop in result.hops]) == ("stored", ["produced", "recorded", "stored"])


@pytest.mark.parametrize(("state", "word"), [(None, "waiting"), ("claimed", "waiting"), ("redriven", "redriven")])
def test_a_rejected_record_is_traced(topic, monkeypatch, state, word):
    """It is found by its key; the dead letter says why, where it is, and what became of it."""
    topic.send(7, b"junk")
    topic.carry_out()
    line = resolutions.Resolution(resolutions.State(state), None, None, 0, "", "", None, {}) if state else None
    monkeypatch.setattr(resolutions, "read_resolutions", lambda *_: {f"readings/{EPOCH_US}/0/0": line} if line else {})
    (result,) = passages(topic)
    assert result.outcome == "rejected"
    assert [hop.name for hop in result.hops] == ["produced", "recorded", "rejected"]
    assert result.hops[-1].detail == f"json_malformed  at decode, dead letter 0:0, {word}"


def test_a_record_rejected_at_the_source_has_no_position(topic):
    """All that is known is in its dead letter."""
    topic.refuse("r1", value(7))
    topic.refuse("r1", value(8))
    (result,) = passages(topic)
    assert (result.partition, result.offset, result.outcome) == (None, None, "refused")
    assert [hop.name for hop in result.hops] == ["fetched", "rejected"]
    assert result.hops[0].detail == "run r1"
    assert "at produce" in result.hops[1].detail


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (1, "schema 1 (readings-value version 3)"),
        (2, "schema 2 (no subject)"),
        (9, "schema unknown: away"),
    ],
)
def test_the_schema_of_a_value_is_named(topic, frame, words):
    """By id, subject and version; an unavailable registry hides nothing else."""
    body = encode_header(frame) + value(7)
    topic.send(7, body)
    (result,) = passages(topic)
    assert result.hops[0].detail == f"partition 0 offset 0, {len(body)} bytes, {words}"


def test_an_invalid_wire_format_header_is_reported(topic):
    """Its schema is unknown."""
    topic.send(7, b"\0\0")
    assert "schema unknown" in passages(topic)[0].hops[0].detail


def test_a_redriven_record_names_its_dead_letter(topic):
    """As a separate stage; without a run's headers there is no fetch stage."""
    topic.kafka[0].append(
        message(0, value(7), topic="readings", key=b"7", headers=[(headers.REDRIVEN, b"readings/1/0/5")])
    )
    (result,) = passages(topic)
    assert (result.hops[0].name, result.hops[0].detail) == ("redriven", "from dead letter readings/1/0/5")


@pytest.mark.parametrize("fetched", [b"soon", b"", b"-5"])
def test_an_invalid_fetch_time_is_ignored(topic, fetched):
    """Headers are whatever the producer wrote."""
    marks = [(headers.RUN, b"r\xff"), (headers.FETCHED, fetched)]
    topic.kafka[0].append(message(0, value(7), topic="readings", key=b"7", headers=marks))
    hop = passages(topic)[0].hops[0]
    assert (hop.name, hop.at, hop.detail) == ("fetched", None, "run r\N{REPLACEMENT CHARACTER}")


def test_a_record_is_found_by_its_value_too(topic):
    """Sent under another key, or under none; one that only mentions the id does not match."""
    topic.send(7, named=b"another")
    topic.send(70)
    topic.send(1, b'{"sensor":1,"celsius":7}')
    assert [passage.offset for passage in passages(topic)] == [0]


def test_an_unknown_id_has_no_traces(topic):
    """Neither topic nor dead-letter topic have it."""
    topic.send(6)
    assert passages(topic) == []


@pytest.mark.parametrize("text", ["", "x", "7.5", "-1"])
def test_an_invalid_id_is_a_usage_error(topic, text):
    """It says what an id is, before anything is read."""
    with pytest.raises(UsageError, match="invalid id"):
        passages(topic, text)


def test_a_row_leads_to_its_record(topic):
    """One record of the topic is read, and nothing of the dead-letter topic."""
    for sensor in (6, 7, 7, 8):
        topic.send(sensor)
    topic.carry_out()
    whole = passages(topic)[-1]
    read = []
    records = topics.read_records
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topics, "read_records", lambda _settings, name, spans: _noted(read, name, spans, records))
        assert trace.trace_row(topic.settings, topic.tables.session, "7") == whole
    assert read == [("readings", [OffsetRange(0, 2, 3)])]


def _noted(read, name, spans, records):
    read.append((name, spans))
    return records(None, name, spans)


def test_a_row_whose_record_kafka_has_deleted_is_traced(topic):
    """From the ledger and the row."""
    for sensor in (7, 8):
        topic.send(sensor)
    topic.carry_out()
    topic.firsts[0] = 1
    passage = trace.trace_row(topic.settings, topic.tables.session, "7")
    assert (passage.offset, passage.outcome) == (0, "stored")
    assert [(hop.name, hop.at is None) for hop in passage.hops] == [
        ("produced", True),
        ("recorded", False),
        ("stored", False),
    ]
    assert "no longer in Kafka" in passage.hops[0].detail


def test_a_row_without_a_ledger_entry_yet_is_stored(topic):
    """The time is not known yet."""
    topic.send(7)
    topic.tables.store(7, 0, 0)
    passage = trace.trace_row(topic.settings, topic.tables.session, "7")
    assert [(hop.name, hop.at is None) for hop in passage.hops] == [("produced", False), ("stored", True)]


def test_no_row_or_one_of_an_earlier_incarnation_has_no_trace(topic):
    """The offset now has another record."""
    topic.send(7)
    topic.carry_out()
    assert trace.trace_row(topic.settings, topic.tables.session, "8") is None
    topic.tables.put(7, 0, 0, EPOCH_US - 1)
    assert trace.trace_row(topic.settings, topic.tables.session, "7") is None
    with pytest.raises(UsageError, match="invalid id"):
        trace.trace_row(topic.settings, topic.tables.session, "x")


def test_a_search_of_the_whole_topic_reports_its_progress(topic):
    """It covers all of it, unless it is stopped."""
    for _ in range(5):
        topic.send(7)
    search = trace.TraceSearch(topic.settings, topic.tables.session, "7")
    assert len(search.carry_out()) == 5
    assert (search.read, search.held, search.is_whole) == (5, 5, True)


def test_a_search_ends_at_its_timeout_or_when_it_is_stopped(topic):
    """What it found so far counts, and the result is marked as incomplete."""
    for _ in range(5):
        topic.send(7)
    late = trace.TraceSearch(topic.settings, topic.tables.session, "7", longest_s=-1.0)
    assert late.carry_out() == []
    stopped = trace.TraceSearch(topic.settings, topic.tables.session, "7")
    stopped.stop()
    assert stopped.carry_out() == []
    assert (late.is_whole, stopped.is_whole, stopped.held) == (False, False, 5)


def test_an_expired_row_and_a_pruned_dead_letter_are_no_losses(topic):
    """As in a receipt: by the TTL and the ledger, by the log start and the ledger."""
    topic.send(7)
    topic.send(7, b"junk")
    topic.carry_out()
    topic.now_ms += 100_000
    topic.tables.rows.clear()
    assert outcomes(topic) == ["missing", "rejected"]
    topic.expire(50)
    topic.queue_first = 1
    assert outcomes(topic) == ["expired", "pruned"]
    topic.queue.sent.clear()
    topic.queue_first = 0
    assert outcomes(topic) == ["expired", "missing"]
