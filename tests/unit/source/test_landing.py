import os
import time
from pathlib import Path
from typing import Any

from penstock.source.entries import Unreadable
from penstock.source.landing import Landing


def given(landing: Landing) -> list[list[Any]]:
    return [answer for answer, _ in landing.answers()]


def test_answers_come_back_in_their_order(tmp_path: Path) -> None:
    """Responses are read back unchanged and in order, also by a later process."""
    first, second = [{"a": 1}, None, "x"], [{"ü": [1.5, True]}]
    Landing(tmp_path, "run").keep(first)
    Landing(tmp_path, "run").keep(second)
    assert given(Landing(tmp_path, "run")) == [first, second]


def test_runs_do_not_see_each_other(tmp_path: Path) -> None:
    """Every run id has its own folder, whatever its characters."""
    Landing(tmp_path, "scheduled__2026-11-23T00:00:00+00:00").keep([1])
    assert list(Landing(tmp_path, "../scheduled").answers()) == []
    assert [path.parent for path in tmp_path.iterdir()] == [tmp_path]


def test_an_answer_that_was_cut_by_a_crash_is_not_read(tmp_path: Path) -> None:
    """An incomplete file is ignored, and the next response is written nevertheless."""
    landing = Landing(tmp_path, "run")
    landing.keep([1])
    (folder,) = tmp_path.iterdir()
    for name in (".000001.json.0123abcd", "000001.unfinished"):  # the second one by an earlier version
        (folder / name).write_bytes(b'[{"a"')
    assert given(landing) == [[1]]
    landing.keep([2])
    assert given(landing) == [[1], [2]]


def test_what_other_runs_kept_is_forgotten_in_time(tmp_path: Path) -> None:
    """Only old responses of other runs are deleted."""
    for run in ("old", "young", "ours"):
        Landing(tmp_path, run).keep([run])
    for run in ("old", "ours"):
        os.utime(Landing(tmp_path, run).folder, (0, 0))
    Landing(tmp_path, "ours").forget_others(older_than_s=3600)
    assert [given(Landing(tmp_path, run)) for run in ("old", "young", "ours")] == [[], [["young"]], [["ours"]]]


def test_an_answer_comes_back_with_the_time_it_was_kept_at(tmp_path: Path) -> None:
    """A response is read with the time it was staged, in ms since the epoch."""
    before_ms = time.time_ns() // 1_000_000
    Landing(tmp_path, "run").keep([1])
    (_, kept_ms), *_ = Landing(tmp_path, "run").answers()
    assert before_ms - 20 <= kept_ms <= time.time_ns() // 1_000_000  # a file system's clock may be a tick behind
    (file,) = tmp_path.rglob("*.json")
    os.utime(file, ns=(0, 1_700_000_000_123_999_999))
    assert list(Landing(tmp_path, "run").answers()) == [([1], 1_700_000_000_123)]


def test_unreadable_entries_come_back_in_their_places(tmp_path: Path) -> None:
    """Unreadable entries are read back byte for byte. A valid entry of the same shape is not mistaken for one."""
    bad = Unreadable(b'{"n": NaN, "t": "\xff\x00"}', "wrong")
    alike = {"entries": [], "unreadable": {"0": {"value": "", "message": ""}}}
    answer = [None, bad, alike, Unreadable(b"", ""), "x"]
    Landing(tmp_path, "run").keep(answer)
    Landing(tmp_path, "run").keep([alike])
    assert given(Landing(tmp_path, "run")) == [answer, [alike]]


def test_an_entry_is_read_as_it_was_kept(tmp_path: Path) -> None:
    """An entry is read as it was staged, even if the reader changed it in memory."""
    landing = Landing(tmp_path, "run")
    first, second = [{"a": 1}], [{"b": 2}, {"c": 3}]
    landing.keep(first)
    landing.keep(second)
    first[0].clear()
    second[1]["c"] = object()
    assert landing.entry(1, 1) == {"c": 3}
    assert landing.entry(0, 0) == {"a": 1}
    assert landing.entry(1, 0) == {"b": 2}
