"""Where schemas are in use, from a sample."""

import pytest

from penstock.broker import topics
from penstock.broker.topics import OffsetRange
from penstock.codec.wire_format import encode_header
from penstock.web.schemas import schema_usage
from penstock.web.schemas.schema_usage import Use, count_schemas, parse_subject, select_sample
from tests.unit.fakes import message


def test_schemas_are_counted_by_partition():
    """With the first and the last offset and time, whatever the order of the messages."""
    sample = [
        message(9, encode_header(2) + b"{}", timestamp_ms=90),
        message(3, encode_header(1) + b"{}", timestamp_ms=30),
        message(4, encode_header(1) + b"{}", timestamp_ms=20),
        message(5, encode_header(1) + b"{}", partition=1, timestamp_ms=50),
    ]
    assert count_schemas(sample) == [
        Use(1, "schema", 0, 2, 3, 4, 20, 30),
        Use(1, "schema", 1, 1, 5, 5, 50, 50),
        Use(2, "schema", 0, 1, 9, 9, 90, 90),
    ]


def test_messages_without_a_schema_are_counted_by_kind():
    """Plain JSON, tombstones, and truncated headers are last."""
    counts = count_schemas([message(0, b"{}"), message(1, None), message(2, b"\0\0"), message(3, encode_header(7))])
    assert [(use.schema_id, use.what) for use in counts] == [
        (7, "schema"),
        (None, "no header"),
        (None, "null"),
        (None, "truncated header"),
    ]


def test_a_subject_of_keys_counts_keys():
    """The value's schema is a different one."""
    counts = count_schemas([message(0, encode_header(1), key=encode_header(5) + b"k")], "key")
    assert [use.schema_id for use in counts] == [5]


@pytest.mark.parametrize(
    ("subject", "place"),
    [("users-value", ("users", "value")), ("users-key", ("users", "key")), ("users", ("users", "value"))],
)
def test_a_subject_names_its_topic(subject, place):
    """And the part of the message."""
    assert parse_subject(subject) == place


def test_the_sample_is_the_newest_and_the_oldest_of_each_partition():
    """An equal share of each, and no offset twice."""
    spans = [OffsetRange(0, 0, 10_000), OffsetRange(1, 100, 150)]
    assert select_sample(spans, newest=2000, oldest=500) == [
        OffsetRange(0, 9000, 10_000),
        OffsetRange(1, 100, 150),
        OffsetRange(0, 0, 250),
    ]
    assert select_sample([]) == []


def placed(monkeypatch, held: dict[int, list]):
    spans = [OffsetRange(partition, 0, len(value)) for partition, value in held.items()]
    monkeypatch.setattr(topics, "fetch_offset_ranges", lambda *_: spans)

    def records(_settings, _topic, wanted):
        for span in wanted:
            yield from held[span.partition][span.first : span.end]

    monkeypatch.setattr(topics, "read_records", records)


def test_a_small_topic_is_read_completely(monkeypatch, settings):
    """The result says so."""
    placed(monkeypatch, {0: [message(offset, encode_header(1)) for offset in range(5)]})
    sample = schema_usage.sample_schemas(settings, "t-value")
    assert (sample.topic, sample.held, sample.looked, sample.is_whole, sample.is_cut) == ("t", 5, 5, True, False)


def test_a_large_topic_is_sampled(monkeypatch, settings):
    """2,500 messages, however many there are."""
    placed(monkeypatch, {0: [message(offset, encode_header(1)) for offset in range(9000)]})
    sample = schema_usage.sample_schemas(settings, "t-value")
    assert (sample.held, sample.looked, sample.is_whole) == (9000, 2500, False)


def test_a_slow_sample_is_truncated(monkeypatch, settings, clock):
    """What was read so far counts."""
    placed(monkeypatch, {0: [message(offset, encode_header(1)) for offset in range(5)]})
    sample = schema_usage.sample_schemas(settings, "t-value", longest_s=-1.0)
    assert (sample.looked, sample.is_cut, sample.is_whole, len(sample.uses)) == (1, True, False, 1)


def test_a_missing_topic_has_no_messages(monkeypatch, settings):
    """That is no error."""
    placed(monkeypatch, {})
    assert (
        schema_usage.sample_schemas(settings, "t-value").held,
        schema_usage.sample_schemas(settings, "t-value").uses,
    ) == (0, [])
