"""Faults of the Spark job's checkpoint: corrupt files, a second job."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from penstock import remedies
from penstock.drill.plan import Drill, LogEvidence
from penstock.drill.target import Ground, free_port, kill
from penstock.errors import PenstockError, StackError
from penstock.stack import catalog
from penstock.stack.environment import read_environment
from penstock.stack.supervise import MARKER, filter_environment

JOB = "spark-job"
SECOND = "drill-second-job"
_REFUSED_S = 90.0


@contextmanager
def torn(ground: Ground) -> Iterator[None]:
    """Kill the job and truncate the newest files of its checkpoint to half. The job is started again at the end."""
    processes = ground.tree(JOB)
    try:
        ground.supervisor.stop(JOB)
        kill(processes)
        ground.stop(JOB)
        for kind in ("offsets", "commits"):
            _truncate_file(newest(Path(ground.settings.checkpoint) / ground.pipeline.topic / kind), ground)
        yield
    finally:
        ground.start(JOB)


def newest(folder: Path) -> Path:
    """Return the file of the highest batch. Raises `StackError` if there is none."""
    batches = [path for path in folder.glob("*") if path.name.isdigit()]
    if not batches:
        raise StackError(f"{folder} holds no batch", hint=remedies.show_status("spark-job"))
    return max(batches, key=lambda path: int(path.name))


def _truncate_file(path: Path, ground: Ground) -> None:
    size_bytes = path.stat().st_size
    os.truncate(path, size_bytes // 2)
    ground.say(f"cut {path.parent.name}/{path.name} from {size_bytes} to {size_bytes // 2} bytes")


@contextmanager
def second_job(ground: Ground) -> Iterator[None]:
    """Start a second job on the same checkpoint. Raises `PenstockError` unless it is refused."""
    log = ground.layout.log(SECOND)
    with log.open("ab") as output:
        job = _start_second(ground, output.fileno())
        try:
            code = job.wait(_REFUSED_S)
        except subprocess.TimeoutExpired:
            raise PenstockError(f"the second job still runs after {_REFUSED_S:g} s", hint=f"read {log}") from None
        finally:
            job.kill()
            job.wait()
    if not code:
        raise PenstockError("the second job ended as if all were well", hint=f"read {log}")
    ground.say(f"the second job ended with exit code {code}")
    yield


def _start_second(ground: Ground, output: int) -> "subprocess.Popen[bytes]":
    service = catalog.build_services(read_environment(ground.settings))[JOB]
    own = {"PENSTOCK_SPARK_JOB_UI_PORT": str(free_port()), MARKER: ground.layout.marker}
    return subprocess.Popen(
        service.command,
        env={**filter_environment(os.environ), **service.env, **own},
        cwd=service.directory,
        stdout=output,
        stderr=output,
    )


DRILLS = (
    Drill(
        "torn-checkpoint",
        "the job is killed and the newest files of its checkpoint are cut in half",
        torn,
        evidence=(LogEvidence("spark-job.log", r"torn"),),
    ),
    Drill(
        "second-job",
        "a second job is started on the checkpoint of the first and must be refused",
        second_job,
        evidence=(LogEvidence(f"{SECOND}.log", r"another job owns the checkpoint"),),
    ),
)
