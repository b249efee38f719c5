import pickle
import re
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Raw

from penstock.contract.batch import (
    SUMMARY_DDL,
    BatchSummary,
    Decoded,
    Deletion,
    Reject,
    merge_summaries,
    summarize_batch,
)
from penstock.contract.fault import Fault, Reason, Stage
from penstock.contract.record import JSON_NULL, KEY, Json, Record
from tests.unit.records import Everything, Reading
from tests.unit.strategies import everything

READING = Reading(sensor=1, celsius=1.0)
NULLABLE = [name for name in Everything.__struct_fields__ if name.startswith("maybe_")]


def reject(partition: int, offset: int) -> Reject:
    return Reject(Fault(Reason.JSON_MALFORMED, "no"), "t", partition, offset, None, b"x", [])


def decoded(stored, rejected=(), deleted=()) -> Decoded:
    return Decoded(
        [(READING, 0, *place) for place in stored],
        [Deletion(1, 0, *place) for place in deleted],
        [reject(*place) for place in rejected],
    )


def one_summary(
    partition, first, last, stored=0, deleted=0, rejected=0, at_ms=99, nulls=None, latencies=None
) -> BatchSummary:
    records = stored + deleted + rejected
    seen = {100: stored} if stored else {}  # the records are of the time 0
    return BatchSummary(
        partition, first, last, records, stored, deleted, rejected, 0, at_ms, nulls or {}, latencies or seen
    )


places = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50)), unique=True, max_size=30)


def test_a_summary_covers_every_outcome_of_a_partition():
    """It counts what was stored, deleted and dead-lettered, from the first to the last offset of all three."""
    summaries = summarize_batch(decoded([(0, 5), (0, 7), (2, 1)], [(0, 4), (1, 9)], [(0, 8), (3, 2)]), stored_at_ms=99)
    assert summaries == [
        one_summary(0, 4, 8, stored=2, deleted=1, rejected=1),
        one_summary(1, 9, 9, rejected=1),
        one_summary(2, 1, 1, stored=1),
        one_summary(3, 2, 2, deleted=1),
    ]


def test_an_empty_batch_has_no_summary():
    """Where nothing was read there is nothing to tell."""
    assert summarize_batch(Decoded(), 1) == []
    assert merge_summaries([]) == []


def test_two_batches_share_no_state():
    """What is added to one batch is not in the next."""
    Decoded().rows.append((READING, 0, 0, 0))
    assert Decoded() == Decoded([], [], [])


@given(places, st.integers(0, 30), st.integers(0, 30))
def test_summaries_count_every_record_once(found, one, other):
    """However records are spread over partitions, each is counted once and within its summary's offsets."""
    first, second = sorted((min(one, len(found)), min(other, len(found))))
    summaries = summarize_batch(decoded(found[:first], found[first:second], found[second:]), 5)
    assert [summary.partition for summary in summaries] == sorted({partition for partition, _ in found})
    for one in summaries:
        mine = [offset for partition, offset in found if partition == one.partition]
        assert (one.first_offset, one.last_offset, one.records) == (min(mine), max(mine), len(mine))
        assert one.records == one.stored + one.deleted + one.rejected + one.filtered
    assert sum(summary.stored for summary in summaries) == first
    assert sum(summary.rejected for summary in summaries) == second - first
    assert sum(summary.deleted for summary in summaries) == len(found) - second


@given(st.lists(st.tuples(everything(), st.integers(0, 2)), max_size=8))
def test_nulls_are_counted_by_partition_and_field(rows):
    """Each optional field is counted where it is null, and a field that never was is not named."""
    batch = Decoded([(record, 0, partition, at) for at, (record, partition) in enumerate(rows)])
    for summary in summarize_batch(batch, 5):
        mine = [record for record, partition in rows if partition == summary.partition]
        counts = {name: sum(getattr(record, name) is None for record in mine) for name in NULLABLE}
        assert summary.nulls == {name: count for name, count in counts.items() if count}


def test_dead_letters_and_deletions_have_no_nulls():
    """Only a stored row has fields."""
    assert [summary.nulls for summary in summarize_batch(decoded([], [(0, 1)], [(1, 1)]), 5)] == [{}, {}]


@given(st.lists(places, max_size=4), st.randoms())
def test_merging_is_independent_of_order(parts, random):
    """Tasks may finish in any order."""
    summaries = [summary for number, part in enumerate(parts) for summary in summarize_batch(decoded(part), number)]
    shuffled = list(summaries)
    random.shuffle(shuffled)
    assert merge_summaries(summaries) == merge_summaries(shuffled)
    assert sum(summary.records for summary in merge_summaries(summaries)) == sum(map(len, parts))


