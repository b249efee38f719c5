"""The database of one verification: its memory limit, its folder, its chunks, and the statements that it runs."""

import fcntl
import os
import subprocess
import sys

import pytest

from penstock.config import read
from penstock.reconcile import fact_loading, queries
from penstock.reconcile.engine import Engine, SpillFolder, limit_mib


@pytest.mark.parametrize(
    ("content", "expected"), [("max", 512), ("4294967296", 512), ("469762048", 112), ("1000", 96), (None, 512)]
)
def test_memory_is_limited_by_the_setting_and_a_quarter_of_the_cgroup(tmp_path, content, expected):
    """Whichever is less, but never below what DuckDB needs to work."""
    file = tmp_path / "memory.max"
    if content is not None:
        file.write_text(content)
    assert limit_mib(512, [file]) == expected


def test_limits_are_effective_in_the_database(settings):
    """Memory, and the spill folder; no extension is loaded from the network."""
    names = ("memory_limit", "temp_directory", "autoinstall_known_extensions")
    with Engine(settings) as database:
        values = database.row(f"SELECT {', '.join(f'current_setting({name!r})' for name in names)}")
        assert values[0] == "512.0 MiB"
        assert values[1].startswith(str(settings.home / "data" / "verify"))
        assert values[2] is False


def test_no_files_are_left_on_disk(tmp_path):
    """Also if the verification fails."""
    folder = tmp_path / "data" / "verify"

    def fail() -> None:
        with Engine(read(home=tmp_path)):
            assert len(list(folder.iterdir())) == 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(folder.iterdir()) == []


def test_the_folder_of_a_killed_process_is_removed_by_the_next(tmp_path):
    """A running process keeps its own."""
    code = (
        "import os, signal; from pathlib import Path; from penstock.reconcile.engine import SpillFolder;"
        f"folder = SpillFolder(Path({str(tmp_path)!r})); (folder.open() / 'spilled').touch();"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    (killed,) = tmp_path.iterdir()
    working = tmp_path / "working"
    working.mkdir()
    lock = os.open(working, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    folder = SpillFolder(tmp_path)
    own = folder.open()
    assert sorted(tmp_path.iterdir()) == sorted([own, working])
    folder.close()
    os.close(lock)
    assert not killed.exists()


def test_rows_are_appended_in_chunks_with_their_nulls(settings, monkeypatch):
    """Null, in any column of any chunk, is null; text stays text."""
    monkeypatch.setattr(fact_loading, "_CHUNK_ROWS", 2)
    rows = [("a", "topic", 1, 2, 3, True, None), ("b\0é", "older", None, None, None, False, None)] * 2
    rows.append((None, None, None, None, None, None, "then"))
    with Engine(settings) as database:
        database.run("inputs")
        database.append("table_rows", rows)
        database.append("table_rows", [])
        result = sorted(database.rows("SELECT * FROM table_rows"), key=repr)
    assert result == sorted(rows, key=repr)


def test_every_statement_has_a_unique_name_and_a_comment():
    """The file is read from top to bottom: each statement that is not self-evident has a comment."""
    statements = [statement for section in queries.sections().values() for statement in section]
    names = [statement.name for statement in statements]
    assert len(set(names)) == len(names) > 60
    assert all(statement.columns for statement in queries.sections()["inputs"])


def test_statements_only_use_syntax_that_spark_supports():
    """No keyword of DuckDB's own."""
    text = " ".join(statement.body.upper() for section in queries.sections().values() for statement in section)
    for word in (
        "QUALIFY",
        "ASOF",
        "COLUMNS(",
        "STRUCT_PACK",
        "ARG_MAX",
        "EXCLUDE",
        "LIST(",
        "::",
        "VARCHAR",
        "HUGEINT",
    ):
        assert word not in text
