"""Cassandra: one node."""

import json

from penstock import remedies
from penstock.stack import java, probes
from penstock.stack.environment import StackEnvironment
from penstock.stack.service import ConfigFile, Service, render_template

VERSION = "5.0.9"
_JAMM = "0.4.0"
JARS = {"cassandra": (f"org.apache.cassandra:cassandra-all:{VERSION}",)}


def build_services(environment: StackEnvironment) -> list[Service]:
    """Return the Cassandra node."""
    settings, run, data = environment.settings, environment.layout.run, environment.layout.data / "cassandra"
    commit_log = data / "commitlog"
    return [
        Service(
            name="cassandra",
            title="Cassandra",
            version=VERSION,
            ports=("cassandra_port", "cassandra_storage_port"),
            jars=("cassandra",),
            files=(
                ConfigFile(run / "cassandra.yaml", _render_yaml(environment)),
                ConfigFile(run / "cassandra.options", render_template("cassandra.options")),
                ConfigFile(run / "cassandra-logback.xml", render_template("cassandra-logback.xml")),
            ),
            folders=(data, commit_log),
            # A full disk leaves empty segments, with which Cassandra does not start. They hold no acknowledged writes.
            before=("find", str(commit_log), "-name", "CommitLog-*.log", "-size", "0", "-delete"),
            command=_build_command(environment),
            env={"MALLOC_ARENA_MAX": "4"},
            directory=data,
            probe=probes.probe_cassandra,
            stop_wait_s=60,
            memory_mib=settings.cassandra_heap_mib + 350,
            hint=remedies.show_logs("cassandra"),
        )
    ]


def _render_yaml(environment: StackEnvironment) -> str:
    settings = environment.settings
    return render_template(
        "cassandra.yaml",
        data=json.dumps(str(environment.layout.data / "cassandra"))[1:-1],
        port=settings.cassandra_port,
        storage_port=settings.cassandra_storage_port,
        memtable_mib=settings.cassandra_heap_mib // 8,
    )


def _build_command(environment: StackEnvironment) -> tuple[str, ...]:
    run, jars, heap_mib = (
        environment.layout.run,
        environment.layout.jars / "cassandra",
        environment.settings.cassandra_heap_mib,
    )
    return (
        environment.java.command,
        java.render_tmpdir_option(environment.layout),
        f"-javaagent:{jars / f'jamm-{_JAMM}.jar'}",
        f"-Xms{heap_mib // 2}m",
        f"-Xmx{heap_mib}m",
        f"-XX:MaxDirectMemorySize={heap_mib // 4}m",
        *(("-Djava.security.manager=allow",) if environment.java.major >= 18 else ()),
        f"@{run / 'cassandra.options'}",
        f"-Dcassandra.config={(run / 'cassandra.yaml').as_uri()}",
        f"-Dcassandra.storagedir={environment.layout.data / 'cassandra'}",
        f"-Dlogback.configurationFile={run / 'cassandra-logback.xml'}",
        "-cp",
        f"{jars}/*",
        "org.apache.cassandra.service.CassandraDaemon",
    )