def test_merging_adds_counts_and_keeps_the_last_acknowledgement():
    """A partition is complete when the last of its parts is; counts and nulls are added, field by field."""
    parts = [
        BatchSummary(0, 0, 4, 5, 5, 0, 0, 0, 30, {"a": 2, "b": 1}, {10: 4, 25: 1}),
        BatchSummary(0, 5, 9, 5, 2, 1, 1, 1, 20, {"a": 1, "c": 4}, {10: 2}),
    ]
    assert merge_summaries(parts) == [
        BatchSummary(0, 0, 9, 10, 7, 1, 1, 1, 30, {"a": 3, "b": 1, "c": 4}, {10: 6, 25: 1})
    ]
    assert merge_summaries(iter(parts)) == merge_summaries(parts)
    assert parts[0].nulls == {"a": 2, "b": 1}


def test_the_summary_ddl_names_the_fields_in_order():
    """Spark's columns are the summary's fields, in order."""
    columns = re.sub("MAP<[^>]*>", "MAP", SUMMARY_DDL).split(", ")
    assert [column.split()[0] for column in columns] == list(BatchSummary._fields)


versions = st.lists(
    st.tuples(st.booleans(), st.integers(0, 2), st.integers(0, 2), st.integers(0, 20), st.integers(0, 3)),
    unique_by=lambda version: version[2:4],
    max_size=15,
)
"""Versions of ids: whether it is a deletion, the id, the position, and the write timestamp."""


@given(versions)
def test_the_last_of_versions_with_one_write_timestamp_wins(found):
    """By position, rows and deletions alike; all others are written, and the batch itself keeps everything."""
    batch = Decoded(
        [(Reading(sensor=key, celsius=1.0), 0, *place) for is_gone, key, *place, _ in found if not is_gone],
        [Deletion(key, 0, *place) for is_gone, key, *place, _ in found if is_gone],
        shifts={(partition, offset): time_us - offset for _, _, partition, offset, time_us in found},
    )
    rows, deletions = batch.resolve_ties(lambda record: record.sensor)
    last: dict = {}
    for _, key, partition, offset, time_us in found:
        last[key, time_us] = max((partition, offset), last.get((key, time_us), (0, 0)))
    assert sorted(item[2:] for item in (*rows, *deletions)) == sorted(last.values())
    assert [row for row in batch.rows if row in rows] == rows
    assert [deletion for deletion in batch.deletions if deletion in deletions] == deletions
    assert len(batch.rows) + len(batch.deletions) == len(found)


def test_a_dead_letter_can_be_sent_to_another_process():
    """Spark may send dead letters between processes."""
    reject = Reject(Fault(Reason.FRAME_BROKEN, "cut"), "t", 1, 2, b"k", None, [("h", None)])
    assert pickle.loads(pickle.dumps(reject)) == reject


@pytest.mark.parametrize(
    ("reason", "stage", "key", "value", "has_bytes"),
    [
        (Reason.CONTRACT_BROKEN, Stage.DECODE, b"k", b"v", True),
        (Reason.VALUE_MISSING, Stage.DECODE, None, None, True),
        (Reason.CONTRACT_BROKEN, Stage.TRANSFORM, None, None, False),
        (Reason.CONTRACT_BROKEN, Stage.DECODE, None, b"v", True),
        (Reason.CONTRACT_BROKEN, Stage.DECODE, None, None, False),
        (Reason.PROCESSING_ERROR, Stage.DECODE, None, b"v", True),
        (Reason.PROCESSING_ERROR, Stage.DECODE, b"k", None, True),
        (Reason.PROCESSING_ERROR, Stage.DECODE, None, None, False),
    ],
)
def test_a_record_that_failed_after_decoding_has_no_bytes(reason, stage, key, value, has_bytes):
    """What failed in the transform or when its row was written is known only by its position; a null value without a
    key stays as it is.
    """
    assert Reject(Fault(reason, "", stage), "t", 0, 1, key, value, []).has_bytes is has_bytes


def test_a_json_null_is_a_null_of_its_column():
    """`Json` has no None: its null is the text null, which is stored as null."""

    class Event(Record, frozen=True, kw_only=True):
        id: Annotated[int, Meta(extra=KEY)]
        extra: Json = JSON_NULL

    rows = [(Event(id=1), 0, 0, 1), (Event(id=2, extra=Raw(b"1")), 0, 0, 2)]
    (summary,) = summarize_batch(Decoded(rows), 0)
    assert summary.nulls == {"extra": 1}
