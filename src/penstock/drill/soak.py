"""A steady load for minutes: no service's resource usage may grow over time."""

import math
import time
from collections import defaultdict
from dataclasses import asdict, dataclass

from penstock.broker.topics import OffsetRange, find_new_offset_ranges
from penstock.drill import load, record_checks, service_usage
from penstock.drill.growth import ServiceUsage, UsageGrowth, compare_usage
from penstock.drill.runner import PATIENCE_S
from penstock.drill.target import Target
from penstock.drill.verdict import PASSED, Facts, Result
from penstock.errors import PenstockError, Unreachable
from penstock.retry import wait_until

NAME = "soak"
WHAT = "a steady rate for minutes: memory, open files and disk of each service must not grow"
_SAMPLE_S = 5.0
_WARM_UP_SHARE, _WARM_UP_AT_MOST_S = 0.25, 120.0
_RUN_S = 600.0
"""A longer soak is split into several runs, since the task's timeout in Airflow is one hour."""


@dataclass(frozen=True)
class SoakResult(Result):
    """`Result` of the soak, with the usage of each service at start and end."""

    processes: list[UsageGrowth]


class Soak:
    """A run of the drill."""

    def __init__(self, target: Target, minutes: float, rate: float) -> None:
        self._target, self._rate = target, rate
        self._runs = max(1, math.ceil(minutes * 60 / _RUN_S))
        self._run_s = minutes * 60 / self._runs
        self._warm_up_s = min(minutes * 60 * _WARM_UP_SHARE, _WARM_UP_AT_MOST_S)
        self.facts = Facts(NAME, recovered_s=0.0)
        self.samples: dict[str, list[ServiceUsage]] = defaultdict(list)

    def go(self) -> None:
        """Run the whole drill. Raises a `PenstockError` if a step fails."""
        self._target.up()
        before = self._target.ranges()
        began = time.monotonic()
        for number in range(self._runs):
            self._target.say(f"{NAME}: run {number + 1} of {self._runs}, {self._run_s:.0f} s at {self._rate:g}/s")
            run = load.LoadRun(self._target.settings, {"records": None, "seconds": self._run_s, "rate": self._rate})
            self.facts.run_state = self._await_run(run, began)
            self._check_outcome(run, before)

    def _await_run(self, run: load.LoadRun, began: float) -> str:
        """Wait for the end of the run and return its state. After the warm-up, sample the services' usage meanwhile."""
        deadline = time.monotonic() + self._run_s + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                return run.state()
            except Unreachable:
                if time.monotonic() - began >= self._warm_up_s:
                    for service, sample in service_usage.measure_services(self._target).items():
                        self.samples[service].append(sample)
                time.sleep(_SAMPLE_S)
        return run.state()

    def _check_outcome(self, run: load.LoadRun, before: list[OffsetRange]) -> None:
        settings = self._target.settings
        ranges = find_new_offset_ranges(before, self._target.ranges())
        wait_until(
            lambda: record_checks.check_stored(settings, ranges), timeout_s=PATIENCE_S, what="the records of the soak"
        )
        ids, refused = self.facts.ids, self.facts.refused
        record_checks.check_run(settings, ranges, run.id, self.facts)
        self.facts.ids, self.facts.refused = self.facts.ids + ids, self.facts.refused + refused
        self.facts.asked += round(self._run_s * self._rate)


def run_soak(target: Target, minutes: float, rate: float) -> SoakResult:
    """Run the soak for these minutes at `rate` records per second and return its result."""
    soak = Soak(target, minutes, rate)
    try:
        soak.go()
    except PenstockError as error:
        soak.facts.failure = error.message
    result = soak.facts.result()
    processes = [compare_usage(service, samples, result.sent) for service, samples in soak.samples.items()]
    failures = [] if result.passed else [result.verdict]
    failures += [] if processes else ["no service was measured"]
    failures += [f"{process.service}: {process.verdict}" for process in processes if process.verdict != "steady"]
    return SoakResult(**{**asdict(result), "verdict": "; ".join(failures) or PASSED}, processes=processes)
