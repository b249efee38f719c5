import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from penstock.broker.topics import OffsetRange
from penstock.config import read
from penstock.errors import CheckpointRefused, PenstockError, UsageError
from penstock.process import checkpoint
from penstock.process.checkpoint import (
    Checkpoint,
    CheckpointOrigin,
    Pending,
    QueryPosition,
    check_fits,
    checkpoint_of,
    find_misfits,
    folder_of,
)
from penstock.process.checkpoint_files import CorruptFile, HadoopFiles, LocalFiles

TOPIC = "t"
FOLDER = "/c/t"


class FakeFiles:
    """A file system in memory; `fails` is raised by every call."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.spoilt: set[str] = set()
        self.fails: OSError | None = None

    def names(self, folder: str) -> list[str]:
        if self.fails:
            raise self.fails
        below = [path.removeprefix(f"{folder}/") for path in self.held if path.startswith(f"{folder}/")]
        return sorted({path.split("/")[0] for path in below})

    def read(self, path: str) -> bytes:
        if path in self.spoilt:
            raise CorruptFile("wrong checksum")
        if path not in self.held:
            raise FileNotFoundError(path)
        return self.held[path]

    def write(self, path: str, data: bytes) -> None:
        self.held[path] = data

    def move(self, source: str, target: str) -> None:
        for path in [path for path in self.held if path == source or path.startswith(f"{source}/")]:
            self.held[target + path.removeprefix(source)] = self.held.pop(path)
            self.spoilt.discard(path)


def planned(*offsets: int) -> bytes:
    by_partition = {str(partition): offset for partition, offset in enumerate(offsets)}
    return b'v1\n{"batchWatermarkMs":0,"conf":{}}\n' + json.dumps({TOPIC: by_partition}).encode()


def beginning(*offsets: int) -> bytes:
    return b"\0v1\n" + planned(*offsets).splitlines()[2]


DONE = b'v1\n{"nextBatchWatermarkMs":0}'


@pytest.fixture
def files() -> FakeFiles:
    """A checkpoint after batches 0 to 2, the last of which is not complete."""
    files = FakeFiles()
    put(files, "metadata", b'{"id":"q-1"}')
    put(files, "sources/0/0", beginning(0, 5))
    for batch, ends in enumerate([(10, 15), (20, 25), (30, 35)]):
        put(files, f"offsets/{batch}", planned(*ends))
    put(files, "commits/0", DONE)
    put(files, "commits/1", DONE)
    return files


def put(files: FakeFiles, name: str, data: bytes) -> None:
    files.held[f"{FOLDER}/{name}"] = data


@pytest.fixture
def saved(files) -> Checkpoint:
    return Checkpoint(files, FOLDER, TOPIC)


def test_a_planned_batch_is_repeated(saved):
    """It starts where the previous batch ended, and ends at its own planned end."""
    assert saved.read_position() == QueryPosition({0: 20, 1: 25}, {0: 30, 1: 35}, begun=True)


def test_after_a_completed_batch_the_query_resumes_at_its_end(saved, files):
    """Nothing is planned then."""
    put(files, "commits/2", DONE)
    assert saved.read_position() == QueryPosition({0: 30, 1: 35}, {0: 30, 1: 35}, begun=True)


def test_the_first_batch_starts_where_the_source_did(saved, files):
    """An incomplete first batch starts at `sources/0/0`, or at the requested start."""
    for name in ("offsets/1", "offsets/2", "commits/0", "commits/1"):
        del files.held[f"{FOLDER}/{name}"]
    assert saved.read_position() == QueryPosition({0: 0, 1: 5}, {0: 10, 1: 15}, begun=True)
    del files.held[f"{FOLDER}/sources/0/0"]
    assert saved.read_position() == QueryPosition({}, {0: 10, 1: 15}, begun=True)


def test_a_planned_and_incomplete_batch_is_pending(saved, files):
    """With its id, start and end, the first one too; once it is complete there is none."""
    assert saved.pending() == Pending(2, {0: 20, 1: 25}, {0: 30, 1: 35})
    put(files, "commits/2", DONE)
    assert saved.pending() is None
    for name in ("offsets/1", "offsets/2", "commits/0", "commits/1", "commits/2"):
        del files.held[f"{FOLDER}/{name}"]
    assert saved.pending() == Pending(0, {0: 0, 1: 5}, {0: 10, 1: 15})
    files.held.clear()
    assert saved.pending() is None


def test_batches_are_sorted_as_numbers(saved, files):
    """Batch 10 comes after batch 9, and Spark's unfinished files do not count."""
    for batch in range(3, 11):
        put(files, f"offsets/{batch}", planned(batch * 10, 0))
        put(files, f"commits/{batch}", DONE)
    put(files, "offsets/.11.0a-b.tmp", b"")
    assert saved.read_position() == QueryPosition({0: 100, 1: 0}, {0: 100, 1: 0}, begun=True)


