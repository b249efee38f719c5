"""Spark: standalone master and worker from the pyspark wheel, and the job."""

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from penstock import pipelines, remedies
from penstock.config import Settings
from penstock.errors import PenstockError, StackError
from penstock.process.checkpoint import checkpoint_of
from penstock.stack import java, probes, stuck
from penstock.stack.environment import StackEnvironment, read_environment
from penstock.stack.service import ConfigFile, Service, render_template

VERSION = version("pyspark")
GROUP = "spark"
_LOCAL_FILES = "com.globalmentor:hadoop-bare-naked-local-fs:0.1.0"
"""A local file system for Hadoop that does not fork to set permissions, which took a tenth of each micro-batch."""
JARS = {GROUP: (f"org.apache.spark:spark-sql-kafka-0-10_2.13:{VERSION}", _LOCAL_FILES)}
WORKER_CORES = 2
_OVERHEAD_MIB = 384


def find_spark_home() -> Path:
    """Return SPARK_HOME: the folder of the pyspark package."""
    spec = find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("pyspark")
    return Path(spec.origin).parent


def build_services(environment: StackEnvironment) -> list[Service]:
    """Return the master, the worker and the job."""
    return [_build_master(environment), _build_worker(environment), _build_job(environment)]


def build_env(environment: StackEnvironment) -> dict[str, str]:
    """Return the environment variables of all Spark processes, including the job's Python."""
    return {
        "JAVA_HOME": str(java.spark_home(environment.layout)),
        "MALLOC_ARENA_MAX": "2",
        "PYSPARK_PYTHON": environment.python,
        "PYSPARK_DRIVER_PYTHON": environment.python,
        "SPARK_CONF_DIR": str(_conf_folder(environment)),
        "SPARK_HOME": str(find_spark_home()),
        "SPARK_LOCAL_DIRS": str(environment.layout.data / "spark-local"),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_SCALA_VERSION": "2.13",  # otherwise a worker searches for Spark's source tree to detect it
    }


def build_env_from_settings(settings: Settings) -> dict[str, str]:
    """Return the environment variables for a process that starts its own Spark.

    Raises `StackError` if the stack's Spark was never set up.
    """
    environment = read_environment(settings)
    if not (_conf_folder(environment) / "spark-defaults.conf").exists():
        raise StackError(
            "the local stack's Spark was never started", hint=f"{remedies.start('spark-job')}, or set SPARK_CONF_DIR"
        )
    return build_env(environment)


def _conf_folder(environment: StackEnvironment) -> Path:
    return environment.layout.run / "spark-conf"


def render_files(environment: StackEnvironment) -> tuple[ConfigFile, ...]:
    """Return the configuration files that the environment variables refer to."""
    settings, conf = environment.settings, _conf_folder(environment)
    text = render_template(
        "spark-defaults.conf",
        secret=environment.secrets["spark_rpc_secret"],
        jars=environment.layout.jars / GROUP,
        recovery=environment.layout.data / "spark-recovery",
        job_ui_port=settings.spark_job_ui_port,
        cores=settings.spark_cores,
        driver_mib=settings.spark_driver_memory_mib,
        executor_mib=settings.spark_executor_memory_mib,
    )
    return (
        ConfigFile(conf / "spark-defaults.conf", text),
        ConfigFile(conf / "daemon.options", render_template("spark-daemon.options")),
        ConfigFile(conf / "log4j2.properties", render_template("spark-log4j2.properties")),
        ConfigFile(
            java.spark_home(environment.layout) / "bin" / "java",
            java.render_spark_wrapper(environment.layout, environment.java),
            0o700,
        ),
    )


def _daemon_command(environment: StackEnvironment, main: str, *arguments: str) -> tuple[str, ...]:
    """Return a daemon's command. Skips Spark's launch script, which starts a second JVM to compute these options."""
    return (
        environment.java.command,
        f"-Xmx{environment.settings.spark_daemon_heap_mib}m",
        java.render_tmpdir_option(environment.layout),
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        f"@{_conf_folder(environment) / 'daemon.options'}",
        "-cp",
        f"{_conf_folder(environment)}:{find_spark_home() / 'jars'}/*",
        f"org.apache.spark.deploy.{main}",
        "--host",
        "127.0.0.1",
        *arguments,
    )


def _build_master(environment: StackEnvironment) -> Service:
    settings = environment.settings
    ports = ("--port", str(settings.spark_port), "--webui-port", str(settings.spark_ui_port))
    return Service(
        name="spark-master",
        title="Spark master",
        version=VERSION,
        ports=("spark_port", "spark_ui_port"),
        files=render_files(environment),
        folders=(environment.layout.data / "spark-local", environment.layout.data / "spark-recovery"),
        command=_daemon_command(environment, "master.Master", *ports),
        env=build_env(environment),
        directory=environment.layout.run,
        probe=probes.probe_spark_master,
        memory_mib=settings.spark_daemon_heap_mib + 80,
        page=f"http://127.0.0.1:{settings.spark_ui_port}",
        hint=remedies.show_logs("spark-master"),
    )


def _build_worker(environment: StackEnvironment) -> Service:
    settings, work = environment.settings, environment.layout.data / "spark-work"
    memory_mib = settings.spark_executor_memory_mib + _OVERHEAD_MIB
    return Service(
        name="spark-worker",
        title="Spark worker",
        version=VERSION,
        ports=("spark_worker_ui_port",),
        needs=("spark-master",),
        files=render_files(environment),
        folders=(work, environment.layout.data / "spark-local"),
        command=_daemon_command(
            environment,
            "worker.Worker",
            *("--webui-port", str(settings.spark_worker_ui_port)),
            *("--cores", str(WORKER_CORES), "--memory", f"{memory_mib}m", "--work-dir", str(work)),
            f"spark://127.0.0.1:{settings.spark_port}",
        ),
        env=build_env(environment),
        directory=environment.layout.run,
        probe=probes.probe_spark_worker,
        memory_mib=settings.spark_daemon_heap_mib + 80 + memory_mib,
        page=f"http://127.0.0.1:{settings.spark_worker_ui_port}",
        hint=remedies.show_logs("spark-worker"),
    )


def _build_job(environment: StackEnvironment) -> Service:
    settings = environment.settings
    return Service(
        name="spark-job",
        title="Spark job",
        version=VERSION,
        ports=("spark_job_ui_port",),
        needs=("kafka", "registry", "cassandra", "spark-worker"),
        jars=(GROUP,),
        files=render_files(environment),
        folders=(environment.layout.data / "spark-local",),
        command=(environment.python, str(environment.repository / "spark_stream.py")),
        env={**environment.child_env(), **build_env(environment)},
        directory=environment.repository,
        probe=probes.probe_spark_job,
        note=_describe_checkpoint,
        problem=stuck.describe_stuck_batches,
        stop_wait_s=60,
        memory_mib=settings.spark_driver_memory_mib + 250,
        page=f"http://127.0.0.1:{settings.spark_job_ui_port}",
        hint=remedies.show_logs("spark-job"),
    )


def _describe_checkpoint(settings: Settings) -> str:
    """Return why the job started where it did if nobody requested that, or '' if the reason is unknown here."""
    try:
        return checkpoint_of(settings, pipelines.of(settings).topic).origin().note
    except PenstockError:
        return ""
