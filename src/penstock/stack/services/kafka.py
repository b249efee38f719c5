"""Kafka: one node in KRaft mode, or an older version with ZooKeeper."""

from penstock import remedies
from penstock.stack import java, probes
from penstock.stack.environment import StackEnvironment
from penstock.stack.service import ConfigFile, Service, Step, render_template

VERSION = "4.4.0"
VERSION_WITH_ZOOKEEPER = "3.9.2"
ZOOKEEPER_VERSION = "3.8.4"
_LOGGING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5"
JARS = {
    "kafka": (f"org.apache.kafka:kafka_2.13:{VERSION}", _LOGGING),
    "kafka-zookeeper": (f"org.apache.kafka:kafka_2.13:{VERSION_WITH_ZOOKEEPER}", _LOGGING),
}


def build_services(environment: StackEnvironment) -> list[Service]:
    """Return Kafka, preceded by ZooKeeper if that is the coordination."""
    if environment.settings.coordination == "zookeeper":
        return [_build_zookeeper(environment), _kafka_with_zookeeper(environment)]
    return [_build_kafka(environment)]


def _build_java_command(environment: StackEnvironment, group: str, heap_mib: int, *options: str) -> tuple[str, ...]:
    return (
        environment.java.command,
        java.render_tmpdir_option(environment.layout),
        f"-Xms{min(heap_mib, 128)}m",
        f"-Xmx{heap_mib}m",
        "-XX:+UseG1GC",
        "-XX:MaxGCPauseMillis=20",
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.awt.headless=true",
        f"-Dlog4j2.configurationFile={(environment.layout.run / 'kafka-log4j2.xml').as_uri()}",
        *options,
        "-cp",
        f"{environment.layout.jars / group}/*",
    )


def _render_log4j2(environment: StackEnvironment) -> ConfigFile:
    return ConfigFile(environment.layout.run / "kafka-log4j2.xml", render_template("kafka-log4j2.xml"))


def _build_kafka(environment: StackEnvironment) -> Service:
    settings, data, config = (
        environment.settings,
        environment.layout.data / "kafka",
        environment.layout.run / "kafka.properties",
    )
    jvm = _build_java_command(environment, "kafka", settings.kafka_heap_mib)
    cluster_id = environment.secrets["kafka_cluster_id"]
    format_ = (*jvm, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(config))
    text = render_template(
        "kafka.properties", data=data, port=settings.kafka_port, controller=settings.kafka_controller_port
    )
    return Service(
        name="kafka",
        title="Kafka",
        version=VERSION,
        ports=("kafka_port", "kafka_controller_port"),
        jars=("kafka",),
        files=(ConfigFile(config, text + render_template("kafka-common.properties")), _render_log4j2(environment)),
        folders=(data,),
        prepare=(Step("format", format_, done=data / "meta.properties"),),
        command=(*jvm, "kafka.Kafka", str(config)),
        env={"MALLOC_ARENA_MAX": "2"},
        directory=environment.layout.run,
        probe=probes.probe_kafka,
        stop_wait_s=30,
        memory_mib=settings.kafka_heap_mib + 100,
        hint=remedies.show_logs("kafka"),
    )


def _build_zookeeper(environment: StackEnvironment) -> Service:
    settings, data, config = (
        environment.settings,
        environment.layout.data / "zookeeper",
        environment.layout.run / "zookeeper.properties",
    )
    heap_mib = settings.zookeeper_heap_mib
    return Service(
        name="zookeeper",
        title="ZooKeeper",
        version=ZOOKEEPER_VERSION,
        ports=("zookeeper_port",),
        jars=("kafka-zookeeper",),
        files=(
            ConfigFile(config, render_template("zookeeper.properties", data=data, port=settings.zookeeper_port)),
            _render_log4j2(environment),
        ),
        folders=(data,),
        command=(
            *_build_java_command(environment, "kafka-zookeeper", heap_mib, "-Dzookeeper.jmx.log4j.disable=true"),
            "org.apache.zookeeper.server.quorum.QuorumPeerMain",
            str(config),
        ),
        env={"MALLOC_ARENA_MAX": "2", "JMXDISABLE": "true"},
        directory=environment.layout.run,
        probe=probes.probe_zookeeper,
        memory_mib=heap_mib + 60,
        hint=remedies.show_logs("zookeeper"),
    )


def _kafka_with_zookeeper(environment: StackEnvironment) -> Service:
    settings, config = environment.settings, environment.layout.run / "kafka.properties"
    data = environment.layout.data / "kafka-zookeeper"
    text = render_template(
        "kafka-zookeeper.properties", data=data, port=settings.kafka_port, zookeeper=settings.zookeeper_port
    )
    return Service(
        name="kafka",
        title="Kafka",
        version=VERSION_WITH_ZOOKEEPER,
        ports=("kafka_port",),
        needs=("zookeeper",),
        jars=("kafka-zookeeper",),
        files=(ConfigFile(config, text + render_template("kafka-common.properties")), _render_log4j2(environment)),
        folders=(data,),
        command=(
            *_build_java_command(environment, "kafka-zookeeper", settings.kafka_heap_mib),
            "kafka.Kafka",
            str(config),
        ),
        env={"MALLOC_ARENA_MAX": "2"},
        directory=environment.layout.run,
        probe=probes.probe_kafka,
        stop_wait_s=30,
        memory_mib=settings.kafka_heap_mib + 100,
        hint=remedies.show_logs("kafka"),
    )
