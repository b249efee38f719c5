"""Receipts, traces and acceptance of records whose id has several fields, from a stream in memory."""

import json
from dataclasses import replace
from datetime import timedelta, timezone

import pytest

from penstock.broker.topics import OffsetRange
from penstock.contract.fields import from_epoch_ms
from penstock.contract.identity import identity_of
from penstock.errors import UsageError
from penstock.reconcile import acceptance, trace
from penstock.reconcile.acceptance import DifferenceSelection
from penstock.reconcile.audit import RowPlace
from penstock.reconcile.fact_loading import LineFinder, record_columns
from penstock.reconcile.typed_id import parse_id_text
from tests.unit.carried import EPOCH_US, CarriedSamples, Rows, moment_ms, sample, scanned
from tests.unit.keyed import KEY_TYPES, SAMPLES, Sample, build_record
from tests.unit.reconcile.test_trace import FakeVersions
from tests.unit.records import READINGS


@pytest.fixture
def topic(tmp_path, monkeypatch):
    topic = CarriedSamples(tmp_path, partitions=2)
    monkeypatch.setattr(trace, "Registry", lambda _settings: FakeVersions())
    with topic.in_place():
        yield topic


def name(sensor: int) -> str:
    """The text of a sample's id."""
    return identity_of(Sample).text_of((f"s{sensor}", from_epoch_ms(moment_ms(sensor))))


def other_form(sensor: int) -> str:
    """The same id, with its fields in another order and its moment in another zone."""
    at = from_epoch_ms(moment_ms(sensor)).astimezone(timezone(timedelta(hours=-3)))
    return json.dumps({"sensor": f"s{sensor}", "at": at.isoformat()})


def test_a_receipt_balances_and_names_what_is_missing_by_its_id(topic):
    """Updates, a tombstone and a replay balance; a lost row is named as Kafka's key is written."""
    for sensor in range(6):
        topic.send(sensor, partition=sensor % 2, run="r1")
    topic.acknowledge("r1")
    topic.send(0)
    topic.send(1, tombstone=True, partition=1)
    topic.send(3, b"junk")
    topic.carry_out()
    receipt = topic.verify()
    assert (receipt.balanced, receipt.produced, receipt.stored, receipt.deleted, receipt.rejected) == (True, 9, 7, 1, 1)
    del topic.tables.rows[5]
    (difference,) = topic.verify().differences
    assert (difference.kind, difference.id) == ("missing", name(5))


def test_rows_of_records_are_looked_up_by_their_whole_key(topic):
    """Of a run: the partition columns, those derived from fields too, then the clustering columns."""
    topic.send(4, run="r1")
    topic.send(9)
    topic.carry_out()
    topic.tables.session.executed.clear()
    audit = topic.auditor().audit_run([OffsetRange(0, 0, 2)], "r1")
    assert (audit.total("stored"), audit.total("missing")) == (1, 0)
    (asked,) = [(query, values) for query, values in topic.tables.session.executed if " WHERE sensor" in query]
    at = from_epoch_ms(moment_ms(4))
    assert asked[0].endswith(" FROM lab.readings WHERE sensor = ? AND at_day = ? AND at = ?")
    assert asked[1] == ("s4", at.date(), at)


def test_a_scan_selects_by_the_token_of_all_partition_columns(topic):
    """So ranges of tokens cover each row once."""
    assert list(topic.auditor().row_columns((-5, 5))) == []
    (query,) = [query for query, _ in topic.tables.session.executed if "token" in query]
    assert query.endswith(" WHERE token(sensor, at_day) >= -5 AND token(sensor, at_day) <= 5")
    assert query.startswith("SELECT sensor AS sensor, toUnixTimestamp(at) AS at, kafka_partition")


@pytest.mark.parametrize("how", ["scan", "look-up"])
def test_rows_of_others_are_classified(topic, how):
    """By their write timestamps, like those of ids of one field."""
    tables, now_us = topic.tables, EPOCH_US + 9_000_000_000
    tables.put(1, 1, 30, EPOCH_US + 30)
    tables.put(2, 0, 30, EPOCH_US - 60_000_000 + 30)
    tables.put(3, 0, 30, now_us)
    tables.put(4, None, None, None)
    rows = Rows(scanned(topic.auditor()) if how == "scan" else topic.auditor().rows_of(map(name, range(1, 6))))
    assert (rows.places, rows.older, rows.foreign) == ({name(1): RowPlace(1, 30)}, 1, [name(4)])
    assert rows.changed == {name(3): now_us}


def test_a_moment_that_no_record_can_have_is_named(topic):
    """Another program wrote the row: the driver could not even read it as a `datetime`."""
    topic.tables.put(1, None, None, None)
    topic.tables.rows[1]["at"] = 2**60
    assert Rows(scanned(topic.auditor())).foreign == ['{"at":"1152921504606846976 ms","sensor":"s1"}']


