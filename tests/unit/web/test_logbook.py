import pytest

from penstock.config import read
from penstock.errors import NotFound
from penstock.web import logbook as module
from penstock.web.effective_settings import Secrets
from penstock.web.local_stack import LocalStack
from penstock.web.logbook import Logbook, level_of


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "logs" / "kafka.log"
    path.parent.mkdir()
    path.write_text("one INFO a\ntwo ERROR b\nthree \x1b[31mhush\x1b[0m\n")
    return path


@pytest.fixture
def book(log, tmp_path):
    return Logbook(LocalStack(read(home=tmp_path)), "kafka", Secrets(["hush"]))


def texts(result):
    return [line.text for line in result.lines]


def test_the_last_lines_are_read_without_secrets_and_colors(book):
    """The oldest first."""
    assert texts(book.read_last(2)) == ["two ERROR b", "three ******"]


def test_a_search_ignores_case(book):
    """And matches plain text, not a pattern; a secret is not found."""
    assert texts(book.read_last(10, "error")) == ["two ERROR b"]
    assert texts(book.read_last(10, ".*")) == []
    assert texts(book.read_last(10, "hush")) == []


def test_new_lines_are_read_once_and_complete(book, log):
    """A line is shown once it has ended."""
    position = book.read_last(10).position
    with log.open("a") as file:
        file.write("four\nfi")
    ranges = book.read_since(position)
    assert texts(ranges) == ["four"]
    assert texts(book.read_since(ranges.position)) == []
    with log.open("a") as file:
        file.write("ve\n")
    assert texts(book.read_since(ranges.position)) == ["five"]


def test_a_rotated_log_is_read_from_its_beginning(book, log):
    """It is shorter than before."""
    position = book.read_last(10).position
    log.write_text("new\n")
    assert texts(book.read_since(position)) == ["new"]


def test_only_the_end_of_a_large_log_is_read(book, monkeypatch):
    """From the first complete line."""
    monkeypatch.setattr(module, "SEARCHED_BYTES", 20)
    assert texts(book.read_last(10)) == ["three ******"]


def test_a_missing_log_is_empty(book, log):
    """A service that never ran has none."""
    log.unlink()
    assert texts(book.read_last(10)) == []
    assert book.read_since(0).lines == []


@pytest.mark.parametrize("name", ["..", "../secrets", "KAFKA", ""])
def test_an_unknown_service_is_not_found(name, tmp_path):
    """No other file can be read."""
    with pytest.raises(NotFound):
        Logbook(LocalStack(read(home=tmp_path)), name, Secrets([]))


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("2026-01-01 WARN  x", "warning"),
        ("[error    ] x", "error"),
        ("DEBUG x", "debug"),
        ("INFO no errors", ""),
        ("plain", ""),
    ],
)
def test_the_level_is_the_word_near_the_start(text, level):
    """Of Java's logs and of ours."""
    assert level_of(text) == level
