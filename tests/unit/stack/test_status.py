"""Details that status shows next to the state of a service."""

from pathlib import Path

import pytest

from penstock import pipelines
from penstock.process.checkpoint import CheckpointOrigin, checkpoint_of
from penstock.stack import catalog, status
from penstock.stack.environment import StackEnvironment
from penstock.stack.service import Service
from penstock.stack.supervise import Restarts


@pytest.fixture
def job(environment: StackEnvironment) -> Service:
    return catalog.build_services(environment)["spark-job"]


def test_status_says_that_the_job_resumed_from_the_ledger(
    environment: StackEnvironment, job: Service, tmp_path: Path
) -> None:
    """The note is shown, because nobody requested that. A job that resumes from its checkpoint has no note."""
    settings = environment.settings.model_copy(update={"spark_checkpoint": str(tmp_path)})
    checkpoint = checkpoint_of(settings, pipelines.of(settings).topic)
    assert status._build_status(settings, job, None, Restarts()).detail == ""
    checkpoint.begin_at(CheckpointOrigin(topic_id="id-1", start={0: 3}, note="resumed from the ledger"))
    assert status._build_status(settings, job, None, Restarts()).detail == "resumed from the ledger"


def test_a_remote_checkpoint_has_no_note(environment: StackEnvironment, job: Service) -> None:
    """A checkpoint that only Spark can read does not make `status` fail."""
    settings = environment.settings.model_copy(update={"spark_checkpoint": "hdfs://name/c"})
    assert status._build_status(settings, job, None, Restarts()).detail == ""
