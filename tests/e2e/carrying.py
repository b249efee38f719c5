"""Send the captured users as Avro through a separate topic: the DAG's task, and a Spark job on the master."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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


def carry(stack: Stack, pipeline: Path, api: str, work: Path, free_port: int) -> dict[str, dict[str, Any]]:
    """Return the rows of the pipeline's table, once all 30 users went from `api` through the DAG and a Spark job."""
    environment = {
        "PENSTOCK_PIPELINE": str(pipeline),
        "PENSTOCK_WIRE_FORMAT": "avro",
        "PENSTOCK_SPARK_CHECKPOINT": str(work / "checkpoint"),
        "PENSTOCK_SPARK_JOB_UI_PORT": str(free_port),
    }
    settings = config.read(
        **{name.removeprefix("PENSTOCK_").lower(): value for name, value in (stack.environment | environment).items()}
    )
    with spark_job(stack, environment, work) as job:
        run_dag(stack, environment, work, api)
        wait_until(lambda: _all_covered(settings, job), timeout_s=120, what="every user to be stored")
    result = pipelines.of(settings)
    with cassandra.open_session(settings) as session:
        rows = session.execute(f"SELECT * FROM {result.keyspace}.{result.table}")
        return {str(row["id"]): row for row in rows}


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


def run_dag(stack: Stack, environment: dict[str, str], work: Path, api: str) -> None:
    """Run the DAG with Airflow itself in this process, with a separate database."""
    own = os.environ | stack.environment | environment
    own |= {
        "AIRFLOW_HOME": str(work / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
    }
    airflow = str(Path(sys.executable).parent / "airflow")
    order = json.dumps({"records": 30, "source_url": api})
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


def _all_covered(settings: Settings, job: "subprocess.Popen[bytes]") -> None:
    assert job.poll() is None, "the Spark job ended"
    topic = pipelines.of(settings).topic
    spans = topics.fetch_offset_ranges(settings, topic)
    with cassandra.open_session(settings) as session:
        waiting = Auditor(settings, session).waiting(spans)
    if waiting or sum(span.records for span in spans) < 30:
        raise Unreachable(f"{waiting} waiting of {spans}")
