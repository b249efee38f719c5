"""Run a drill: load, fault, recovery and checks, the same for every drill."""

import time
from typing import Any

from penstock.broker.topics import OffsetRange, find_new_offset_ranges
from penstock.drill import load, record_checks
from penstock.drill.plan import Drill
from penstock.drill.target import Target
from penstock.drill.verdict import RECOVER_S, Facts, Result
from penstock.errors import PenstockError
from penstock.retry import wait_until

LOAD_S = 20.0
"""How long the load lasts in addition to the fault."""
PATIENCE_S = 2 * RECOVER_S
RUN_TIMEOUT_S = 900.0
READY_AGAIN_S = 30.0
"""A probe of a busy machine may fail once."""


def run_drill(target: Target, drill: Drill, records: int) -> Result:
    """Run the drill under a load of this many records and return its result. A failed step becomes the verdict."""
    facts = Facts(drill.name, drill.rejects, asked=records)
    run = DrillRun(target, drill, facts)
    try:
        run.go()
    except PenstockError as error:
        facts.failure = f"{run.step}: {error.message}".strip()
    return facts.result()


class DrillRun:
    """One run of a drill. `step` is the current step."""

    def __init__(self, target: Target, drill: Drill, facts: Facts) -> None:
        self._target, self._drill, self._facts = target, drill, facts
        self._before: list[OffsetRange] = []
        self._marks: record_checks.LogSizes = {}
        self._ended_s = 0.0
        self.step = ""

    def go(self) -> None:
        """Run all steps. Raises the `PenstockError` of the first that fails, after ending the fault."""
        self._start_step("stack")
        self._target.up()
        wait_until(self._target.check_ready, timeout_s=PATIENCE_S, every_s=0.5, what="the stack")
        self._before = self._target.ranges()
        with self._drill.parameters(self._target) as parameters:
            run = self._start_load(parameters)
            self._inject_fault()
            self._wait_for_recovery()
            self._wait_for_load(run)
        self._check_outcome(run)

    def _start_step(self, step: str, detail: str = "") -> None:
        self.step = step
        self._target.say(f"{self._drill.name}: {step} {detail}".rstrip())

    def _start_load(self, parameters: dict[str, Any]) -> load.LoadRun:
        self._start_step("load")
        records = self._facts.asked
        rate = records / (LOAD_S + self._drill.hold_s)
        run = load.LoadRun(self._target.settings, {"records": records, "rate": rate, **parameters})
        wait_until(self._check_moving, timeout_s=PATIENCE_S, every_s=0.5, what="the load's first rows")
        return run

    def _check_moving(self) -> None:
        record_checks.check_moving(self._target.settings, self._find_new_ranges())

    def _inject_fault(self) -> None:
        self._start_step("fault", self._drill.what)
        self._marks = record_checks.read_log_sizes(self._target.layout.logs)
        with self._drill.fault(self._target):
            time.sleep(self._drill.hold_s)
            self._ended_s = time.monotonic()
            self._start_step("repair")

    def _wait_for_recovery(self) -> None:
        """Wait until every service is ready and a record that was sent after the fault is stored."""
        self._start_step("recovery")
        wait_until(self._target.check_ready, timeout_s=PATIENCE_S, every_s=0.5, what="the stack")
        sent = load.Direct(self._target, self._drill.name).send(8)
        wait_until(
            lambda: record_checks.check_stored(self._target.settings, load.ranges_of(sent)),
            timeout_s=PATIENCE_S,
            what="a record sent after the fault",
        )
        self._facts.recovered_s = round(time.monotonic() - self._ended_s, 1)

    def _wait_for_load(self, run: load.LoadRun) -> None:
        self._start_step("drain", f"recovered after {self._facts.recovered_s} s")
        self._facts.run_state = wait_until(run.state, timeout_s=RUN_TIMEOUT_S, every_s=1.0, what="the run")
        ranges = self._find_new_ranges()
        wait_until(
            lambda: record_checks.check_stored(self._target.settings, ranges),
            timeout_s=PATIENCE_S,
            every_s=0.5,
            what="the records of the load",
        )

    def _find_new_ranges(self) -> list[OffsetRange]:
        """Return the offsets that were added to the topic since the drill began."""
        return find_new_offset_ranges(self._before, self._target.ranges())

    def _check_outcome(self, run: load.LoadRun) -> None:
        self._start_step("checks")
        record_checks.check_run(self._target.settings, self._find_new_ranges(), run.id, self._facts)
        self._facts.hidden = record_checks.find_unmatched(self._target.layout.logs, self._marks, self._drill.evidence)
        wait_until(self._target.check_ready, timeout_s=READY_AGAIN_S, what="the stack after the drill")
