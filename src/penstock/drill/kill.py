"""SIGKILL of one process under load. The supervisor, Spark's master or Airflow starts it again: no hand is laid on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

from penstock.drill.ground import Ground, kill
from penstock.drill.plan import Drill, Evidence, Fault
from penstock.errors import Unreachable
from penstock.retry import wait_until

Find = Callable[[Ground], psutil.Process]
_FIND_S = 60.0


def _service(name: str) -> Find:
    return lambda ground: ground.process(name)


def _driver(ground: Ground) -> psutil.Process:
    """The JVM of the job, in which Spark's driver runs."""
    return _java_below(ground, "spark-job")


def _executor(ground: Ground) -> psutil.Process:
    """The JVM that the worker started for the job."""
    return _java_below(ground, "spark-worker")


def _java_below(ground: Ground, service: str) -> psutil.Process:
    return _newest(ground.tree(service)[1:], lambda one: "java" in one.name(), f"{service} has no JVM below it")


def _task(ground: Ground) -> psutil.Process:
    """The process in which Airflow carries out the DAG's task: a grandchild of the scheduler."""
    tree = ground.tree("airflow-scheduler")
    return _newest(tree[1:], lambda one: one.ppid() != tree[0].pid, "Airflow carries out no task")


def _newest(among: list[psutil.Process], is_meant: Callable[[psutil.Process], bool], otherwise: str) -> psutil.Process:
    """The newest process that is meant. Raises `Unreachable` when there is none, or one ends while it is looked at."""
    try:
        found = sorted(filter(is_meant, among), key=psutil.Process.create_time)
    except psutil.NoSuchProcess:
        found = []
    if not found:
        raise Unreachable(otherwise)
    return found[-1]


def killed(find: Find) -> Fault:
    """The fault of killing what `find` gives."""

    @contextmanager
    def fault(ground: Ground) -> Iterator[None]:
        victim = wait_until(lambda: find(ground), timeout_s=_FIND_S, what="a process to kill")
        ground.say(f"SIGKILL of {victim.pid}: {victim.name()}")
        kill([victim])
        yield

    return fault


def _of_service(name: str, service: str, what: str) -> Drill:
    evidence = Evidence("supervisor.log", rf"exited: {service} \(terminated by SIGKILL")
    return Drill(name, what, killed(_service(service)), evidence=(evidence,))


DRILLS = (
    Drill(
        "kill-driver",
        "SIGKILL of the JVM that drives the Spark job",
        killed(_driver),
        evidence=(Evidence("supervisor.log", r"exited: spark-job \("),),
    ),
    Drill(
        "kill-executor",
        "SIGKILL of the job's executor",
        killed(_executor),
        evidence=(Evidence("spark-job.log", r"Lost executor|Command exited with code 137"),),
    ),
    _of_service("kill-worker", "spark-worker", "SIGKILL of Spark's worker"),
    _of_service("kill-kafka", "kafka", "SIGKILL of Kafka"),
    _of_service("kill-cassandra", "cassandra", "SIGKILL of Cassandra"),
    _of_service("kill-registry", "registry", "SIGKILL of the schema registry"),
    _of_service("kill-scheduler", "airflow-scheduler", "SIGKILL of Airflow's scheduler"),
    Drill(
        "kill-task",
        "SIGKILL of the DAG's task while it sends; its retry sends the same users and no others",
        killed(_task),
        evidence=(Evidence("airflow*/**/*", r"(?i)sigkill|exit_code=-9|signal=-?9|exit.code.{1,8}-9"),),
    ),
)
