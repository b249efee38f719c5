"""The wheel, as installed next to an Airflow or a Spark: the index resolves it, and nothing is installed."""

import shutil
import subprocess
import sys
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

from tests.conftest import ROOT

UV = shutil.which("uv") or str(ROOT / ".penstock" / "uv" / "bin" / "uv")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as by `./penstock wheel`."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (built,) = folder.glob("*.whl")
    return built


def resolve(wheel: Path, extra: str, *pins: str) -> subprocess.CompletedProcess[str]:
    """Return what the index has for the wheel with an extra, next to packages of these versions."""
    wanted = "\n".join([f"penstock-pipeline[{extra}] @ {wheel.as_uri()}", *pins])
    command = [UV, "pip", "compile", "--quiet", "--no-header", "--python-version", "3.11", "-"]
    return subprocess.run(command, input=wanted, capture_output=True, text=True, timeout=300, check=False)


def test_the_wheel_has_its_own_name_and_is_imported_as_penstock(wheel: Path) -> None:
    """The name penstock belongs to another project on the public index."""
    assert wheel.name.startswith("penstock_pipeline-")
    with ZipFile(wheel) as archive:
        assert {name.partition("/")[0] for name in archive.namelist() if name.endswith(".py")} == {"penstock"}


@pytest.mark.parametrize(
    ("extra", "pin"),
    [
        ("airflow", "apache-airflow==3.0.6"),
        ("airflow", "apache-airflow==3.3.2"),
        ("spark", "pyspark==4.1.1"),
    ],
)
def test_the_wheel_fits_the_installed_versions(wheel: Path, extra: str, pin: str) -> None:
    """Airflow and Spark keep their versions."""
    done = resolve(wheel, extra, pin)
    assert done.returncode == 0, done.stderr
    assert f"\n{pin}\n" in done.stdout.replace("    # via", "\n    # via")


def test_an_unsupported_airflow_is_rejected(wheel: Path) -> None:
    """By name, instead of being replaced."""
    done = resolve(wheel, "airflow", "apache-airflow==2.10.5")
    assert done.returncode != 0
    assert "apache-airflow" in done.stderr


@pytest.mark.parametrize(
    ("version", "is_supported"), [("3.5.6", False), ("4.0.1", True), ("4.1.1", True), ("5.0.0", False)]
)
def test_the_wheel_requires_a_supported_spark(wheel: Path, version: str, is_supported: bool) -> None:
    """The wheel's metadata names the range: the index has PySpark as source archives of 400 MB only."""
    with ZipFile(wheel) as archive:
        (path,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        wanted = map(Requirement, Parser().parsestr(archive.read(path).decode()).get_all("Requires-Dist"))
    (spark,) = (each for each in wanted if each.name == "pyspark" and 'extra == "spark"' in str(each.marker))
    assert spark.specifier.contains(version) is is_supported
