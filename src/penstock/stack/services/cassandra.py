"""Cassandra: one node."""

import json

from penstock import remedies
from penstock.stack import java, probes
from penstock.stack.service import ConfigFile, Service, render
from penstock.stack.site import Site

VERSION = "5.0.9"
_JAMM = "0.4.0"
JARS = {"cassandra": (f"org.apache.cassandra:cassandra-all:{VERSION}",)}


def services(site: Site) -> list[Service]:
    """Return the Cassandra node."""
    settings, run, data = site.settings, site.layout.run, site.layout.data / "cassandra"
    commit_log = data / "commitlog"
    return [
        Service(
            name="cassandra",
            title="Cassandra",
            version=VERSION,
            ports=("cassandra_port", "cassandra_storage_port"),
            jars=("cassandra",),
            files=(
                ConfigFile(run / "cassandra.yaml", _render_yaml(site)),
                ConfigFile(run / "cassandra.options", render("cassandra.options")),
                ConfigFile(run / "cassandra-logback.xml", render("cassandra-logback.xml")),
            ),
            folders=(data, commit_log),
            # A full disk leaves empty segments, with which Cassandra does not start. They hold no acknowledged writes.
            before=("find", str(commit_log), "-name", "CommitLog-*.log", "-size", "0", "-delete"),
            command=_build_command(site),
            env={"MALLOC_ARENA_MAX": "4"},
            directory=data,
            probe=probes.cassandra,
            stop_wait_s=60,
            memory_mib=settings.cassandra_heap_mib + 350,
            hint=remedies.show_logs("cassandra"),
        )
    ]


def _render_yaml(site: Site) -> str:
    settings = site.settings
    return render(
        "cassandra.yaml",
        data=json.dumps(str(site.layout.data / "cassandra"))[1:-1],
        port=settings.cassandra_port,
        storage_port=settings.cassandra_storage_port,
        memtable_mib=settings.cassandra_heap_mib // 8,
    )


def _build_command(site: Site) -> tuple[str, ...]:
    run, jars, heap_mib = site.layout.run, site.layout.jars / "cassandra", site.settings.cassandra_heap_mib
    return (
        site.java.command,
        java.temporary(site.layout),
        f"-javaagent:{jars / f'jamm-{_JAMM}.jar'}",
        f"-Xms{heap_mib // 2}m",
        f"-Xmx{heap_mib}m",
        f"-XX:MaxDirectMemorySize={heap_mib // 4}m",
        *(("-Djava.security.manager=allow",) if site.java.major >= 18 else ()),
        f"@{run / 'cassandra.options'}",
        f"-Dcassandra.config={(run / 'cassandra.yaml').as_uri()}",
        f"-Dcassandra.storagedir={site.layout.data / 'cassandra'}",
        f"-Dlogback.configurationFile={run / 'cassandra-logback.xml'}",
        "-cp",
        f"{jars}/*",
        "org.apache.cassandra.service.CassandraDaemon",
    )
