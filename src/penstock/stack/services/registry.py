"""Schema registry: Apicurio, which stores schemas in Kafka and has a Confluent-compatible API."""

from penstock import remedies
from penstock.stack import java, probes
from penstock.stack.environment import StackEnvironment
from penstock.stack.service import Service

VERSION = "3.3.3"
ARCHIVE = "registry"
JARS = {ARCHIVE: (f"io.apicurio:apicurio-registry-app:{VERSION}:all@tar.gz",)}


def build_services(environment: StackEnvironment) -> list[Service]:
    """Return the schema registry."""
    settings, data = environment.settings, environment.layout.data / "registry"
    return [
        Service(
            name="registry",
            title="Schema registry",
            version=VERSION,
            ports=("registry_port", "registry_management_port"),
            needs=("kafka",),
            jars=(ARCHIVE,),
            folders=(data,),
            command=_build_command(environment),
            env=_build_environment(environment),
            directory=data,
            probe=probes.probe_registry,
            after=probes.set_backward_compatibility,
            memory_mib=settings.registry_heap_mib + 150,
            page=f"http://127.0.0.1:{settings.registry_port}/ui/",
            hint=remedies.show_logs("registry"),
        )
    ]


def _build_command(environment: StackEnvironment) -> tuple[str, ...]:
    return (
        environment.java21.command,
        java.render_tmpdir_option(environment.layout),
        f"-Xmx{environment.settings.registry_heap_mib}m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.util.logging.manager=org.jboss.logmanager.LogManager",
        "-jar",
        str(environment.layout.jars / ARCHIVE / "quarkus-run.jar"),
    )


def _build_environment(environment: StackEnvironment) -> dict[str, str]:
    settings, data = environment.settings, environment.layout.data / "registry"
    return {
        "QUARKUS_HTTP_HOST": "127.0.0.1",
        "QUARKUS_HTTP_PORT": str(settings.registry_port),
        "QUARKUS_HTTP_ACCESS_LOG_ENABLED": "false",
        "QUARKUS_LOG_CATEGORY__ORG_APACHE_KAFKA__LEVEL": "WARN",
        "QUARKUS_MANAGEMENT_HOST": "127.0.0.1",
        "QUARKUS_MANAGEMENT_PORT": str(settings.registry_management_port),
        "APICURIO_STORAGE_KIND": "kafkasql",
        "APICURIO_STORAGE_SNAPSHOT_LOCATION": str(data),
        "APICURIO_IMPORT_WORK_DIR": str(data),
        "APICURIO_KAFKASQL_BOOTSTRAP_SERVERS": f"127.0.0.1:{settings.kafka_port}",
        "APICURIO_KAFKASQL_CONSUMER_POLL_TIMEOUT": "500",  # with the default, startup takes 47 s
        "MALLOC_ARENA_MAX": "2",
    }
