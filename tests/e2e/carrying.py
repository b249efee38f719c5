"""Carry the records of a pipeline file of its own: the DAG's task, and a Spark job on the master."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from penstock import config, pipelines
from penstock.broker import topics
from penstock.config import Settings
from penstock.errors import Unreachable
from penstock.reconcile.auditor import Auditor
from penstock.retry import wait_until
from penstock.sink import cassandra
from penstock.stack import catalog
from penstock.stack.environment import read_environment
from tests.conftest import ROOT, Stack


@contextmanager
def carry(
    stack: Stack, pipeline: Path, api: str, work: Path, free_port: int, *, records: int, **more: str
) -> Iterator[tuple[Settings, "subprocess.Popen[bytes]"]]:
    """Yield the settings and a running Spark job, once it stored all `records` that a run of the DAG sent."""
    environment = {
        "PENSTOCK_PIPELINE": str(pipeline),
        "PENSTOCK_SPARK_CHECKPOINT": str(work / "checkpoint"),
        "PENSTOCK_SPARK_JOB_UI_PORT": str(free_port),
    } | more
    settings = config.read(
        **{name.removeprefix("PENSTOCK_").lower(): value for name, value in (stack.environment | environment).items()}
    )
    with spark_job(stack, environment, work) as job:
        run_dag(stack, environment, work, api, records)
        wait_until_stored(settings, job, records)
        yield settings, job


def wait_until_stored(settings: Settings, job: "subprocess.Popen[bytes]", records: int) -> None:
    """Wait until the job has processed at least `records` records, and all that are in the topic."""
    wait_until(lambda: _all_covered(settings, job, records), timeout_s=120, what="every record to be stored")


@contextmanager
def spark_job(stack: Stack, environment: dict[str, str], work: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """spark_stream.py on the stack's standalone master; SIGTERM at the end must stop it gracefully."""
    service = catalog.build_services(read_environment(stack.settings))["spark-job"]
    log = work / "spark-job.log"
    with log.open("w") as output:
        job = subprocess.Popen(
            [sys.executable, "spark_stream.py"],
            env=os.environ | dict(service.env) | environment,
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield job
    finally:
        job.send_signal(signal.SIGTERM)
        code = job.wait(90)
    assert code == 0, log.read_text()[-4000:]
    assert "stopped" in log.read_text()


def run_dag(stack: Stack, environment: dict[str, str], work: Path, api: str, records: int) -> None:
    """Run the DAG with Airflow itself in this process, with a separate database."""
    own = os.environ | stack.environment | environment
    own |= {
        "AIRFLOW_HOME": str(work / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
    }
    airflow = str(Path(sys.executable).parent / "airflow")
    order = json.dumps({"records": records, "source_url": api})
    commands = (
        [airflow, "db", "migrate"],
        [
            airflow,
            "dags",
            "test",
            "user_automation",
            "--dagfile-path",
            str(ROOT / "dags" / "kafka_producer.py"),
            "-c",
            order,
        ],
    )
    for command in commands:
        done = subprocess.run(command, env=own, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"


def _all_covered(settings: Settings, job: "subprocess.Popen[bytes]", records: int) -> None:
    assert job.poll() is None, "the Spark job ended"
    topic = pipelines.of(settings).topic
    spans = topics.fetch_offset_ranges(settings, topic)
    with cassandra.open_session(settings) as session:
        waiting = Auditor(settings, session).waiting(spans)
    if waiting or sum(span.records for span in spans) < records:
        raise Unreachable(f"{waiting} waiting of {spans}")
