"""The proofs of a topic's key formats: stored with their start offsets, and never changed."""

from types import SimpleNamespace

import pytest

from penstock.broker.topics import OffsetRange
from penstock.contract.proofs import ASSUMED, KeyProofs, merge_proofs
from penstock.sink.key_formats import KeyFormats, read_proofs, statements
from tests.unit.fakes import FakeSession


class Table:
    """The table in memory, for one topic with two partitions that the ledger covers up to `reached`."""

    def __init__(self, *, there: bool = True, **reached: int) -> None:
        self.rows: dict[str, dict[int, int]] = {}
        self.session = FakeSession(self._answer)
        tables = {"key_formats"} if there else set()
        self.session.cluster.metadata.keyspaces = {"lab": SimpleNamespace(tables=tables)}
        ends = {int(name.removeprefix("p")): end for name, end in reached.items()}
        self.book = SimpleNamespace(topic="t", epoch_us=1, reached=lambda span: ends.get(span.partition, span.first))

    def _answer(self, query, values):
        if query.startswith("INSERT"):
            assert query.endswith("IF NOT EXISTS")
            self.rows.setdefault(values[2], values[3])
        return [{"shape": shape, "starts": starts or None} for shape, starts in self.rows.items()]

    def formats(self) -> KeyFormats:
        return KeyFormats(self.session, "lab", self.book, lambda: [OffsetRange(0, 0, 9), OffsetRange(1, 0, 9)])


def summary(partition, last_offset):
    return SimpleNamespace(partition=partition, last_offset=last_offset)


def test_nothing_is_proven_for_a_new_topic():
    """Every tombstone needs evidence, from the first offset on."""
    known = Table().formats().known
    assert known == KeyProofs()
    assert known.at(0, 0) == known.by_now == frozenset()


def test_records_stored_before_proofs_existed_are_read_as_before():
    """A job that is updated in the middle of a topic, and every later replay, keep the rows as they are."""
    table = Table(p0=5)
    known = table.formats().known
    assert (known.at(0, 4), known.at(0, 5), known.at(1, 0)) == (None, frozenset(), frozenset())
    assert table.formats().known == known, "it is noted once"


@pytest.mark.parametrize("table", [Table(), Table(there=False)], ids=["no row", "no table"])
def test_a_topic_without_a_job_of_this_version_is_read_as_before(table):
    """`verify` of a newer version before its job ran for the first time."""
    assert read_proofs(table.session, "lab", "t", 1) is ASSUMED
    assert ASSUMED.at(3, 10**9) is None
    assert ASSUMED.by_now is None


def test_a_proof_starts_where_it_was_found():
    """In another partition it counts from after the batch, or from the ledger's end if the batch read none of it."""
    table = Table(p1=2)
    formats = table.formats()
    formats.note({"text": {0: 3}}, [summary(0, 6)])
    assert formats.known.starts == {"text": {0: 3, 1: 2}}
    assert (formats.known.at(0, 2), formats.known.at(0, 3)) == (frozenset(), {"text"})
    assert formats.known.at(7, 0) == {"text"}, "a partition that was added later"
    formats.note({"json_text": {0: 7}}, [summary(0, 8), summary(1, 4)])
    assert formats.known.starts["json_text"] == {0: 7, 1: 5}


def test_a_proof_is_never_changed():
    """A batch that is retried, and another process, find what was written first."""
    table = Table()
    first, second = table.formats(), table.formats()
    first.note({"text": {0: 3}}, [summary(0, 6)])
    second.note({"text": {0: 1}}, [summary(0, 6)])
    assert second.known.starts == first.known.starts


def test_a_batch_that_proves_nothing_sends_no_query():
    """Which is nearly every batch."""
    table = Table()
    formats = table.formats()
    table.session.executed.clear()
    formats.note({}, [summary(0, 6)])
    assert table.session.executed == []


def test_proofs_of_tasks_are_merged():
    """The first start in a partition counts; the order of tasks does not."""
    result = [{"text": {0: 4}}, {"text": {0: 2, 1: 7}, "connect": {1: 9}}]
    assert merge_proofs(result) == merge_proofs(reversed(result)) == {"text": {0: 2, 1: 7}, "connect": {1: 9}}


def test_the_table_has_the_name_that_it_is_created_with():
    """And is created only if it does not exist."""
    assert "CREATE TABLE IF NOT EXISTS lab.key_formats" in statements("lab")["key_formats"]
