"""Faults of the Spark job's checkpoint: corrupt files, a second job."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from penstock import remedies
from penstock.drill.plan import Drill, LogEvidence
from penstock.drill.target import Target, find_free_port, kill_processes
from penstock.errors import PenstockError, StackError
from penstock.stack import catalog
from penstock.stack.environment import read_environment
from penstock.stack.supervise import MARKER, filter_environment

JOB = "spark-job"
SECOND = "drill-second-job"
_REFUSED_S = 90.0


@contextmanager
def truncate_checkpoint(target: Target) -> Iterator[None]:
    """Kill the job and truncate the newest files of its checkpoint to half. The job is started again at the end."""
    processes = target.tree(JOB)
    try:
        target.supervisor.stop(JOB)
        kill_processes(processes)
        target.stop(JOB)
        for kind in ("offsets", "commits"):
            _truncate_file(find_newest(Path(target.settings.checkpoint) / target.pipeline.topic / kind), target)
        yield
    finally:
        target.start(JOB)


def find_newest(folder: Path) -> Path:
    """Return the file of the highest batch. Raises `StackError` if there is none."""
    batches = [path for path in folder.glob("*") if path.name.isdigit()]
    if not batches:
        raise StackError(f"no batch in {folder}", hint=remedies.show_status("spark-job"))
    return max(batches, key=lambda path: int(path.name))


def _truncate_file(path: Path, target: Target) -> None:
    size_bytes = path.stat().st_size
    os.truncate(path, size_bytes // 2)
    target.say(f"truncated {path.parent.name}/{path.name} from {size_bytes} to {size_bytes // 2} bytes")


@contextmanager
def start_second_job(target: Target) -> Iterator[None]:
    """Start a second job on the same checkpoint. Raises `PenstockError` unless it is refused."""
    log = target.layout.log(SECOND)
    with log.open("ab") as output:
        job = _start_second(target, output.fileno())
        try:
            code = job.wait(_REFUSED_S)
        except subprocess.TimeoutExpired:
            raise PenstockError(f"the second job is still running after {_REFUSED_S:g} s", hint=f"read {log}") from None
        finally:
            job.kill()
            job.wait()
    if not code:
        raise PenstockError("the second job exited with code 0 instead of being refused", hint=f"read {log}")
    target.say(f"the second job exited with code {code}")
    yield


def _start_second(target: Target, output: int) -> "subprocess.Popen[bytes]":
    service = catalog.build_services(read_environment(target.settings))[JOB]
    own = {"PENSTOCK_SPARK_JOB_UI_PORT": str(find_free_port()), MARKER: target.layout.marker}
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
        "the job is killed and the newest files of its checkpoint are truncated to half",
        truncate_checkpoint,
        evidence=(LogEvidence("spark-job.log", r"torn|corrupt"),),
    ),
    Drill(
        "second-job",
        "a second job is started on the checkpoint of the first and must be refused",
        start_second_job,
        evidence=(LogEvidence(f"{SECOND}.log", r"another job owns the checkpoint"),),
    ),
)
