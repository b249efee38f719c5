"""An application context without services, for code that only reads the last poll."""

import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from penstock import pipelines
from penstock.airflow.runs import DagRun
from penstock.config import Settings
from penstock.contract.latency import build_histogram
from penstock.monitoring.alerts import AlertChange
from penstock.monitoring.monitor import PipelineState
from penstock.monitoring.snapshot import Counts, PartitionProgress, Snapshot

SERVICES = {"kafka": "", "registry": "", "cassandra": "", "airflow": "away", "spark-job": ""}
ALERT = AlertChange(
    "lag", "warning", "users_created", "too many", "./penstock status", number=1, at="", change="firing", since=""
)
RECEIPT = {"at": "2025-01-01T00:00:00+00:00", "balanced": False, "missing": 2, "expired": 3, "warnings": []}


def run(number: int, fetched: int | None = 5) -> DagRun:
    """Return a run that fetched this many records; None: an active run."""
    state = "success" if fetched is not None else "running"
    return DagRun(f"run-{number}", state, "manual", None, None, None, {}, 5, fetched, fetched, 0)


def snapshot(at_s: float | None = None) -> Snapshot:
    """Return a snapshot in which everything is known."""
    return Snapshot(
        at_s=time.time() if at_s is None else at_s,
        topic="users_created",
        services=SERVICES,
        counts=Counts(10, 9, 8, 7, 6, 5),
        lag_records=3,
        topic_records=4,
        dead_letter_records=2,
        p50_ms=20,
        p99_ms=40,
        partitions=[PartitionProgress(0, 0, 5, 3), PartitionProgress(1, 0, 5, None)],
    )


def unknown() -> Snapshot:
    """Return a snapshot while Kafka and Cassandra are unavailable."""
    return replace(
        snapshot(), counts=Counts(), lag_records=None, topic_records=None, dead_letter_records=None, partitions=[]
    )


def state(*snapshots: Snapshot) -> PipelineState:
    """Return the state after these snapshots."""
    return PipelineState(
        snapshots=list(snapshots),
        runs=[run(2), run(1)],
        run_totals={"fetched": 10, "produced": 10, "refused": 0, "bytes": 200},
        alerts=[ALERT],
        receipt=RECEIPT,
        latencies=build_histogram([15, 30, 30, 10**11]),
    )


def context(settings: Settings, result: PipelineState) -> Any:
    """Return a context whose last poll resulted in this state."""
    pipeline = pipelines.of(settings)
    made = SimpleNamespace(
        settings=settings,
        pipeline=pipeline,
        keyspace=pipeline.keyspace,
        state=result,
        kafka=None,
        host=SimpleNamespace(is_local=False),
    )
    made.get_shared = lambda make: make(made)
    return made
