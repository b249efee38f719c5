"""Transforms that raise, in a real Spark: which records are isolated, and which failures stop the batch."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from pyspark.errors import PythonException

from penstock.dead_letters.message import read_error_headers
from penstock.errors import TransformFailed
from penstock.pipeline import transform, trials
from penstock.pipelines import users
from tests.integration.streaming import Topic

POISON = (7, 23)
RAISES = """
from pyspark.sql import functions
from pyspark.sql.types import BooleanType


class NotAName(Exception):
    pass


def check(name):
    if name.startswith("poison"):
        raise NotAName(name)
    return True


def transform(df):  # Spark runs a filter as early as it can
    return df.where(functions.udf(check, BooleanType())("first_name"))
"""
CASTS = """
from pyspark.sql import functions

def transform(df):
    number = functions.regexp_replace("first_name", "^[^0-9].*$", "1").cast("int")
    return df.withColumn("post_code", functions.when(number >= 0, functions.col("post_code")))
"""
UNKNOWN = """
def transform(df):
    return df.withColumn("post_code", df.nothing_of_this_name)
"""
ASKS = """
from pyspark.sql import functions
from pyspark.sql.types import StringType

def ask(name):
    if name.startswith("poison"):
        raise ConnectionRefusedError("no geocoder at 127.0.0.1:9")
    return name

def transform(df):
    return df.withColumn("first_name", functions.udf(ask, StringType())("first_name"))
"""
ROW_WISE = "transform=transform, transform_is_row_wise=True"


def values(captured: list[dict[str, Any]], first_name: str = "poison") -> list[bytes]:
    """The captured users, some of whom have the first name on which the transform raises."""
    records = [msgspec.convert(users.from_source(entry), users.User) for entry in captured]
    for at in POISON:
        records[at] = msgspec.structs.replace(records[at], first_name=f"{first_name}{at}")
    return [msgspec.json.encode(record) for record in records]


@pytest.fixture
def trials_made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of groups of each trial."""
    made: list[int] = []
    run = trials.Trials.run

    def noted(self: trials.Trials, groups: Any) -> Any:
        made.append(len(groups))
        return run(self, groups)

    monkeypatch.setattr(trials.Trials, "run", noted)
    return made


def test_records_on_which_a_row_wise_transform_raises_are_dead_lettered(
    topic: Callable[..., Topic], captured: list[dict[str, Any]], trials_made: list[int]
) -> None:
    """The others are stored; each dead letter has the bytes in Kafka and names the user's line; few trials are
    needed.
    """
    lab_topic = topic(RAISES, ROW_WISE)
    sent = values(captured)
    lab_topic.send(*sent, b"{")
    summary = lab_topic.store()
    assert (summary.records, summary.stored, summary.rejected, summary.filtered) == (31, 28, 3, 0)
    assert len(lab_topic.rows()) == 28
    letters = {letter.value(): read_error_headers(letter) for letter in lab_topic.dead_letters()}
    assert letters.keys() == {sent[at] for at in POISON} | {b"{"}
    file = str(lab_topic.settings.pipeline)
    for at in POISON:
        facts = letters[sent[at]]
        assert (facts["reason"], facts["stage"]) == ("transform_failed", "transform")
        assert facts["message"].startswith(f"{file}, line 14: NotAName: poison{at}; the line is: raise NotAName(name)")
    assert letters[b"{"]["stage"] == "decode"
    assert len(trials_made) <= 7
    assert trials_made.count(1) >= 2


def test_a_value_on_which_an_expression_fails_is_isolated_too(
    topic: Callable[..., Topic], captured: list[dict[str, Any]]
) -> None:
    """Spark's own errors name the column and the line that created the expression."""
    lab_topic = topic(CASTS, ROW_WISE)
    sent = values(captured, first_name="9x")
    lab_topic.send(*sent)
    summary = lab_topic.store()
    assert (summary.stored, summary.rejected) == (28, 2)
    letters = {letter.value(): read_error_headers(letter)["message"] for letter in lab_topic.dead_letters()}
    assert letters.keys() == {sent[at] for at in POISON}
    assert all("line 7: NumberFormatException: [CAST_INVALID_INPUT]" in message for message in letters.values())


@pytest.mark.parametrize(
    ("before", "more", "expected"),
    [
        (RAISES, "transform=transform", r"line 14: NotAName: poison\d+; the line is: .*\n.*not declared row-wise"),
        (UNKNOWN, ROW_WISE, r"line 5: .*nothing_of_this_name.*\n.*fails before it receives a record"),
        (
            "def transform(df):\n    pass",
            ROW_WISE,
            r"TypeError: transform returned a NoneType.*\n.*before it receives a record",
        ),
    ],
    ids=["not row-wise", "unknown column", "returns nothing"],
)
def test_any_other_failing_transform_fails_the_batch_and_is_named(
    topic: Callable[..., Topic], captured: list[dict[str, Any]], before: str, more: str, expected: str
) -> None:
    """The user's file and line are first, in a few lines; no row and no dead letter is written."""
    lab_topic = topic(before, more)
    lab_topic.send(*values(captured))
    with pytest.raises(TransformFailed, match=expected) as failed:
        lab_topic.store()
    assert "./penstock restart spark-job" in failed.value.hint
    assert len(str(failed.value).splitlines()) <= 4
    assert (lab_topic.rows(), lab_topic.dead_letters()) == ({}, [])


def test_a_service_that_a_transform_cannot_reach_fails_the_batch(
    topic: Callable[..., Topic], captured: list[dict[str, Any]]
) -> None:
    """The batch is retried as for any unavailable service: nothing is dead-lettered."""
    lab_topic = topic(ASKS, ROW_WISE)
    lab_topic.send(*values(captured))
    with pytest.raises(PythonException, match="no geocoder"):
        lab_topic.store()
    assert (lab_topic.rows(), lab_topic.dead_letters()) == ({}, [])


def test_isolation_is_bounded_in_time(
    topic: Callable[..., Topic], captured: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it takes too long, the trial is cancelled, and the failure is left to the author of the transform."""
    lab_topic = topic(RAISES, ROW_WISE)
    lab_topic.send(*values(captured))
    monkeypatch.setattr(transform, "Trials", lambda good, apply, file: trials.Trials(good, apply, file, limit_s=0.0))
    with pytest.raises(TransformFailed, match="no failing record was found within 0 s"):
        lab_topic.store()
    assert lab_topic.rows() == {}
