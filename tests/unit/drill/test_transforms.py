"""The pipeline that a drill runs the job with."""

from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from penstock import pipelines
from penstock.config import read
from penstock.contract.identity import identity_of
from penstock.drill import load, transforms
from penstock.pipelines import users
from tests.unit.keyed import Sample


@pytest.fixture
def ground(tmp_path: Path) -> Any:
    settings = read(home=tmp_path)
    return SimpleNamespace(settings=settings, layout=SimpleNamespace(run=tmp_path), pipeline=pipelines.of(settings))


@pytest.mark.parametrize("row_wise", [True, False])
def test_the_drills_pipeline_differs_only_in_its_transform(ground: Any, row_wise: bool) -> None:
    """It raises for the one record that it was written for, and keeps every other."""
    poison = next(load.generate_users(users.User, users.PIPELINE))
    file = transforms._write_pipeline(ground, poison, row_wise=row_wise)
    written = pipelines.load(str(file))
    assert (written.topic, written.table, written.record) == (
        users.PIPELINE.topic,
        users.PIPELINE.table,
        users.PIPELINE.record,
    )
    assert written.transform_is_row_wise == row_wise
    check = written.transform.__globals__["check"]  # type: ignore[union-attr]
    assert written.transform.__globals__["POISON"] == [("id", "STRING", str(poison.id))]  # type: ignore[union-attr]
    assert check(False)
    assert check(None)
    with pytest.raises(Exception, match="the drill's record"):
        check(True)
    pipelines.load.cache_clear()


def test_every_field_of_a_key_identifies_the_record() -> None:
    """Each with the text that Spark casts to the column's type: a moment in UTC."""
    sample = Sample(sensor="s0", at=datetime(2026, 1, 31, 1, tzinfo=timezone(timedelta(hours=2))), celsius=1.0)
    assert transforms._list_key_columns(identity_of(Sample), sample) == [
        ("sensor", "STRING", "s0"),
        ("at", "TIMESTAMP", "2026-01-30T23:00:00.000Z"),
    ]
