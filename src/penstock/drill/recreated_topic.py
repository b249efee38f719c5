"""A topic that is deleted and recreated under the job, and soon has more records than before."""

import time
from itertools import islice

import msgspec

from penstock.broker import topics
from penstock.broker.admin import delete_topic
from penstock.broker.kafka import create_admin
from penstock.contract.record import Record
from penstock.drill import load, record_checks
from penstock.drill.plan import LogEvidence
from penstock.drill.runner import PATIENCE_S, READY_AGAIN_S
from penstock.drill.target import Target
from penstock.drill.verdict import Facts, Result
from penstock.errors import PenstockError, Unreachable
from penstock.process.checkpoint import CheckpointOrigin, checkpoint_of
from penstock.reconcile.auditor import Auditor
from penstock.retry import wait_until
from penstock.sink import cassandra

NAME = "recreate-topic"
WHAT = "the topic is deleted, with its records, and recreated under the job: it stops, and reads all of the new topic"
JOB = "spark-job"
_REFUSED = LogEvidence("spark-job.log", r"deleted and recreated|another topic of this name")


class Recreation:
    """A run of the drill."""

    def __init__(self, target: Target, records: int) -> None:
        self._target = target
        self._topic = target.pipeline.topic
        self.facts = Facts(NAME, asked=records, run_state="success")
        self.step = ""

    def go(self) -> None:
        """Run all steps. Raises the `PenstockError` of the first that fails; the job runs afterwards."""
        self._start_step("stack")
        self._target.up()
        self._start_step("load", "half of the users")
        users = self._store_half()
        marks = record_checks.read_log_sizes(self._target.layout.logs)
        self._start_step("fault", "the topic is recreated, with all of the users")
        self._recreate_topic(users)
        wait_until(lambda: self._check_refused(marks), timeout_s=PATIENCE_S, every_s=0.5, what="the job to stop")
        self._start_step("repair", "checkpoint reset")
        self._reset_checkpoint()
        self._wait_for_recovery()
        self._start_step("checks")
        self._check_outcome()

    def _start_step(self, step: str, detail: str = "") -> None:
        self.step = step
        self._target.say(f"{NAME}: {step} {detail}".rstrip())

    def _store_half(self) -> list[Record]:
        direct = load.Direct(self._target, NAME)
        users = list(islice(direct.users, self.facts.asked))
        sent = direct.send_at((user, 0) for user in users[: len(users) // 2])
        stored = load.ranges_of(sent)
        wait_until(
            lambda: record_checks.check_stored(self._target.settings, stored),
            timeout_s=PATIENCE_S,
            what="the first half",
        )
        return users

    def _recreate_topic(self, users: list[Record]) -> None:
        """Delete the topic and create it again, then send every user, those of the old topic in a newer version."""
        settings, client = self._target.settings, create_admin(self._target.settings)
        before = topics.describe_topic(client, self._topic, settings).id
        delete_topic(client, settings, self._topic)

        def check_new() -> None:
            topics.ensure_pipeline_topics(settings, self._target.pipeline)
            if topics.describe_topic(client, self._topic, settings).id == before:
                raise Unreachable(f"{self._topic} is not deleted yet")

        wait_until(check_new, timeout_s=PATIENCE_S, every_s=0.2, what="the topic to be recreated")
        newer = (msgspec.structs.replace(user, nationality="XX") for user in users)
        load.Direct(self._target, NAME).send_at((user, 0) for user in newer)

    def _check_refused(self, marks: record_checks.LogSizes) -> None:
        if record_checks.find_unmatched(self._target.layout.logs, marks, [_REFUSED]):
            raise Unreachable("the job has not reported that the topic was recreated")

    def _reset_checkpoint(self) -> None:
        """Do what `checkpoint reset --to earliest` does, and start the job."""
        settings = self._target.settings
        self._target.stop(JOB)
        try:
            topic_id = topics.fetch_topic_id(settings, self._topic)
            checkpoint_of(settings, self._topic).begin_at(CheckpointOrigin(topic_id=topic_id))
        finally:
            self._target.start(JOB)

    def _wait_for_recovery(self) -> None:
        self._start_step("recovery")
        began, ranges = time.monotonic(), self._target.ranges()
        wait_until(
            lambda: record_checks.check_stored(self._target.settings, ranges),
            timeout_s=PATIENCE_S,
            every_s=0.5,
            what="the records of the new topic",
        )
        self.facts.recovered_s = round(time.monotonic() - began, 1)

    def _check_outcome(self) -> None:
        with cassandra.open_session(self._target.settings) as session:
            audit = Auditor(self._target.settings, session).audit(self._target.ranges())
        record_checks.set_audit(self.facts, audit)
        self.facts.ids = audit.known_ids
        wait_until(self._target.check_ready, timeout_s=READY_AGAIN_S, what="the stack after the drill")


def run_recreation(target: Target, records: int) -> Result:
    """Run the drill with this number of users and return its result."""
    recreation = Recreation(target, records)
    try:
        recreation.go()
    except PenstockError as error:
        recreation.facts.failure = f"{recreation.step}: {error.message}"
    return recreation.facts.result()
