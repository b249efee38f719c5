from datetime import UTC, datetime
from uuid import UUID

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from penstock.cli.text import format_table, print_json, print_progress
from penstock.reconcile.audit import Balance


def test_columns_are_aligned():
    """Columns are as wide as their widest cell, two spaces apart, without trailing spaces."""
    assert format_table(("name", "n"), [("a", 1), ("longer", 22)]).splitlines() == [
        "name    n",
        "a       1",
        "longer  22",
    ]


def test_none_is_a_dash():
    """None is printed as a dash, zero and empty text as they are."""
    assert format_table(("a", "b", "c"), [(None, 0, "")]) == "a  b  c\n-  0"


def test_an_empty_table_has_only_its_heads():
    """A table without lines has only the heads."""
    assert format_table(("a", "b"), []) == "a  b"


@given(st.lists(st.tuples(st.integers(), st.text("abc xyz", max_size=9)), max_size=9))
def test_every_line_is_printed(lines):
    """A table has one line for the heads and one per line."""
    assert len(format_table(("number", "words"), lines).split("\n")) == len(lines) + 1


def test_json_goes_to_stdout(capsys):
    """JSON is printed on stdout, with times in ISO 8601, ids as text, Unicode unescaped, dataclasses as objects."""
    print_json({"at": datetime(2025, 1, 2, tzinfo=UTC), "id": UUID(int=1), "name": "Ünal"})
    shown = capsys.readouterr()
    assert shown.err == ""
    assert msgspec.json.decode(shown.out) == {
        "at": "2025-01-02T00:00:00Z",
        "id": "00000000-0000-0000-0000-000000000001",
        "name": "Ünal",
    }
    assert "Ünal" in shown.out
    print_json(Balance(partition=0, first=0, end=3, produced=3))
    assert msgspec.json.decode(capsys.readouterr().out)["produced"] == 3


def test_progress_goes_to_stderr(capsys):
    """Progress is printed on stderr, separate from results."""
    print_progress("on its way")
    assert capsys.readouterr() == ("", "on its way\n")
