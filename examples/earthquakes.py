"""Earthquakes as the USGS lists them, by day: a time series in a table partitioned by day, the newest first.

An entry is a GeoJSON feature of https://earthquake.usgs.gov/fdsnws/event/1/query?format=geojson.
"""

from datetime import UTC, datetime
from typing import Annotated, Any

from msgspec import Meta

from penstock.contract.primary_key import PrimaryKey, day_of
from penstock.contract.record import KEY, Record
from penstock.pipelines.definition import Pipeline


class Quake(Record, frozen=True, kw_only=True):
    """An earthquake, as its network reported it."""

    id: Annotated[str, Meta(min_length=1, max_length=50, description="The network's code and number.", extra=KEY)]
    time: Annotated[datetime, Meta(tz=True, description="When the earth shook.", extra=KEY)]
    magnitude: float | None = None
    magnitude_type: str | None = None
    place: Annotated[str, Meta(max_length=500)]
    position: Annotated[tuple[float, float], Meta(description="Longitude and latitude in degrees.")]
    depth_km: float
    tsunami: bool
    networks: Annotated[list[str], Meta(description="Networks that reported it.")]


def from_source(feature: dict[str, Any]) -> Quake:
    """Return the earthquake of a GeoJSON feature."""
    properties = feature["properties"]
    longitude, latitude, depth_km = feature["geometry"]["coordinates"]
    return Quake(
        id=feature["id"],
        time=datetime.fromtimestamp(properties["time"] / 1000, UTC),
        magnitude=properties["mag"],
        magnitude_type=properties["magType"],
        place=properties["place"],
        position=(longitude, latitude),
        depth_km=depth_km,
        tsunami=bool(properties["tsunami"]),
        networks=[name for name in properties["sources"].split(",") if name],
    )


PIPELINE = Pipeline(
    topic="earthquakes",
    keyspace="quakes",
    table="by_day",
    record=Quake,
    from_source=from_source,
    primary_key=PrimaryKey(partition=(day_of("time", column="day"),), clustering=("time DESC", "id")),
)
