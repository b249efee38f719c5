"""The verdict on a drill: passed, or what failed. No I/O."""

from dataclasses import dataclass, field

RECOVER_S = 120.0
"""Longest time from the end of a fault until the stream continues."""

PASSED = "passed"


@dataclass(frozen=True)
class Result:
    """The reported result of a drill. sent: records in Kafka; doubled: offsets that the ledger counts twice."""

    name: str
    sent: int
    stored: int
    rejected: int
    missing: int
    doubled: int
    recovered_s: float | None
    verdict: str

    @property
    def passed(self) -> bool:
        """Return whether nothing failed."""
        return self.verdict == PASSED


@dataclass
class Facts:
    """What a drill has established so far.

    asked: records requested from the load's run; ids: distinct ids of those that it sent; refused: those that it
    dead-lettered itself; differences: what `verify` reports; failure: the step that failed.
    """

    name: str
    rejects: bool = False
    asked: int = 0
    ids: int = 0
    refused: int = 0
    sent: int = 0
    stored: int = 0
    rejected: int = 0
    missing: int = 0
    doubled: int = 0
    differences: list[str] = field(default_factory=list)
    recovered_s: float | None = None
    run_state: str = ""
    hidden: list[str] = field(default_factory=list)
    failure: str = ""

    def result(self) -> Result:
        """Return the facts with their verdict."""
        return Result(
            self.name,
            self.sent,
            self.stored,
            self.rejected,
            self.missing,
            self.doubled,
            self.recovered_s,
            build_verdict(self),
        )


def build_verdict(facts: Facts) -> str:
    """Return `PASSED`, or everything that failed."""
    if facts.failure:
        return facts.failure
    return "; ".join([*_of_records(facts), *_of_recovery(facts)]) or PASSED


def _of_records(facts: Facts) -> list[str]:
    wrong = []
    if facts.missing:
        wrong.append(f"missing records: {facts.missing}")
    if facts.doubled:
        wrong.append(f"offsets counted twice: {facts.doubled}")
    if facts.differences:
        wrong.append(f"differences reported by verify: {len(facts.differences)}, the first: {facts.differences[0]}")
    if facts.ids + facts.refused < facts.asked:
        wrong.append(f"the run sent {facts.ids} distinct records and rejected {facts.refused}, expected {facts.asked}")
    if facts.ids > facts.asked:
        wrong.append(f"the run sent {facts.ids} distinct records, expected {facts.asked}: a retry sent different ones")
    if facts.rejects != bool(facts.rejected):
        wrong.append(
            "no record was rejected, some were expected" if facts.rejects else f"{facts.rejected} records were rejected"
        )
    return wrong


def _of_recovery(facts: Facts) -> list[str]:
    wrong = []
    if facts.run_state != "success":
        wrong.append(f"the run ended in state {facts.run_state or 'unknown'}")
    if facts.recovered_s is None or facts.recovered_s > RECOVER_S:
        took = "never recovered" if facts.recovered_s is None else f"recovered after {facts.recovered_s:g} s"
        wrong.append(f"the stream {took}, expected within {RECOVER_S:g} s")
    wrong += [f"no log line matches: {pattern}" for pattern in facts.hidden]
    return wrong