def test_bulk_reads_equal_single_reads(topic):
    """Also with a value that cannot be decoded, and a key in another form than the producer's."""
    topic.send(7, run="r1")
    topic.send(8, b"junk")
    topic.send(9, named=other_form(9).encode())
    finder = LineFinder({})
    (bulk,) = topic.auditor().record_columns(topic.spans(), finder, "r1")
    assert list(map(list, bulk)) == list(map(list, record_columns(topic.sent(), finder, "r1")))
    assert bulk[3] == [name(7), None, name(9)]


def test_a_lost_record_that_compaction_removed_is_found_by_its_acknowledged_key(topic):
    """The delivery log has the key as text, which is that of the id."""
    topic.topic_settings = {"cleanup.policy": "compact", "delete.retention.ms": "0"}
    topic.send(1)
    topic.send(1)
    topic.acknowledge("r1")
    topic.carry_out()
    topic.compact()
    assert topic.verify().balanced


@pytest.mark.parametrize("form", [name, other_form])
def test_a_record_is_traced_by_its_id_in_any_form(topic, form):
    """As a JSON object, or with a value for each field."""
    topic.send(6)
    topic.send(7, run="r1")
    topic.send(7, named=b"another key")
    topic.carry_out()
    passages = trace.trace_record(topic.settings, topic.tables.session, form(7))
    assert [(passage.offset, passage.outcome.partition(",")[0]) for passage in passages] == [
        (1, "stored"),
        (2, "stored"),
    ]
    values = ["s7", sample(7).at.isoformat()]
    assert trace.trace_record(topic.settings, topic.tables.session, *values) == passages
    of_row = trace.trace_row(topic.settings, topic.tables.session, form(7))
    assert of_row is not None
    assert of_row.offset == 2


def test_a_value_with_escapes_is_traced(topic):
    """The text of the id is not in its bytes."""
    at = from_epoch_ms(moment_ms(7)).isoformat()
    topic.send(0, b'{"sensor":"\\u00737","at":"%s","celsius":1}' % at.encode(), named=b"k")
    (passage,) = trace.trace_record(topic.settings, topic.tables.session, name(7))
    assert passage.offset == 0


def test_an_entry_rejected_at_the_source_is_traced_by_the_texts_of_its_id(topic):
    """The source may write a moment otherwise; an id of moments alone names no entry."""
    topic.refuse("r1", b'{"device":"s7","time":"yesterday"}')
    assert [passage.outcome for passage in trace.trace_record(topic.settings, topic.tables.session, name(7))] == [
        "refused"
    ]
    assert trace.trace_record(topic.settings, topic.tables.session, name(8)) == []


def test_a_difference_is_accepted_by_its_id_in_any_form(topic):
    """It is stored as the receipt names it."""
    topic.send(5)
    topic.carry_out()
    topic.tables.rows.clear()
    selection = DifferenceSelection(ids=[other_form(5)])
    differences = acceptance.find_differences(topic.settings, topic.tables.session, selection)
    acceptance.accept_differences(topic.settings, topic.tables.session, differences, "ann", "a drill")
    receipt = topic.verify()
    assert (receipt.balanced, receipt.accepted) == (True, 1)


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        (["s7"], "invalid JSON"),
        (["s7", "x"], "at: "),
        (["", "2026-01-31T12:00:00Z"], "sensor: "),
        (["s7", "2026-01-31T12:00:00Z", "1"], "3 values"),
        ([], "0 values"),
        (['{"sensor":"s7"}'], "a JSON object with exactly the fields sensor, at"),
    ],
)
def test_an_invalid_id_says_which_field_its_type_and_an_example(texts, why):
    """The example is a command that can be typed."""
    with pytest.raises(UsageError) as caught:
        parse_id_text(SAMPLES, *texts)
    assert why in caught.value.message
    assert caught.value.message.endswith("; expected sensor (text) and at (timestamp)")
    assert caught.value.hint == "./penstock row sensor-1 2026-01-31T12:00:00.000Z, ./penstock rows"


def test_an_invalid_id_of_one_field_says_its_type():
    """Also if there are too many values."""
    for texts in (["x"], ["1", "2"]):
        with pytest.raises(UsageError, match=r"expected sensor \(int\)"):
            parse_id_text(READINGS, *texts)


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_the_example_of_an_id_is_one(key_type):
    """Of every type that a KEY field can have."""
    pipeline = replace(SAMPLES, record=build_record(key_type), primary_key=None)
    with pytest.raises(UsageError) as caught:
        parse_id_text(pipeline)
    command = str(caught.value.hint).split(", ")[0]
    assert parse_id_text(pipeline, command.removeprefix("./penstock row "))