def test_without_a_checkpoint_there_is_no_position(saved, files):
    """The query starts with everything in Kafka, or at the requested start."""
    files.held.clear()
    assert saved.read_position() is None
    saved.begin_at(CheckpointOrigin(topic_id="id-1"))
    assert saved.read_position() is None
    saved.begin_at(CheckpointOrigin(topic_id="id-1", start={0: 3}))
    assert saved.read_position() == QueryPosition({0: 3}, {0: 3}, begun=False)


TEARS = [b"", b"v", b"v1\n", planned(1, 2)[:-1], planned(1, 2)[:-15], b"\xff\xfe", b"v1\n{}\n[]", planned(1, 2)[:37]]


@pytest.mark.parametrize("torn", TEARS)
def test_a_corrupt_plan_is_moved_aside(saved, files, torn):
    """The batch is planned again, the file is kept, and one log line names it."""
    put(files, "offsets/2", torn)
    assert saved.read_position() == QueryPosition({0: 20, 1: 25}, {0: 20, 1: 25}, begun=True)
    with capture_logs() as logs:
        assert saved.repair() == ["offsets/2"]
    assert [(line["event"], line["log_level"], line["corrupt"]) for line in logs] == [
        ("checkpoint_repaired", "warning", ["offsets/2"])
    ]
    (kept,) = files.names(f"{FOLDER}/torn")
    assert re.fullmatch(r"offsets-2\.\d{8}T\d{12}Z", kept)
    assert files.held[f"{FOLDER}/torn/{kept}"] == torn
    assert files.names(f"{FOLDER}/offsets") == ["0", "1"]
    assert saved.repair() == []


@given(at=st.integers(min_value=0, max_value=len(planned(123, 456)) - 1))
def test_a_plan_truncated_anywhere_is_corrupt(at):
    """No truncation gives other offsets than those that were written."""
    files = FakeFiles()
    put(files, "offsets/0", planned(1, 2))
    put(files, "offsets/1", planned(123, 456)[:at])
    result = Checkpoint(files, FOLDER, TOPIC)
    assert result.read_position().end == {0: 1, 1: 2}
    assert result.repair() == ["offsets/1"]


def test_a_batch_without_a_valid_commit_is_repeated(saved, files):
    """A corrupt commit is moved aside; so is one whose checksum is wrong."""
    put(files, "commits/1", b"")
    put(files, "commits/2", DONE)
    files.spoilt.add(f"{FOLDER}/commits/2")
    assert saved.repair() == ["commits/2", "commits/1"]
    assert files.names(f"{FOLDER}/commits") == ["0"]
    assert saved.read_position().end == {0: 30, 1: 35}


def test_a_commit_without_its_plan_is_moved_aside_too(saved, files):
    """Otherwise Spark would take the batch that it plans again for completed."""
    put(files, "offsets/2", b"")
    put(files, "commits/2", DONE)
    assert saved.repair() == ["offsets/2", "commits/2"]
    assert saved.read_position() == QueryPosition({0: 20, 1: 25}, {0: 20, 1: 25}, begun=True)


def test_a_power_failure_may_corrupt_several_files_at_the_end(saved, files):
    """Every corrupt file without a valid one after it is moved aside."""
    for name in ("offsets/2", "offsets/1", "commits/1"):
        put(files, name, b"")
    assert saved.repair() == ["offsets/2", "offsets/1", "commits/1"]
    assert saved.read_position() == QueryPosition({0: 10, 1: 15}, {0: 10, 1: 15}, begun=True)


def test_a_checkpoint_without_a_valid_file_is_none(saved, files):
    """If every plan is corrupt the query starts from scratch; its commits are not taken for the new one's."""
    for batch in range(3):
        put(files, f"offsets/{batch}", b"")
    assert set(saved.repair()) == {f"offsets/{n}" for n in range(3)} | {"commits/0", "commits/1"}
    assert saved.read_position() is None


