"""Whether something grew that should not: the rules, as arithmetic. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

MEMORY_FACTOR, MEMORY_SLACK_MIB = 1.25, 64
HANDLES_FACTOR, HANDLES_SLACK = 1.2, 50
DISK_MIB_PER_RECORD, DISK_SLACK_MIB = 8 / 1024, 300
"""A record takes 8 KiB at most in all its places; the slack is for logs and for files that are made in advance."""
HALVES_FACTOR, HALVES_SLACK_MIB = 1.2, 100
_ENDS = 3


@dataclass(frozen=True)
class Usage:
    """What a service takes at one moment: its memory with shared pages in parts, its open files, its files on disk."""

    memory_mib: int
    handles: int
    disk_mib: int


@dataclass(frozen=True)
class Growth:
    """A service at the start of the soak, after its warm-up, and at its end."""

    service: str
    start: Usage
    end: Usage
    verdict: str


def grown(service: str, samples: Sequence[Usage], records: int) -> Growth:
    """Start and end of a service: the medians of its first and of its last samples, and what grew too much."""
    start, end = _middle(samples[:_ENDS]), _middle(samples[-_ENDS:])
    return Growth(service, start, end, "; ".join(_too_much(start, end, records)) or "steady")


def _middle(samples: Sequence[Usage]) -> Usage:
    return Usage(
        round(median(one.memory_mib for one in samples)),
        round(median(one.handles for one in samples)),
        round(median(one.disk_mib for one in samples)),
    )


def _too_much(start: Usage, end: Usage, records: int) -> list[str]:
    allowed = Usage(
        round(start.memory_mib * MEMORY_FACTOR + MEMORY_SLACK_MIB),
        round(start.handles * HANDLES_FACTOR + HANDLES_SLACK),
        round(start.disk_mib + records * DISK_MIB_PER_RECORD + DISK_SLACK_MIB),
    )
    return [
        f"{what} {getattr(end, name)}, at most {getattr(allowed, name)} expected"
        for what, name in (("memory MiB", "memory_mib"), ("open files", "handles"), ("disk MiB", "disk_mib"))
        if getattr(end, name) > getattr(allowed, name)
    ]


def unbounded(service: str, memory_mib: Sequence[int], limit_mib: int) -> list[str]:
    """What is wrong with a service's memory while a backlog is worked off: it goes on growing, or is over its limit.

    The samples begin with the first batch that is stored, so that the start of the processes is no growth.
    """
    wrong = []
    half = len(memory_mib) // 2
    first, second = max(memory_mib[:half], default=0), max(memory_mib[half:], default=0)
    if half and second > first * HALVES_FACTOR + HALVES_SLACK_MIB:
        wrong.append(f"{service} grew from {first} to {second} MiB")
    if second > limit_mib or first > limit_mib:
        wrong.append(f"{service} took {max(first, second)} MiB, {limit_mib} are meant for it")
    return wrong
