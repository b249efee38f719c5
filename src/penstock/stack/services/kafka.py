"""Kafka: one node in KRaft mode, or an older version with ZooKeeper."""

from penstock import remedies
from penstock.stack import java, probes
from penstock.stack.service import ConfigFile, Service, Step, render
from penstock.stack.site import Site

VERSION = "4.4.0"
VERSION_WITH_ZOOKEEPER = "3.9.2"
ZOOKEEPER_VERSION = "3.8.4"
_LOGGING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5"
JARS = {
    "kafka": (f"org.apache.kafka:kafka_2.13:{VERSION}", _LOGGING),
    "kafka-zookeeper": (f"org.apache.kafka:kafka_2.13:{VERSION_WITH_ZOOKEEPER}", _LOGGING),
}


def services(site: Site) -> list[Service]:
    """Return Kafka, preceded by ZooKeeper if that is the coordination."""
    if site.settings.coordination == "zookeeper":
        return [_build_zookeeper(site), _kafka_with_zookeeper(site)]
    return [_build_kafka(site)]


def _build_java_command(site: Site, group: str, heap_mib: int, *options: str) -> tuple[str, ...]:
    return (
        site.java.command,
        java.temporary(site.layout),
        f"-Xms{min(heap_mib, 128)}m",
        f"-Xmx{heap_mib}m",
        "-XX:+UseG1GC",
        "-XX:MaxGCPauseMillis=20",
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.awt.headless=true",
        f"-Dlog4j2.configurationFile={(site.layout.run / 'kafka-log4j2.xml').as_uri()}",
        *options,
        "-cp",
        f"{site.layout.jars / group}/*",
    )


def _render_log4j2(site: Site) -> ConfigFile:
    return ConfigFile(site.layout.run / "kafka-log4j2.xml", render("kafka-log4j2.xml"))


def _build_kafka(site: Site) -> Service:
    settings, data, config = site.settings, site.layout.data / "kafka", site.layout.run / "kafka.properties"
    jvm = _build_java_command(site, "kafka", settings.kafka_heap_mib)
    cluster_id = site.secrets["kafka_cluster_id"]
    format_ = (*jvm, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(config))
    text = render("kafka.properties", data=data, port=settings.kafka_port, controller=settings.kafka_controller_port)
    return Service(
        name="kafka",
        title="Kafka",
        version=VERSION,
        ports=("kafka_port", "kafka_controller_port"),
        jars=("kafka",),
        files=(ConfigFile(config, text + render("kafka-common.properties")), _render_log4j2(site)),
        folders=(data,),
        prepare=(Step("format", format_, done=data / "meta.properties"),),
        command=(*jvm, "kafka.Kafka", str(config)),
        env={"MALLOC_ARENA_MAX": "2"},
        directory=site.layout.run,
        probe=probes.kafka,
        stop_wait_s=30,
        memory_mib=settings.kafka_heap_mib + 100,
        hint=remedies.show_logs("kafka"),
    )


def _build_zookeeper(site: Site) -> Service:
    settings, data, config = site.settings, site.layout.data / "zookeeper", site.layout.run / "zookeeper.properties"
    heap_mib = settings.zookeeper_heap_mib
    return Service(
        name="zookeeper",
        title="ZooKeeper",
        version=ZOOKEEPER_VERSION,
        ports=("zookeeper_port",),
        jars=("kafka-zookeeper",),
        files=(
            ConfigFile(config, render("zookeeper.properties", data=data, port=settings.zookeeper_port)),
            _render_log4j2(site),
        ),
        folders=(data,),
        command=(
            *_build_java_command(site, "kafka-zookeeper", heap_mib, "-Dzookeeper.jmx.log4j.disable=true"),
            "org.apache.zookeeper.server.quorum.QuorumPeerMain",
            str(config),
        ),
        env={"MALLOC_ARENA_MAX": "2", "JMXDISABLE": "true"},
        directory=site.layout.run,
        probe=probes.zookeeper,
        memory_mib=heap_mib + 60,
        hint=remedies.show_logs("zookeeper"),
    )


def _kafka_with_zookeeper(site: Site) -> Service:
    settings, config = site.settings, site.layout.run / "kafka.properties"
    data = site.layout.data / "kafka-zookeeper"
    text = render("kafka-zookeeper.properties", data=data, port=settings.kafka_port, zookeeper=settings.zookeeper_port)
    return Service(
        name="kafka",
        title="Kafka",
        version=VERSION_WITH_ZOOKEEPER,
        ports=("kafka_port",),
        needs=("zookeeper",),
        jars=("kafka-zookeeper",),
        files=(ConfigFile(config, text + render("kafka-common.properties")), _render_log4j2(site)),
        folders=(data,),
        command=(*_build_java_command(site, "kafka-zookeeper", settings.kafka_heap_mib), "kafka.Kafka", str(config)),
        env={"MALLOC_ARENA_MAX": "2"},
        directory=site.layout.run,
        probe=probes.kafka,
        stop_wait_s=30,
        memory_mib=settings.kafka_heap_mib + 100,
        hint=remedies.show_logs("kafka"),
    )