@pytest.mark.parametrize("gone", [True, False])
def test_a_corrupt_file_that_is_not_the_newest_is_an_error(saved, files, gone):
    """The message names the file, with the three options; a missing one is treated the same."""
    put(files, "offsets/1", b"")
    if gone:
        del files.held[f"{FOLDER}/offsets/1"]
    assert saved.repair() == []
    with pytest.raises(CheckpointRefused, match="offsets/1, which is not the newest") as caught:
        saved.read_position()
    for words in ("reset --to earliest", "reset --to latest", "restart spark-job"):
        assert words in caught.value.message


def test_corrupt_metadata_is_written_again(saved, files):
    """Spark rejects offsets without it; the query keeps its id, which is in the ledger's entries."""
    saved.store_topic_id("id-1")
    put(files, "metadata", b'{"id":"q')
    assert saved.repair() == ["metadata"]
    assert json.loads(files.held[f"{FOLDER}/metadata"]) == {"id": "q-1"}
    del files.held[f"{FOLDER}/metadata"]
    assert saved.repair() == []
    assert json.loads(files.held[f"{FOLDER}/metadata"]) == {"id": "q-1"}
    put(files, "metadata", b"")
    put(files, "penstock.json", b"")
    saved.repair()
    assert len(json.loads(files.held[f"{FOLDER}/metadata"])["id"]) == 36


def test_another_topics_checkpoint_does_not_count_as_corrupt(saved, files):
    """It is rejected, and nothing is moved."""
    put(files, "offsets/2", planned(1).replace(b'"t"', b'"other"'))
    for call in (saved.read_position, saved.repair):
        with pytest.raises(CheckpointRefused, match="belongs to the topic other, not to t"):
            call()


def test_a_format_of_a_later_spark_does_not_count_as_corrupt(saved, files):
    """The error names the format."""
    put(files, "offsets/2", planned(1).replace(b"v1", b"v7"))
    with pytest.raises(PenstockError, match="format v7 of another Spark version, expected v1"):
        saved.repair()


def test_topic_and_query_id_are_stored(saved, files):
    """A corrupt file of ours is ignored and moved aside."""
    saved.store_topic_id("id-1")
    assert saved.origin() == CheckpointOrigin(topic_id="id-1", query_id="q-1")
    put(files, "penstock.json", b"{")
    assert saved.origin() == CheckpointOrigin(topic_id="")
    assert saved.repair() == ["penstock.json"]
    del files.held[f"{FOLDER}/metadata"]
    saved.store_topic_id("id-2")
    assert saved.origin() == CheckpointOrigin(topic_id="id-2")


def test_a_checkpoint_is_archived_as_a_whole(saved, files):
    """It is kept under another name, and the next query starts at the requested position."""
    before = dict(files.held)
    kept = saved.begin_at(CheckpointOrigin(topic_id="id-1", start={0: 7, 1: 8}))
    assert re.fullmatch(r"/c/t\.before-\d{8}T\d{12}Z", kept)
    assert {path.replace(kept, FOLDER) for path in files.held if path.startswith(kept)} == set(before)
    assert files.names(FOLDER) == ["penstock.json"]
    saved.store_topic_id("id-1")
    assert saved.origin().start == {0: 7, 1: 8}


def test_a_missing_checkpoint_is_not_archived(files, saved):
    """A new one can be started nevertheless."""
    files.held.clear()
    assert saved.begin_at(CheckpointOrigin(topic_id="id-1")) is None


def test_a_failing_file_system_is_reported(saved, files):
    """The error names the folder and the reason."""
    files.fails = PermissionError("not yours")
    for call in (saved.read_position, saved.repair):
        with pytest.raises(PenstockError, match="/c/t cannot be read or changed: not yours"):
            call()


