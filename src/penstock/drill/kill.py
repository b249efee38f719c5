"""SIGKILL of one process under load. Recovery is automatic, by the supervisor, Spark's master or Airflow."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

from penstock.drill.plan import Drill, Fault, LogEvidence
from penstock.drill.target import Target, kill_processes
from penstock.errors import Unreachable
from penstock.retry import wait_until

Find = Callable[[Target], psutil.Process]
_FIND_S = 60.0


def _find_service(name: str) -> Find:
    return lambda target: target.process(name)


def _find_driver(target: Target) -> psutil.Process:
    """Return the JVM of the Spark driver."""
    return _find_jvm(target, "spark-job")


def _find_executor(target: Target) -> psutil.Process:
    """Return the JVM of the executor that the worker started for the job."""
    return _find_jvm(target, "spark-worker")


def _find_jvm(target: Target, service: str) -> psutil.Process:
    return _find_newest(
        target.tree(service)[1:], lambda process: "java" in process.name(), f"no JVM is running under {service}"
    )


def _find_task(target: Target) -> psutil.Process:
    """Return the process that runs the DAG's task: a grandchild of Airflow's scheduler."""
    tree = target.tree("airflow-scheduler")
    return _find_newest(tree[1:], lambda process: process.ppid() != tree[0].pid, "Airflow is running no task")


def _find_newest(
    processes: list[psutil.Process], is_wanted: Callable[[psutil.Process], bool], message: str
) -> psutil.Process:
    """Return the newest matching process. Raises `Unreachable` if there is none, or one exits during the search."""
    try:
        matches = sorted(filter(is_wanted, processes), key=psutil.Process.create_time)
    except psutil.NoSuchProcess:
        matches = []
    if not matches:
        raise Unreachable(message)
    return matches[-1]


def kill_process(find: Find) -> Fault:
    """Return the fault that kills the process returned by `find`."""

    @contextmanager
    def fault(target: Target) -> Iterator[None]:
        victim = wait_until(lambda: find(target), timeout_s=_FIND_S, what="a process to kill")
        target.say(f"SIGKILL of {victim.pid}: {victim.name()}")
        kill_processes([victim])
        yield

    return fault


def _make_drill(name: str, service: str, what: str) -> Drill:
    evidence = LogEvidence("supervisor.log", rf"exited: {service} \(terminated by SIGKILL")
    return Drill(name, what, kill_process(_find_service(service)), evidence=(evidence,))


DRILLS = (
    Drill(
        "kill-driver",
        "SIGKILL of the JVM that drives the Spark job",
        kill_process(_find_driver),
        evidence=(LogEvidence("supervisor.log", r"exited: spark-job \("),),
    ),
    Drill(
        "kill-executor",
        "SIGKILL of the job's executor",
        kill_process(_find_executor),
        evidence=(LogEvidence("spark-job.log", r"Lost executor|Command exited with code 137"),),
    ),
    _make_drill("kill-worker", "spark-worker", "SIGKILL of Spark's worker"),
    _make_drill("kill-kafka", "kafka", "SIGKILL of Kafka"),
    _make_drill("kill-cassandra", "cassandra", "SIGKILL of Cassandra"),
    _make_drill("kill-registry", "registry", "SIGKILL of the schema registry"),
    _make_drill("kill-scheduler", "airflow-scheduler", "SIGKILL of Airflow's scheduler"),
    Drill(
        "kill-task",
        "SIGKILL of the DAG's task while it sends; its retry sends the same users and no others",
        kill_process(_find_task),
        evidence=(LogEvidence("airflow*/**/*", r"(?i)sigkill|exit_code=-9|signal=-?9|exit.code.{1,8}-9"),),
    ),
)
