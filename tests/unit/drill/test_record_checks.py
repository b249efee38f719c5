"""What the logs say, and what of an audit counts."""

from pathlib import Path

from penstock.drill import record_checks
from penstock.drill.plan import LogEvidence
from penstock.drill.verdict import Facts
from penstock.reconcile.audit import Audit, Balance

KILLED = LogEvidence("supervisor.log", r"exited: kafka \(terminated by SIGKILL")
LINE = "2026-11-23 WARN exited: kafka (terminated by SIGKILL; not expected)\n"


def test_only_what_is_written_since_the_marks_is_evidence(tmp_path: Path) -> None:
    """A fault of an earlier drill does not count for this one."""
    log = tmp_path / "supervisor.log"
    log.write_text(LINE)
    since = record_checks.read_log_sizes(tmp_path)
    assert record_checks.find_unmatched(tmp_path, since, [KILLED]) == [KILLED.pattern]
    log.write_text(LINE + LINE)
    assert record_checks.find_unmatched(tmp_path, since, [KILLED]) == []


def test_a_log_that_is_new_is_evidence(tmp_path: Path) -> None:
    """Each attempt of a task has a log of its own, in folders of its own."""
    since = record_checks.read_log_sizes(tmp_path)
    folder = tmp_path / "airflow" / "run_id=1"
    folder.mkdir(parents=True)
    (folder / "attempt=1.log").write_text("DeliveryFailed")
    assert record_checks.find_unmatched(tmp_path, since, [LogEvidence("airflow/**/*.log", "DeliveryFailed")]) == []


def test_a_log_that_was_rotated_is_read_with_the_one_before(tmp_path: Path) -> None:
    """The line may stand in what was rotated away, or in a file that is shorter than it was."""
    log = tmp_path / "supervisor.log"
    log.write_text("x" * 500)
    since = record_checks.read_log_sizes(tmp_path)
    log.rename(tmp_path / "supervisor.log.1")
    (tmp_path / "supervisor.log").write_text("new\n")
    assert record_checks.find_unmatched(tmp_path, since, [KILLED]) == [KILLED.pattern]
    with (tmp_path / "supervisor.log.1").open("a") as rotated:
        rotated.write(LINE)
    assert record_checks.find_unmatched(tmp_path, since, [KILLED]) == []


def test_what_was_rotated_away_before_its_mark_is_no_evidence(tmp_path: Path) -> None:
    """An old line does not become new by the name of its file, nor by there having been another rotated one."""
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


def test_evidence_in_no_log_is_hidden(tmp_path: Path) -> None:
    """A log that was never written names nothing."""
    assert record_checks.find_unmatched(tmp_path, {}, [KILLED]) == [KILLED.pattern]


def test_what_waits_or_was_filtered_counts_as_missing() -> None:
    """A drill ends when all is stored: what is not, is missing, in whichever way."""
    found = Audit({0: Balance(0, 0, 9, produced=9, stored=4, rejected=1, filtered=1, waiting=1, missing=2, doubled=3)})
    found.named["miscounted"].append({"why": "two, not three"})
    facts = Facts("kill-kafka")
    record_checks.set_audit(facts, found)
    assert (facts.sent, facts.stored, facts.rejected, facts.missing) == (9, 4, 1, 4)
    assert (facts.doubled, facts.differences) == (3, ["two, not three"])
