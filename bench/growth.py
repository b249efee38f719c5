"""Benchmark the cost per record by number and size of records, partitions, and share of rejected records."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench import store
from bench.measure import Contestant, Measurement
from bench.target import Load, Target

NAME = "growth"
WHAT = "cost of a record by number and size of records, partitions, share of rejected records, and encoding"
RECORDS = 5_000_000
"""The largest number of records. All other numbers scale with it."""
WARM_UP = 200_000
_MEASURED = 200_000


@dataclass(frozen=True)
class Variation:
    """A load whose first `warm_up` records warm up the job and are not measured."""

    name: str
    title: str
    load: Load
    warm_up: int = WARM_UP
    batch_records: int = 100_000

    def run(self, target: Target) -> Measurement:
        """Fill the topic and measure one run."""
        target.fill_topic(self.load)
        overrides = {"spark_batch_records": self.batch_records}
        return store.measure_store(target, self.load, store.make_penstock, skip=self.warm_up, **overrides)


def build_variations(scale: float = 1.0) -> list[Variation]:
    """Build all variations. `scale` multiplies their numbers of records."""
    numbers = [round(number * scale) for number in (10_000, 100_000, 1_000_000, 5_000_000)]
    warm_up, measured = round(WARM_UP * scale), round(_MEASURED * scale)
    base = Load(warm_up + measured)
    sizes = ((3_600, 4, 20_000), (40_000, 40, 2_000))
    return [
        *(Variation(f"records-{number}", f"{number:,} records", Load(warm_up + number), warm_up) for number in numbers),
        Variation("partitions-1", "1 partition", Load(base.records, partitions=1), warm_up),
        Variation("partitions-4", "4 partitions, 0.4 KB, none rejected, JSON", base, warm_up),
        Variation("partitions-16", "16 partitions", Load(base.records, partitions=16), warm_up),
        *(
            Variation(f"size-{kb}kb", f"{kb} KB", Load(6 * batch, note_bytes=size), 2 * batch, batch)
            for size, kb, batch in ((note, kb, round(batch * scale)) for note, kb, batch in sizes)
        ),
        Variation("rejected-1", "1 % rejected", Load(base.records, rejected=0.01), warm_up),
        Variation("rejected-50", "50 % rejected", Load(base.records, rejected=0.5), warm_up),
        Variation("avro", "Avro", Load(base.records, wire_format="avro"), warm_up),
    ]


def build_contestants(target: Target, scale: float = 1.0) -> list[Contestant]:
    """Build a contestant for each variation."""
    return [
        Contestant(variation.name, variation.title, _build_run(variation, target))
        for variation in build_variations(scale)
    ]


def _build_run(variation: Variation, target: Target) -> Callable[[], dict[str, Any]]:
    return lambda: variation.run(target).numbers()
