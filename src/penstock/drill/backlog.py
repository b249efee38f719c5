"""A large backlog: the job is down while records arrive, then must drain them in bounded batches and memory."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from penstock.broker.topics import OffsetRange, find_new_offset_ranges
from penstock.drill import load, record_checks
from penstock.drill.growth import find_memory_problems
from penstock.drill.runner import PATIENCE_S, READY_AGAIN_S
from penstock.drill.target import Target
from penstock.drill.verdict import PASSED, Facts, Result
from penstock.errors import PenstockError
from penstock.reconcile.auditor import Auditor
from penstock.retry import wait_until
from penstock.sink import cassandra
from penstock.sink.ledger import LedgerEntry
from penstock.stack import catalog, status
from penstock.stack.environment import read_environment

NAME = "backlog"
WHAT = "a backlog builds up while the job is down: it is drained in bounded batches within bounded memory"
JOB, WORKER = "spark-job", "spark-worker"
_SLOWEST_PER_S = 500
_SAMPLE_S = 2.0


@dataclass(frozen=True)
class BacklogResult(Result):
    """`Result` of the backlog drill. `memory_mib` is the peak PSS of the driver's and the executor's process trees."""

    batches: int
    largest_batch: int
    worked_off_s: float
    memory_mib: dict[str, int]


class Backlog:
    """A run of the drill."""

    def __init__(self, target: Target, records: int) -> None:
        self._target = target
        self.facts = Facts(NAME, asked=records, run_state="success")
        self.memory_mib: dict[str, list[int]] = defaultdict(list)
        self.batches: Counter[int] = Counter()
        self.worked_off_s = 0.0
        self.step = ""

    def go(self) -> None:
        """Run all steps. Raises the `PenstockError` of the first that fails, after restarting the job."""
        self._start_step("stack")
        self._target.up()
        before = self._target.ranges()
        try:
            self._start_step("fault", "the job is stopped")
            self._target.stop(JOB)
            self._start_step("load", f"{self.facts.asked} records")
            self.facts.ids = load.Direct(self._target, NAME).send(self.facts.asked).records
        except BaseException:
            self._target.start(JOB)  # the step that failed remains the current one
            raise
        self._start_step("repair", "the job is started")
        self._target.start(JOB)
        ranges = find_new_offset_ranges(before, self._target.ranges())
        self._drain_backlog(ranges)
        self._start_step("checks")
        self._check_outcome(ranges)

    def _start_step(self, step: str, detail: str = "") -> None:
        self.step = step
        self._target.say(f"{NAME}: {step} {detail}".rstrip())

    def _drain_backlog(self, ranges: list[OffsetRange]) -> None:
        self._start_step("recovery")
        began, settings = time.monotonic(), self._target.settings

        def done() -> None:
            self._sample_memory()
            record_checks.check_stored(settings, ranges)

        wait_until(
            lambda: record_checks.check_moving(settings, ranges), timeout_s=PATIENCE_S, what="the backlog's first rows"
        )
        self.facts.recovered_s = round(time.monotonic() - began, 1)
        timeout_s = PATIENCE_S + self.facts.asked / _SLOWEST_PER_S
        wait_until(done, timeout_s=timeout_s, every_s=_SAMPLE_S, what="draining the backlog")
        self.worked_off_s = round(time.monotonic() - began, 1)
        self._target.say(f"{NAME}: drained in {self.worked_off_s} s")

    def _sample_memory(self) -> None:
        """Sample the memory of the driver's and the executor's side. A missing process counts as 0."""
        for service in (JOB, WORKER):
            tree = self._target.tree(service)
            self.memory_mib[service].append(status.measure_memory_mib(tree[0].pid) if tree else 0)

    def _check_outcome(self, ranges: list[OffsetRange]) -> None:
        with cassandra.open_session(self._target.settings) as session:
            audit = Auditor(self._target.settings, session).audit(ranges)
        self.batches = records_by_batch(line for covered in audit.covered.values() for line in covered.lines)
        record_checks.set_audit(self.facts, audit)
        wait_until(self._target.check_ready, timeout_s=READY_AGAIN_S, what="the stack after the drill")

    def limits_mib(self) -> dict[str, int]:
        """Return the memory that the catalog plans for each side: heaps and off-heap."""
        services = catalog.build_services(read_environment(self._target.settings))
        return {service: services[service].memory_mib for service in (JOB, WORKER)}


def records_by_batch(lines: Iterable[LedgerEntry]) -> "Counter[int]":
    """Count the records of each micro-batch."""
    counts: Counter[int] = Counter()
    for line in lines:
        counts[line.batch_id] += line.summary.records
    return counts


def run_backlog(target: Target, records: int) -> BacklogResult:
    """Run the drill with this number of records and return its result."""
    backlog = Backlog(target, records)
    try:
        backlog.go()
    except PenstockError as error:
        backlog.facts.failure = f"{backlog.step}: {error.message}"
    result, largest = backlog.facts.result(), max(backlog.batches.values(), default=0)
    failures = [] if result.passed else [result.verdict]
    if largest > target.settings.spark_batch_records:
        failures.append(
            f"a batch had {largest} records, more than the maximum of {target.settings.spark_batch_records}"
        )
    for service, limit_mib in backlog.limits_mib().items():
        failures += find_memory_problems(service, backlog.memory_mib[service], limit_mib)
    return BacklogResult(
        **{**asdict(result), "verdict": "; ".join(failures) or PASSED},
        batches=len(backlog.batches),
        largest_batch=largest,
        worked_off_s=backlog.worked_off_s,
        memory_mib={service: max(samples, default=0) for service, samples in backlog.memory_mib.items()},
    )
