"""Rules that decide whether resource usage grew too much. Pure arithmetic, no I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

MEMORY_FACTOR, MEMORY_SLACK_MIB = 1.25, 64
HANDLES_FACTOR, HANDLES_SLACK = 1.2, 50
DISK_MIB_PER_RECORD, DISK_SLACK_MIB = 8 / 1024, 300
"""A record takes at most 8 KiB over all stores. The slack is for logs and preallocated files."""
HALVES_FACTOR, HALVES_SLACK_MIB = 1.2, 100
_ENDS = 3


@dataclass(frozen=True)
class ServiceUsage:
    """Resource usage of a service at one moment: memory (PSS), open files, disk space."""

    memory_mib: int
    handles: int
    disk_mib: int


@dataclass(frozen=True)
class UsageGrowth:
    """Usage of a service at the start of the soak, after its warm-up, and at its end."""

    service: str
    start: ServiceUsage
    end: ServiceUsage
    verdict: str


def compare_usage(service: str, samples: Sequence[ServiceUsage], records: int) -> UsageGrowth:
    """Compare the medians of a service's first and last samples and report what grew too much."""
    start, end = _median_usage(samples[:_ENDS]), _median_usage(samples[-_ENDS:])
    return UsageGrowth(service, start, end, "; ".join(_find_excess(start, end, records)) or "steady")


def _median_usage(samples: Sequence[ServiceUsage]) -> ServiceUsage:
    return ServiceUsage(
        round(median(sample.memory_mib for sample in samples)),
        round(median(sample.handles for sample in samples)),
        round(median(sample.disk_mib for sample in samples)),
    )


def _find_excess(start: ServiceUsage, end: ServiceUsage, records: int) -> list[str]:
    allowed = ServiceUsage(
        round(start.memory_mib * MEMORY_FACTOR + MEMORY_SLACK_MIB),
        round(start.handles * HANDLES_FACTOR + HANDLES_SLACK),
        round(start.disk_mib + records * DISK_MIB_PER_RECORD + DISK_SLACK_MIB),
    )
    return [
        f"{what} {getattr(end, name)}, at most {getattr(allowed, name)} expected"
        for what, name in (("memory MiB", "memory_mib"), ("open files", "handles"), ("disk MiB", "disk_mib"))
        if getattr(end, name) > getattr(allowed, name)
    ]


def find_memory_problems(service: str, memory_mib: Sequence[int], limit_mib: int) -> list[str]:
    """Return what is wrong with a service's memory while it drains a backlog: it keeps growing, or exceeds its limit.

    Samples begin with the first stored batch, so that process startup does not count as growth.
    """
    problems = []
    half = len(memory_mib) // 2
    first, second = max(memory_mib[:half], default=0), max(memory_mib[half:], default=0)
    if half and second > first * HALVES_FACTOR + HALVES_SLACK_MIB:
        problems.append(f"{service} grew from {first} to {second} MiB")
    if second > limit_mib or first > limit_mib:
        problems.append(f"{service} used {max(first, second)} MiB, more than the planned {limit_mib} MiB")
    return problems
