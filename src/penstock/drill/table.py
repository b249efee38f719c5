"""All drills, in the order in which `--all` runs them."""

from dataclasses import dataclass

from penstock import remedies
from penstock.drill import (
    away,
    backlog,
    checkpoint_faults,
    disk,
    growing,
    intake,
    kill,
    recreated_topic,
    redriving,
    runner,
    soak,
    transforms,
)
from penstock.drill.plan import Drill
from penstock.drill.target import Target
from penstock.drill.verdict import Result
from penstock.errors import UsageError

DRILLS: tuple[Drill, ...] = (
    *kill.DRILLS,
    *away.DRILLS,
    *disk.DRILLS,
    *checkpoint_faults.DRILLS,
    *intake.DRILLS,
    *growing.DRILLS,
    *redriving.DRILLS,
    *transforms.DRILLS,
)
DELETES_TOPIC = recreated_topic.NAME
BACKLOG_ALONE, BACKLOG_OF_ALL = 2_000_000, 300_000
_FAULTS = {drill.name: drill for drill in DRILLS}
WHAT = {
    **{drill.name: drill.what for drill in DRILLS},
    recreated_topic.NAME: recreated_topic.WHAT,
    backlog.NAME: backlog.WHAT,
    soak.NAME: soak.WHAT,
}


@dataclass(frozen=True)
class Options:
    """Options of a call: records per load, records of the backlog, minutes and rate (records/s) of the soak."""

    records: int
    backlog: int
    minutes: float
    rate: float


def list_of_all() -> list[str]:
    """Return the names of the drills that `--all` runs: all but the soak and the one that deletes the topic."""
    return [name for name in WHAT if name not in (soak.NAME, DELETES_TOPIC)]


def check_names(wanted: list[str]) -> list[str]:
    """Return `wanted` if all are names of drills. Raises `UsageError` for the first unknown name."""
    for name in wanted:
        if name not in WHAT:
            raise UsageError(f"unknown drill {name!r}: expected one of {', '.join(WHAT)}", hint=remedies.list_drills())
    return wanted


def run_drill(target: Target, name: str, ask: Options) -> Result:
    """Run one drill and return its result."""
    if name == backlog.NAME:
        return backlog.run_backlog(target, ask.backlog)
    if name == recreated_topic.NAME:
        return recreated_topic.run_recreation(target, ask.records)
    if name == soak.NAME:
        return soak.run_soak(target, ask.minutes, ask.rate)
    return runner.run_drill(target, _FAULTS[name], ask.records)
