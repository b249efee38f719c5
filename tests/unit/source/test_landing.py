import os
import time
from pathlib import Path
from typing import Any

from penstock.contract.json_numbers import LongNumber, encode_json, read_number
from penstock.source.entries import Unreadable
from penstock.source.landing import Staging


def given(staging: Staging) -> list[list[Any]]:
    return [answer for answer, _ in staging.read_responses()]


def test_responses_are_read_back_in_order(tmp_path: Path) -> None:
    """Responses are read back unchanged and in order, also by a later process."""
    first, second = [{"a": 1}, None, "x"], [{"ü": [1.5, True]}]
    Staging(tmp_path, "run").write_response(first)
    Staging(tmp_path, "run").write_response(second)
    assert given(Staging(tmp_path, "run")) == [first, second]


def test_runs_are_separate(tmp_path: Path) -> None:
    """Every run id has its own folder, whatever its characters."""
    Staging(tmp_path, "scheduled__2026-11-23T00:00:00+00:00").write_response([1])
    assert list(Staging(tmp_path, "../scheduled").read_responses()) == []
    assert [path.parent for path in tmp_path.iterdir()] == [tmp_path]


def test_an_incomplete_response_is_ignored(tmp_path: Path) -> None:
    """And the next response is written nevertheless."""
    staging = Staging(tmp_path, "run")
    staging.write_response([1])
    (folder,) = tmp_path.iterdir()
    for name in (".000001.json.0123abcd", "000001.unfinished"):  # the second one by an earlier version
        (folder / name).write_bytes(b'[{"a"')
    assert given(staging) == [[1]]
    staging.write_response([2])
    assert given(staging) == [[1], [2]]


def test_old_responses_of_other_runs_are_deleted(tmp_path: Path) -> None:
    """Only old responses of other runs are deleted."""
    for run in ("old", "young", "ours"):
        Staging(tmp_path, run).write_response([run])
    for run in ("old", "ours"):
        os.utime(Staging(tmp_path, run).folder, (0, 0))
    Staging(tmp_path, "ours").forget_others(older_than_s=3600)
    assert [given(Staging(tmp_path, run)) for run in ("old", "young", "ours")] == [[], [["young"]], [["ours"]]]


def test_a_response_keeps_its_staging_time(tmp_path: Path) -> None:
    """A response is read with the time it was staged, in ms since the epoch."""
    before_ms = time.time_ns() // 1_000_000
    Staging(tmp_path, "run").write_response([1])
    (_, kept_ms), *_ = Staging(tmp_path, "run").read_responses()
    assert before_ms - 20 <= kept_ms <= time.time_ns() // 1_000_000  # a file system's clock may be a tick behind
    (file,) = tmp_path.rglob("*.json")
    os.utime(file, ns=(0, 1_700_000_000_123_999_999))
    assert list(Staging(tmp_path, "run").read_responses()) == [([1], 1_700_000_000_123)]


def test_unreadable_entries_are_read_back_in_their_places(tmp_path: Path) -> None:
    """Unreadable entries are read back byte for byte. A valid entry of the same shape is not mistaken for one."""
    bad = Unreadable(b'{"n": NaN, "t": "\xff\x00"}', "wrong")
    alike = {"entries": [], "unreadable": {"0": {"value": "", "message": ""}}}
    answer = [None, bad, alike, Unreadable(b"", ""), "x"]
    Staging(tmp_path, "run").write_response(answer)
    Staging(tmp_path, "run").write_response([alike])
    assert given(Staging(tmp_path, "run")) == [answer, [alike]]


def test_long_numbers_are_staged_with_all_of_their_digits(tmp_path: Path) -> None:
    """Also beside an unreadable entry, and in a page of format 1; a reader without them gets floats."""
    long = LongNumber("12345678901234567890.12345678901234567890")
    answer = [{"price": long, "ratio": 0.5}, Unreadable(b"NaN", "wrong")]
    staging = Staging(tmp_path, "run", read_number)
    staging.write_response(answer)
    (staging.folder / "000001.json").write_bytes(b'[{"price": %s}]' % long.text.encode())
    assert [encode_json(answer[0]) for answer in given(staging)] == [
        b'{"price":%s,"ratio":0.5}' % long.text.encode(),
        b'{"price":%s}' % long.text.encode(),
    ]
    assert staging.read_entry(0, 0)["price"].text == long.text
    assert type(Staging(tmp_path, "run").read_entry(0, 0)["price"]) is float


def test_an_entry_is_read_as_it_was_staged(tmp_path: Path) -> None:
    """Even if the reader changed it in memory."""
    staging = Staging(tmp_path, "run")
    first, second = [{"a": 1}], [{"b": 2}, {"c": 3}]
    staging.write_response(first)
    staging.write_response(second)
    first[0].clear()
    second[1]["c"] = object()
    assert staging.read_entry(1, 1) == {"c": 3}
    assert staging.read_entry(0, 0) == {"a": 1}
    assert staging.read_entry(1, 0) == {"b": 2}
