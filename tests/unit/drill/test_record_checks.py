"""Evidence in the logs, and what counts in a reconciliation."""

from pathlib import Path

from penstock.drill import record_checks
from penstock.drill.plan import LogEvidence
from penstock.drill.verdict import Facts
from penstock.reconcile.audit import Audit, Balance

KILLED = LogEvidence("supervisor.log", r"exited: kafka \(terminated by SIGKILL")
LINE = "2026-11-23 WARN exited: kafka (terminated by SIGKILL; not expected)\n"


def test_only_lines_after_the_marks_are_evidence(tmp_path: Path) -> None:
    """A fault of an earlier drill does not count for this one."""
    log = tmp_path / "supervisor.log"
    log.write_text(LINE)
    since = record_checks.read_log_sizes(tmp_path)
    assert record_checks.find_unmatched(tmp_path, since, [KILLED]) == [KILLED.pattern]
    log.write_text(LINE + LINE)
    assert record_checks.find_unmatched(tmp_path, since, [KILLED]) == []


def test_a_new_log_is_evidence(tmp_path: Path) -> None:
    """Each attempt of a task has its own log, in its own folders."""
    since = record_checks.read_log_sizes(tmp_path)
    folder = tmp_path / "airflow" / "run_id=1"
    folder.mkdir(parents=True)
    (folder / "attempt=1.log").write_text("DeliveryFailed")
    assert record_checks.find_unmatched(tmp_path, since, [LogEvidence("airflow/**/*.log", "DeliveryFailed")]) == []


def test_a_rotated_log_is_read_with_its_predecessor(tmp_path: Path) -> None:
    """The line may be in the rotated file, or in a file that is shorter than before."""
    log = tmp_path / "supervisor.log"
    log.write_text("x" * 500)
    since = record_checks.read_log_sizes(tmp_path)
    log.rename(tmp_path / "supervisor.log.1")
    (tmp_path / "supervisor.log").write_text("new\n")
    assert record_checks.find_unmatched(tmp_path, since, [KILLED]) == [KILLED.pattern]
    with (tmp_path / "supervisor.log.1").open("a") as rotated:
        rotated.write(LINE)
    assert record_checks.find_unmatched(tmp_path, since, [KILLED]) == []


def test_lines_rotated_before_the_mark_are_no_evidence(tmp_path: Path) -> None:
    """An old line does not become new by the name of its file, nor by another rotated file."""
    log, rotated = tmp_path / "supervisor.log", tmp_path / "supervisor.log.1"
    rotated.write_text(LINE * 3)
    log.write_text(LINE)
    since = record_checks.read_log_sizes(tmp_path)
    rotated.rename(tmp_path / "supervisor.log.2")
    log.rename(rotated)
    log.write_text("new\n")
    assert record_checks.find_unmatched(tmp_path, since, [KILLED]) == [KILLED.pattern]
    with rotated.open("a") as file:
        file.write(LINE)
    assert record_checks.find_unmatched(tmp_path, since, [KILLED]) == []


def test_a_missing_log_contains_no_evidence(tmp_path: Path) -> None:
    """A log that was never written names nothing."""
    assert record_checks.find_unmatched(tmp_path, {}, [KILLED]) == [KILLED.pattern]


def test_pending_and_filtered_records_count_as_missing() -> None:
    """A drill ends when all is stored: what is not, is missing, for whatever reason."""
    result = Audit({0: Balance(0, 0, 9, produced=9, stored=4, rejected=1, filtered=1, waiting=1, missing=2, doubled=3)})
    result.named["miscounted"].append({"why": "two, not three"})
    facts = Facts("kill-kafka")
    record_checks.set_audit(facts, result)
    assert (facts.sent, facts.stored, facts.rejected, facts.missing) == (9, 4, 1, 4)
    assert (facts.doubled, facts.differences) == (3, ["two, not three"])
