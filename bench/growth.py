"""What a record costs as records grow in number and size, partitions in number, and the more are rejected."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench import store
from bench.ground import Ground, Load
from bench.race import Contestant, Lap

NAME = "growth"
WHAT = "what a record costs, by number and size of records, partitions, share of rejects, encoding"
RECORDS = 5_000_000
"""The most records; the other numbers follow from it."""
WARM_UP = 200_000
_MORE = 200_000


@dataclass(frozen=True)
class Variation:
    """A load that is measured once so many of its records have warmed up the job."""

    name: str
    title: str
    load: Load
    warm_up: int = WARM_UP
    batch_records: int = 100_000

    def run(self, ground: Ground) -> Lap:
        """One lap."""
        ground.fill(self.load)
        more = {"spark_batch_records": self.batch_records}
        return store.store(ground, self.load, store.ours, skip=self.warm_up, **more)


def variations(scale: float = 1.0) -> list[Variation]:
    """All of them; the numbers of records are 1 for `scale` 1."""
    numbers = [round(number * scale) for number in (10_000, 100_000, 1_000_000, 5_000_000)]
    warm_up, more = round(WARM_UP * scale), round(_MORE * scale)
    base = Load(warm_up + more)
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


def contestants(ground: Ground, scale: float = 1.0) -> list[Contestant]:
    """Each variation, as if it were a contestant."""
    return [Contestant(one.name, one.title, _run_of(one, ground)) for one in variations(scale)]


def _run_of(one: Variation, ground: Ground) -> Callable[[], dict[str, Any]]:
    return lambda: one.run(ground).numbers()
