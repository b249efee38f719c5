"""Where a job resumes when the ledger is older than its checkpoint."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from penstock.broker.topics import OffsetRange
from penstock.config import read
from penstock.errors import CheckpointRefused
from penstock.pipeline import resume
from penstock.pipeline.resume import resume_from_ledger
from penstock.process.checkpoint import Checkpoint, QueryPosition, checkpoint_of
from tests.unit.fakes import message


class World:
    """A checkpoint, a ledger that ends at `ends`, and a topic with these ranges; offsets in `marks` contain no
    record.
    """

    def __init__(self, folder: Path, ends: dict[int, int]) -> None:
        self.settings = read(spark_checkpoint=str(folder))
        self.checkpoint: Checkpoint = checkpoint_of(self.settings, "t")
        self.ends, self.spans = ends, [OffsetRange(0, 0, 50), OffsetRange(1, 0, 50)]
        self.marks: set[tuple[int, int]] = set()
        self.read: list[OffsetRange] = []
        self.ledger = SimpleNamespace(topic="t", reached=self.reached)

    def reached(self, span: OffsetRange) -> int:
        return max(span.first, min(self.ends.get(span.partition, 0), span.end))

    def records(self, _settings, _topic, spans):
        self.read += spans
        for span in spans:
            for offset in range(span.first, span.end):
                if (span.partition, offset) not in self.marks:
                    yield message(offset, partition=span.partition)

    def commit(self, *ends: int, beginning: tuple[int, ...] = (0, 0)) -> None:
        """Give the checkpoint one completed batch."""
        folder = Path(self.checkpoint.folder)
        first, last = ({"t": dict(enumerate(each))} for each in (beginning, ends))
        for name, content in (
            ("sources/0/0", f"\0v1\n{json.dumps(first)}"),
            ("offsets/0", f"v1\n{{}}\n{json.dumps(last)}"),
            ("commits/0", "v1\n{}"),
        ):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content)

    def resume(self) -> str:
        return resume_from_ledger(self.checkpoint, self.ledger, "id-1", self.settings)  # type: ignore[arg-type]


@pytest.fixture
def make(monkeypatch, tmp_path):
    def make(**ends: int) -> World:
        world = World(tmp_path, {int(name[1:]): end for name, end in ends.items()})
        monkeypatch.setattr(resume.topics, "fetch_offset_ranges", lambda *_: world.spans)
        monkeypatch.setattr(resume.topics, "read_records", world.records)
        return world

    return make


def test_the_query_resumes_at_an_older_ledger(make):
    """Per partition; the checkpoint that was ahead is kept, and both log and checkpoint record it."""
    world = make(p0=12, p1=30)
    world.commit(20, 30)
    with capture_logs() as logs:
        note = world.resume()
    assert world.checkpoint.read_position() == QueryPosition({0: 12, 1: 30}, {0: 12, 1: 30}, begun=False)
    origin = world.checkpoint.origin()
    assert (origin.topic_id, origin.note) == ("id-1", note)
    assert "partition 0: the ledger ends at 12, the checkpoint is at 20" in note
    (line,) = (line for line in logs if line["event"] == "resumed_from_ledger")
    assert line["behind"] == [{"partition": 0, "ledger": 12, "checkpoint": 20}]
    assert (Path(line["checkpoint_kept_as"]) / "offsets" / "0").exists()
    assert world.resume() == ""


def test_an_up_to_date_ledger_needs_no_request_to_kafka(make):
    """It ends where the checkpoint does, or later: with entries of a batch that is not committed yet."""
    world = make(p0=20, p1=37)
    world.commit(20, 30)
    assert world.resume() == ""
    assert world.read == []


def test_without_a_ledger_the_query_starts_where_it_first_did(make):
    """The keyspace was dropped: everything that it ever stored is stored again."""
    world = make()
    world.commit(20, 30, beginning=(0, 5))
    world.resume()
    assert world.checkpoint.read_position().first == {0: 0, 1: 5}


def test_offsets_skipped_on_purpose_are_not_read(make):
    """A query that started at the end of the topic, and has seen no record since, is not behind."""
    world = make(p0=3, p1=3)
    world.commit(20, 30, beginning=(20, 30))
    assert world.resume() == ""
    world.commit(25, 30, beginning=(20, 30))
    world.resume()
    assert world.checkpoint.read_position().first == {0: 20, 1: 30}


def test_transaction_markers_are_no_records(make):
    """The checkpoint counts their offsets, ledger entries do not."""
    world = make(p0=19, p1=30)
    world.marks = {(0, 19)}
    world.commit(20, 30)
    assert world.resume() == ""
    assert world.read == [OffsetRange(0, 19, 20)]


def test_records_that_kafka_deleted_meanwhile_are_an_error(make):
    """Part of the range still exists, so the rest is known to have had records: nothing is skipped silently."""
    world = make(p0=12, p1=30)
    world.spans[0] = OffsetRange(0, 15, 50)
    world.commit(20, 30)
    with pytest.raises(
        CheckpointRefused, match="at 12, Kafka has 15 to 50: 3 records were deleted before they were read"
    ):
        world.resume()


@pytest.mark.parametrize("held", [[OffsetRange(0, 20, 50), OffsetRange(1, 0, 50)], [OffsetRange(1, 0, 50)]])
def test_a_range_that_is_completely_deleted_is_skipped(make, held):
    """Whether it had records is unknown: the query continues."""
    world = make(p0=12, p1=30)
    world.spans = held
    world.commit(20, 30)
    assert world.resume() == ""


def test_a_query_that_has_not_started_has_nothing_to_lose(make):
    """Neither a new one, nor one with explicit start offsets."""
    world = make()
    assert world.resume() == ""
