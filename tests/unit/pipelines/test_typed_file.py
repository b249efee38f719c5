"""A pipeline's file under mypy, as its author runs it."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT

FILE = """\
from datetime import UTC, datetime
from typing import Annotated, Any

from msgspec import Meta

from penstock.contract.record import KEY, Record
from penstock.pipelines import Pipeline


class Quake(Record, frozen=True, kw_only=True):
    id: Annotated[str, Meta(min_length=1, max_length=50, extra=KEY)]
    at: datetime
    place: str
    magnitude: float | None = None


def from_source(feature: dict[str, Any]) -> Quake:
    properties = feature["properties"]
    at = datetime.fromtimestamp(properties["time"] / 1000, UTC)
    return Quake({arguments})


PIPELINE = Pipeline(topic="quakes", keyspace="quakes", table="quakes", record=Quake, from_source=from_source)
"""
FILES = {
    "right": 'id=feature["id"], at=at, place=properties["place"], magnitude=1.5',
    "missing": 'id=feature["id"], at=at',
    "misspelt": 'id=feature["id"], at=at, palce=properties["place"], place="x"',
    "wrong": 'id=feature["id"], at=at.date(), place="x"',
}


@pytest.fixture(scope="module")
def errors(tmp_path_factory) -> dict[str, list[str]]:
    """What mypy says of each file."""
    folder = tmp_path_factory.mktemp("typed")
    for name, arguments in FILES.items():
        (folder / f"{name}.py").write_text(FILE.replace("{arguments}", arguments))
    shutil.copy(ROOT / "examples" / "earthquakes.py", folder)
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--cache-dir",
        str(folder / "cache"),
        *(f"{name}.py" for name in (*FILES, "earthquakes")),
    ]
    env = {**os.environ, "MYPYPATH": str(ROOT / "src")}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert not done.stderr, done.stderr
    lines = [line for line in done.stdout.splitlines() if ": error: " in line]
    return {
        name: [line.partition(" error: ")[2] for line in lines if line.startswith(f"{name}.py")]
        for name in (*FILES, "earthquakes")
    }


@pytest.mark.parametrize("name", ["right", "earthquakes"])
def test_a_file_whose_mapping_returns_the_record_is_well_typed(errors, name):
    """`Pipeline` takes a mapping that returns the record; the example is such a file."""
    assert errors[name] == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", 'Missing named argument "place" for "Quake"'),
        ("misspelt", 'Unexpected keyword argument "palce" for "Quake"'),
        ("wrong", 'Argument "at" to "Quake" has incompatible type "date"; expected "datetime"'),
    ],
)
def test_a_type_checker_finds_a_wrong_or_missing_field(errors, name, message):
    """Before any entry comes."""
    (error,) = errors[name]
    assert error.startswith(message)
