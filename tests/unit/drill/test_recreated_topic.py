"""The verdict on a recreated topic, and what counts as the job's refusal."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from penstock.drill import record_checks, recreated_topic
from penstock.drill.verdict import PASSED
from penstock.errors import Unreachable
from penstock.pipeline.topic_guard import build_recreated_error as recreated_error
from penstock.process.checkpoint import CheckpointOrigin, QueryPosition, find_misfits


@pytest.fixture
def ground(tmp_path: Path) -> Any:
    return SimpleNamespace(
        pipeline=SimpleNamespace(topic="t"), layout=SimpleNamespace(logs=tmp_path), say=lambda _text: None
    )


def make_run(stored: int) -> Any:
    """The result of a drill in which this many users of the new topic were stored."""

    def go(self: recreated_topic.Recreation) -> None:
        self.facts.ids = self.facts.sent = self.facts.asked
        self.facts.stored, self.facts.missing = stored, self.facts.asked - stored
        self.facts.recovered_s = 3.0

    return go


@pytest.mark.parametrize(("stored", "verdict"), [(20, PASSED), (15, "missing records: 5")])
def test_every_user_of_the_new_topic_must_be_stored(
    ground: Any, monkeypatch: pytest.MonkeyPatch, stored: int, verdict: str
) -> None:
    """Those skipped by a job that resumes at its position in the old topic are missing."""
    monkeypatch.setattr(recreated_topic.Recreation, "go", make_run(stored))
    assert recreated_topic.run_recreation(ground, 20).verdict == verdict


def test_a_job_that_does_not_stop_is_the_verdict(ground: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step that failed is named."""

    def go(self: recreated_topic.Recreation) -> None:
        self._start_step("fault")
        self._check_refused({})

    monkeypatch.setattr(recreated_topic.Recreation, "go", go)
    result = recreated_topic.run_recreation(ground, 20)
    assert result.verdict == "fault: the job has not reported that the topic was recreated"


@pytest.mark.parametrize(
    "line",
    [
        recreated_error("t", "its id changed from id-1 to id-2").message,
        *find_misfits(QueryPosition({0: 1}, {0: 1}, begun=True), CheckpointOrigin(topic_id="id-1"), [], "id-2"),
    ],
)
def test_the_jobs_own_messages_count_as_its_refusal(ground: Any, line: str) -> None:
    """Whether it finds the new topic while it reads, or when it restarts."""
    drill = recreated_topic.Recreation(ground, 20)
    log = ground.layout.logs / "spark-job.log"
    log.write_text("batch_stored\n")
    marks = record_checks.read_log_sizes(ground.layout.logs)
    with pytest.raises(Unreachable):
        drill._check_refused(marks)
    log.write_text(f"batch_stored\nspark_stream: {line}\n")
    drill._check_refused(marks)
