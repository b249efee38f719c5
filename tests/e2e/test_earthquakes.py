"""The example of a time series: earthquakes in a table by day, the newest first, each proven by `verify`."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock import pipelines
from penstock.broker.kafka import create_producer
from penstock.config import Settings
from penstock.contract.identity import identity_of
from penstock.sink import cassandra
from tests.conftest import ROOT, Stack
from tests.e2e.carrying import carry, wait_until_stored
from tests.quakes import ADAPTER, COUNT, build_feature

FILE = ROOT / "examples" / "earthquakes.py"


@pytest.fixture
def quakes_api(free_port: int) -> Iterator[str]:
    """The address of the adapter to the stand-in API."""
    command = [sys.executable, "-m", "tests.quakes", str(free_port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        yield f"http://127.0.0.1:{free_port}{ADAPTER}"
        process.send_signal(signal.SIGTERM)


def read_days(settings: Settings) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each day, in the order of the table."""
    pipeline, days = pipelines.of(settings), {}
    with cassandra.open_session(settings) as session:
        for row in session.execute(f"SELECT * FROM {pipeline.keyspace}.{pipeline.table}"):
            days.setdefault(str(row["day"]), []).append(dict(row))
    return days


def delete_quake(settings: Settings, at: int) -> None:
    """Send a tombstone of an earthquake, with the key that its producer gave it."""
    pipeline = pipelines.of(settings)
    quake = pipeline.from_source(build_feature(at))
    client = create_producer(settings)
    client.produce(pipeline.topic, value=None, key=identity_of(pipeline.record).key_of(quake))
    assert client.flush(60) == 0


def test_earthquakes_are_stored_by_day(zookeeper_stack: Stack, quakes_api: str, tmp_path: Path, free_port: int) -> None:
    """Every feature is a row of its day, the newest first; tombstones delete; `verify` names a lost row."""
    by_time = sorted((build_feature(at) for at in range(COUNT)), key=lambda feature: -feature["properties"]["time"])
    with carry(
        zookeeper_stack, FILE, quakes_api, tmp_path, free_port + 1, records=COUNT, PENSTOCK_SOURCE_BATCH_RECORDS="400"
    ) as (settings, job):
        days = read_days(settings)
        assert [row["id"] for day in sorted(days, reverse=True) for row in days[day]] == [one["id"] for one in by_time]
        check_columns(days, by_time)
        own = {"PENSTOCK_PIPELINE": str(FILE)}
        assert zookeeper_stack.json("verify", **own)["balanced"] is True
        delete_quake(settings, 7)
        delete_quake(settings, 900)
        wait_until_stored(settings, job, COUNT + 2)
        result = zookeeper_stack.json("verify", **own)
        assert (result["balanced"], sum(map(len, read_days(settings).values()))) == (True, COUNT - 2)
        plant_loss(settings, build_feature(8))
        named = zookeeper_stack.cli("verify", "--json", **own)
        assert (
            named.returncode,
            [build_feature(8)["id"] in str(one) for one in json.loads(named.stdout)["differences"]],
        ) == (1, [True])


def check_columns(days: dict[str, list[dict[str, Any]]], features: list[dict[str, Any]]) -> None:
    """Check that every column of every row is the API's value."""
    rows = {row["id"]: row for day in days.values() for row in day}
    for feature in features:
        row, properties = rows[feature["id"]], feature["properties"]
        longitude, latitude, depth_km = feature["geometry"]["coordinates"]
        assert (row["magnitude"], row["magnitude_type"], row["place"]) == (
            properties["mag"],
            properties["magType"],
            properties["place"],
        )
        assert (tuple(row["position"]), row["depth_km"]) == ((longitude, latitude), depth_km)
        assert (row["tsunami"], list(row["networks"])) == (
            bool(properties["tsunami"]),
            [name for name in properties["sources"].split(",") if name],
        )


def plant_loss(settings: Settings, feature: dict[str, Any]) -> None:
    """Delete a row behind the pipeline's back."""
    pipeline = pipelines.of(settings)
    quake = pipeline.from_source(feature)
    with cassandra.open_session(settings) as session:
        values = (quake.time.date(), quake.time, quake.id)
        session.execute(
            f"DELETE FROM {pipeline.keyspace}.{pipeline.table} WHERE day = %s AND time = %s AND id = %s", values
        )