FITS = QueryPosition({0: 10, 1: 0}, {0: 15, 1: 0}, begun=True)


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([OffsetRange(0, 0, 15), OffsetRange(1, 0, 0)], []),
        ([OffsetRange(0, 10, 15), OffsetRange(1, 0, 9)], []),
        (
            [OffsetRange(0, 12, 15), OffsetRange(1, 1, 9)],
            [
                "partition 0: the checkpoint is at 10, Kafka has 12 to 15: 2 records were deleted "
                "before they were read",
                "partition 1: the checkpoint is at 0, Kafka has 1 to 9: 1 records were deleted before they were read",
            ],
        ),
        (
            [OffsetRange(0, 0, 14), OffsetRange(1, 0, 0)],
            [
                "partition 0: the checkpoint is at 10, Kafka has 0 to 14: "
                "1 records that were read before are missing"
            ],
        ),
        ([OffsetRange(0, 0, 15)], ["partition 1: it no longer exists in Kafka"]),
        ([OffsetRange(0, 0, 15), OffsetRange(1, 0, 0), OffsetRange(2, 0, 9)], []),
        (
            [OffsetRange(0, 0, 15), OffsetRange(1, 0, 0), OffsetRange(2, 4, 9)],
            ["partition 2: the checkpoint is at 0, Kafka has 4 to 9: 4 records were deleted before they were read"],
        ),
    ],
)  # fmt: skip
def test_mismatches_are_reported_per_partition(spans, expected):
    """Before what Kafka still has, beyond it, or of missing partitions; a new partition starts at 0."""
    assert find_misfits(FITS, CheckpointOrigin(topic_id="id-1"), spans, "id-1") == expected


def test_a_recreated_topic_does_not_match():
    """Even if all offsets would; a checkpoint older than our file counts as this topic's."""
    spans = [OffsetRange(0, 0, 15), OffsetRange(1, 0, 0)]
    (line,) = find_misfits(FITS, CheckpointOrigin(topic_id="id-1"), spans, "id-2")
    assert "another topic of this name" in line
    assert find_misfits(FITS, CheckpointOrigin(topic_id=""), spans, "id-2") == []
    assert find_misfits(None, CheckpointOrigin(topic_id="id-1"), spans, "id-2") == []


def test_a_start_need_not_name_every_partition():
    """One that was added since is read from its beginning, wherever that is."""
    start = QueryPosition({0: 3}, {0: 3}, begun=False)
    assert find_misfits(start, CheckpointOrigin(topic_id="i"), [OffsetRange(0, 0, 3), OffsetRange(1, 7, 9)], "i") == []
    assert len(find_misfits(start, CheckpointOrigin(topic_id="i"), [OffsetRange(0, 4, 9)], "i")) == 1


@given(
    first=st.integers(0, 50), records=st.integers(0, 50), at=st.integers(0, 120), ahead=st.integers(0, 20)
)  # fmt: skip
def test_a_position_matches_exactly_if_kafka_has_all_of_it(first, records, at, ahead):
    """Each offset from the resume position on exists, or is still to come."""
    place = QueryPosition({0: at}, {0: at + ahead}, begun=True)
    fits = find_misfits(place, CheckpointOrigin(topic_id="i"), [OffsetRange(0, first, first + records)], "i") == []
    assert fits == (first <= at and at + ahead <= first + records)


def test_a_checkpoint_that_does_not_match_is_rejected(saved):
    """One message: every partition, and the three options with what to type."""
    with pytest.raises(CheckpointRefused) as caught:
        check_fits(saved, [OffsetRange(0, 22, 40), OffsetRange(1, 0, 5)], "id-1")
    assert len(caught.value.misfits) == 2
    assert all(line in caught.value.message for line in caught.value.misfits)
    assert checkpoint.CHOICES in caught.value.message
    assert check_fits(saved, [OffsetRange(0, 0, 40), OffsetRange(1, 0, 40)], "id-1") is None


def test_a_path_without_a_scheme_is_a_local_folder(tmp_path, monkeypatch):
    """For job and command alike, whatever Hadoop's default is; Spark gets the same path."""
    monkeypatch.chdir(tmp_path)
    for place in (f"{tmp_path}/a b", f"file://{tmp_path}/a b", "a b"):
        first = checkpoint_of(read(spark_checkpoint=place), TOPIC)
        assert isinstance(first._files, LocalFiles)
        assert Path(first.folder) == tmp_path / "a b" / TOPIC
        assert first.url == f"file://{tmp_path}/a b/t"


def test_a_url_is_only_accessible_through_spark():
    """Without a Spark the error says what to do."""
    settings = read(spark_checkpoint="hdfs://name/c")
    assert folder_of(settings, TOPIC) == "hdfs://name/c/t"
    with pytest.raises(UsageError, match="hdfs://name/c/t"):
        checkpoint_of(settings, TOPIC)

    class Spark:
        _jvm = None

        class _jsc:  # noqa: N801
            hadoopConfiguration = staticmethod(lambda: None)  # noqa: N815

    first = checkpoint_of(settings, TOPIC, Spark())
    assert isinstance(first._files, HadoopFiles)
    assert first.url == "hdfs://name/c/t"
