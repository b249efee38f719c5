"""A steady rate for minutes: what each service takes must not grow with time."""

import math
import time
from collections import defaultdict
from dataclasses import asdict, dataclass

from penstock.broker.topics import Span, beyond
from penstock.drill import load, proof, usage
from penstock.drill.frame import PATIENCE_S
from penstock.drill.ground import Ground
from penstock.drill.growth import Growth, Usage, grown
from penstock.drill.verdict import PASSED, Facts, Result
from penstock.errors import PenstockError, Unreachable
from penstock.retry import wait_until

NAME = "soak"
WHAT = "a steady rate for minutes: memory, open files and disk of each service must not grow"
_SAMPLE_S = 5.0
_WARM_UP_SHARE, _WARM_UP_AT_MOST_S = 0.25, 120.0
_RUN_S = 600.0
"""A longer soak is several runs: Airflow ends a task after an hour."""


@dataclass(frozen=True)
class SoakResult(Result):
    """As `Result`, and each service at the start and the end."""

    processes: list[Growth]


class Soak:
    """The drill while it is held."""

    def __init__(self, ground: Ground, minutes: float, rate: float) -> None:
        self._ground, self._rate = ground, rate
        self._runs = max(1, math.ceil(minutes * 60 / _RUN_S))
        self._run_s = minutes * 60 / self._runs
        self._warm_up_s = min(minutes * 60 * _WARM_UP_SHARE, _WARM_UP_AT_MOST_S)
        self.facts = Facts(NAME, recovered_s=0.0)
        self.samples: dict[str, list[Usage]] = defaultdict(list)

    def go(self) -> None:
        """All of it. Raises a `PenstockError` when something does not work out."""
        self._ground.up()
        before = self._ground.spans()
        began = time.monotonic()
        for number in range(self._runs):
            self._ground.say(f"{NAME}: run {number + 1} of {self._runs}, {self._run_s:.0f} s at {self._rate:g}/s")
            run = load.Run(self._ground.settings, {"records": None, "seconds": self._run_s, "rate": self._rate})
            self.facts.run_state = self._follow(run, began)
            self._prove(run, before)

    def _follow(self, run: load.Run, began: float) -> str:
        """How the run ended; what the services take is sampled meanwhile, once they are warm."""
        ends = time.monotonic() + self._run_s + PATIENCE_S
        while time.monotonic() < ends:
            try:
                return run.state()
            except Unreachable:
                if time.monotonic() - began >= self._warm_up_s:
                    for service, found in usage.of_services(self._ground).items():
                        self.samples[service].append(found)
                time.sleep(_SAMPLE_S)
        return run.state()

    def _prove(self, run: load.Run, before: list[Span]) -> None:
        settings = self._ground.settings
        spans = beyond(before, self._ground.spans())
        wait_until(lambda: proof.check_stored(settings, spans), timeout_s=PATIENCE_S, what="all of the soak")
        ids, refused = self.facts.ids, self.facts.refused
        proof.prove(settings, spans, run.id, self.facts)
        self.facts.ids, self.facts.refused = self.facts.ids + ids, self.facts.refused + refused
        self.facts.asked += round(self._run_s * self._rate)


def hold(ground: Ground, minutes: float, rate: float) -> SoakResult:
    """The result of a soak of so many minutes at so many records a second."""
    soak = Soak(ground, minutes, rate)
    try:
        soak.go()
    except PenstockError as error:
        soak.facts.failure = error.message
    result = soak.facts.result()
    processes = [grown(service, samples, result.sent) for service, samples in soak.samples.items()]
    wrong = [] if result.passed else [result.verdict]
    wrong += [] if processes else ["no service was measured"]
    wrong += [f"{one.service}: {one.verdict}" for one in processes if one.verdict != "steady"]
    return SoakResult(**{**asdict(result), "verdict": "; ".join(wrong) or PASSED}, processes=processes)
