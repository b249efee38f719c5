"""Spark: standalone master and worker from the pyspark wheel, and the job."""

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from penstock import pipelines, remedies
from penstock.config import Settings
from penstock.errors import PenstockError, StackError
from penstock.process.checkpoint import checkpoint_of
from penstock.stack import java, probes, stuck
from penstock.stack.service import ConfigFile, Service, render
from penstock.stack.site import Site, read

VERSION = version("pyspark")
GROUP = "spark"
_LOCAL_FILES = "com.globalmentor:hadoop-bare-naked-local-fs:0.1.0"
"""A local file system for Hadoop that does not fork to set permissions, which took a tenth of each micro-batch."""
JARS = {GROUP: (f"org.apache.spark:spark-sql-kafka-0-10_2.13:{VERSION}", _LOCAL_FILES)}
WORKER_CORES = 2
_OVERHEAD_MIB = 384


def home() -> Path:
    """Return SPARK_HOME: the folder of the pyspark package."""
    spec = find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("pyspark")
    return Path(spec.origin).parent


def services(site: Site) -> list[Service]:
    """Return the master, the worker and the job."""
    return [_build_master(site), _build_worker(site), _build_job(site)]


def environment(site: Site) -> dict[str, str]:
    """Return the environment variables of all Spark processes, including the job's Python."""
    return {
        "JAVA_HOME": str(java.spark_home(site.layout)),
        "MALLOC_ARENA_MAX": "2",
        "PYSPARK_PYTHON": site.python,
        "PYSPARK_DRIVER_PYTHON": site.python,
        "SPARK_CONF_DIR": str(_conf_folder(site)),
        "SPARK_HOME": str(home()),
        "SPARK_LOCAL_DIRS": str(site.layout.data / "spark-local"),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_SCALA_VERSION": "2.13",  # otherwise a worker searches for Spark's source tree to detect it
    }


def environment_of(settings: Settings) -> dict[str, str]:
    """Return the environment variables for a process that starts its own Spark.

    Raises `StackError` if the stack's Spark was never set up.
    """
    site = read(settings)
    if not (_conf_folder(site) / "spark-defaults.conf").exists():
        raise StackError(
            "the local stack's Spark was never started", hint=f"{remedies.start('spark-job')}, or set SPARK_CONF_DIR"
        )
    return environment(site)


def _conf_folder(site: Site) -> Path:
    return site.layout.run / "spark-conf"


def files(site: Site) -> tuple[ConfigFile, ...]:
    """Return the configuration files that the environment variables refer to."""
    settings, conf = site.settings, _conf_folder(site)
    text = render(
        "spark-defaults.conf",
        secret=site.secrets["spark_rpc_secret"],
        jars=site.layout.jars / GROUP,
        recovery=site.layout.data / "spark-recovery",
        job_ui_port=settings.spark_job_ui_port,
        cores=settings.spark_cores,
        driver_mib=settings.spark_driver_memory_mib,
        executor_mib=settings.spark_executor_memory_mib,
    )
    return (
        ConfigFile(conf / "spark-defaults.conf", text),
        ConfigFile(conf / "daemon.options", render("spark-daemon.options")),
        ConfigFile(conf / "log4j2.properties", render("spark-log4j2.properties")),
        ConfigFile(java.spark_home(site.layout) / "bin" / "java", java.spark_wrapper(site.layout, site.java), 0o700),
    )


def _daemon_command(site: Site, main: str, *arguments: str) -> tuple[str, ...]:
    """Return a daemon's command. Skips Spark's launch script, which starts a second JVM to compute these options."""
    return (
        site.java.command,
        f"-Xmx{site.settings.spark_daemon_heap_mib}m",
        java.temporary(site.layout),
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        f"@{_conf_folder(site) / 'daemon.options'}",
        "-cp",
        f"{_conf_folder(site)}:{home() / 'jars'}/*",
        f"org.apache.spark.deploy.{main}",
        "--host",
        "127.0.0.1",
        *arguments,
    )


def _build_master(site: Site) -> Service:
    settings = site.settings
    ports = ("--port", str(settings.spark_port), "--webui-port", str(settings.spark_ui_port))
    return Service(
        name="spark-master",
        title="Spark master",
        version=VERSION,
        ports=("spark_port", "spark_ui_port"),
        files=files(site),
        folders=(site.layout.data / "spark-local", site.layout.data / "spark-recovery"),
        command=_daemon_command(site, "master.Master", *ports),
        env=environment(site),
        directory=site.layout.run,
        probe=probes.spark_master,
        memory_mib=settings.spark_daemon_heap_mib + 80,
        page=f"http://127.0.0.1:{settings.spark_ui_port}",
        hint=remedies.show_logs("spark-master"),
    )


def _build_worker(site: Site) -> Service:
    settings, work = site.settings, site.layout.data / "spark-work"
    memory_mib = settings.spark_executor_memory_mib + _OVERHEAD_MIB
    return Service(
        name="spark-worker",
        title="Spark worker",
        version=VERSION,
        ports=("spark_worker_ui_port",),
        needs=("spark-master",),
        files=files(site),
        folders=(work, site.layout.data / "spark-local"),
        command=_daemon_command(
            site,
            "worker.Worker",
            *("--webui-port", str(settings.spark_worker_ui_port)),
            *("--cores", str(WORKER_CORES), "--memory", f"{memory_mib}m", "--work-dir", str(work)),
            f"spark://127.0.0.1:{settings.spark_port}",
        ),
        env=environment(site),
        directory=site.layout.run,
        probe=probes.spark_worker,
        memory_mib=settings.spark_daemon_heap_mib + 80 + memory_mib,
        page=f"http://127.0.0.1:{settings.spark_worker_ui_port}",
        hint=remedies.show_logs("spark-worker"),
    )


def _build_job(site: Site) -> Service:
    settings = site.settings
    return Service(
        name="spark-job",
        title="Spark job",
        version=VERSION,
        ports=("spark_job_ui_port",),
        needs=("kafka", "registry", "cassandra", "spark-worker"),
        jars=(GROUP,),
        files=files(site),
        folders=(site.layout.data / "spark-local",),
        command=(site.python, str(site.repository / "spark_stream.py")),
        env={**site.child_environment(), **environment(site)},
        directory=site.repository,
        probe=probes.spark_job,
        note=_note_of_checkpoint,
        trouble=stuck.read,
        stop_wait_s=60,
        memory_mib=settings.spark_driver_memory_mib + 250,
        page=f"http://127.0.0.1:{settings.spark_job_ui_port}",
        hint=remedies.show_logs("spark-job"),
    )


def _note_of_checkpoint(settings: Settings) -> str:
    """Return why the job started where it did if nobody requested that, or '' if the reason is unknown here."""
    try:
        return checkpoint_of(settings, pipelines.of(settings).topic).origin().note
    except PenstockError:
        return ""
