"""The pipeline that a drill runs the job with."""

from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from penstock import pipelines
from penstock.config import read
from penstock.drill import load, transforms
from penstock.pipelines import users


@pytest.fixture
def ground(tmp_path: Path) -> Any:
    settings = read(home=tmp_path)
    return SimpleNamespace(settings=settings, layout=SimpleNamespace(run=tmp_path), pipeline=pipelines.of(settings))


@pytest.mark.parametrize("row_wise", [True, False])
def test_the_drills_pipeline_differs_only_in_its_transform(ground: Any, row_wise: bool) -> None:
    """It raises for the one record that it was written for, and keeps every other."""
    poison, other = islice(load.generate_users(users.User, users.PIPELINE), 2)
    file = transforms._write_pipeline(ground, poison, row_wise=row_wise)
    written = pipelines.load(str(file))
    assert (written.topic, written.table, written.record) == (
        users.PIPELINE.topic,
        users.PIPELINE.table,
        users.PIPELINE.record,
    )
    assert written.transform_is_row_wise == row_wise
    check = written.transform.__globals__["check"]  # type: ignore[union-attr]
    assert check(str(other.id))
    with pytest.raises(Exception, match="the drill's record"):
        check(str(poison.id))
    pipelines.load.cache_clear()
