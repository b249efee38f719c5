"""The Compose files: versions of the catalog, limits of all services, known variables, no open ports."""

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock.compose import environment, preflight
from penstock.stack.services import cassandra, kafka, registry
from tests.conftest import ROOT

FILES = ("docker-compose.yml", "docker-compose.zookeeper.yml", "docker-compose.offline.yml")
ONCE = {"secrets-init", "pipeline-init", "airflow-init"}
WANTED = {
    "broker",
    "schema-registry",
    "control-center",
    "spark-master",
    "spark-worker",
    "spark-submitter",
    "cassandra_db",
    "postgres",
    "airflow-init",
    "secrets-init",
    "airflow-webserver",
    "airflow-scheduler",
    "airflow-dag-processor",
    "airflow-triggerer",
}
_VARIABLE = re.compile(r"\$\{([A-Z_]+)(?:(:?[-?+])([^}]*))?\}")


@cache
def load(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


MAIN = load("docker-compose.yml")["services"]
SERVICES = [(file, name, service) for file in FILES for name, service in load(file)["services"].items()]
OWN = [(file, name, service) for file, name, service in SERVICES if "image" in service and "logging" in service]


def test_the_services_are_those_that_users_know() -> None:
    """The services have the names that users know."""
    assert set(MAIN) >= WANTED


def test_versions_match_the_catalog() -> None:
    """The images have the versions of the local stack."""
    assert MAIN["broker"]["image"] == f"apache/kafka:{kafka.VERSION}"
    assert MAIN["schema-registry"]["image"] == f"apicurio/apicurio-registry:{registry.VERSION}"
    assert MAIN["cassandra_db"]["image"] == f"cassandra:{cassandra.VERSION}"
    with_zookeeper = load("docker-compose.zookeeper.yml")["services"]
    assert with_zookeeper["broker"]["image"] == f"apache/kafka:{kafka.VERSION_WITH_ZOOKEEPER}"
    assert with_zookeeper["zookeeper"]["image"] == f"zookeeper:{kafka.ZOOKEEPER_VERSION}"
    assert f"FROM apache/airflow:{version('apache-airflow')}-python3.11\n" in (ROOT / "Dockerfile.airflow").read_text()
    assert f"pyspark=={version('pyspark')}" in (ROOT / "requirements" / "spark.txt").read_text()


@pytest.mark.parametrize(("file", "name", "service"), OWN, ids=[name for _, name, _ in OWN])
def test_each_service_has_limits_health_check_and_no_privileges(file: str, name: str, service: dict[str, Any]) -> None:
    """Every service has limits for memory and logs, a restart policy, a health check and no capabilities."""
    assert service["mem_limit"]
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}
    assert service["restart"] == ("no" if name in ONCE else "unless-stopped")
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["networks"] == ["penstock"]
    assert "privileged" not in service
    if name not in ONCE:
        assert "healthcheck" in service or service["image"].startswith("penstock-"), (
            "no health check in the Compose file or the image"
        )


def test_memory_is_at_most_eight_gib() -> None:
    """The memory limits of all long-running services add up to at most 8 GiB."""
    limits = {name: int(service["mem_limit"].removesuffix("m")) for name, service in MAIN.items() if name not in ONCE}
    assert sum(limits.values()) <= 8192


def test_ports_are_published_on_bind() -> None:
    """Ports are published on BIND, by default loopback."""
    ports = [port for _, _, service in SERVICES for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("${BIND:-127.0.0.1}:${") for port in ports)


@pytest.mark.parametrize("file", FILES)
def test_every_variable_is_in_the_example(file: str) -> None:
    """Every variable has the default of the example, and secrets are empty."""
    known = {variable.name: variable for variable in environment.VARIABLES}
    for name, operator, text in _VARIABLE.findall((ROOT / file).read_text()):
        if name != "CONTROL_NAMES":
            assert (operator, text) == (":-", known[name].default), name


def test_only_secrets_init_gets_secret_variables() -> None:
    """Compose substitutes secrets only for secrets-init."""
    secrets = {secret.name for secret in environment.SECRETS}
    init = MAIN["secrets-init"]
    assert {name for name in init["environment"] if name in secrets} == secrets
    others = {name: str(service) for _, name, service in SERVICES if name != "secrets-init"}
    exposed = {(name, secret) for name, text in others.items() for secret in secrets if f"{{{secret}" in text}
    assert exposed == set()


def test_every_service_waits_for_secrets_init() -> None:
    """Every service waits for secrets-init, so that its checks come first."""
    for _, name, service in OWN:
        if name != "secrets-init":
            condition = service["depends_on"]["secrets-init"]["condition"]
            assert condition == "service_completed_successfully", name


def test_each_service_mounts_its_own_secrets_only() -> None:
    """Each service mounts only its own secrets volume, read-only."""
    mounted = {
        name: [volume for volume in service.get("volumes", ()) if volume.startswith("secrets")]
        for name, service in MAIN.items()
    }
    written = {f"secrets_{folder.replace('-', '_')}:{preflight.VOLUMES}/{folder}" for folder in preflight.FILES}
    assert set(mounted.pop("secrets-init")) == {*written, f"secrets:{preflight.VOLUMES}/all"}
    folders = {"cassandra_db": "cassandra", "spark-worker": "spark", "spark-submitter": "spark"}
    for name, volumes in mounted.items():
        folder = "airflow" if name.startswith("airflow-") else folders.get(name, name)
        volume = f"secrets_{folder.replace('-', '_')}:{preflight.FOLDER}:ro"
        assert volumes == ([volume] if folder in preflight.FILES else []), name
    folders_made = re.search(r"for service in (.*?);", (ROOT / "Dockerfile.control").read_text())
    assert folders_made
    assert set(folders_made[1].split()) == {"all", *preflight.FILES}


def test_entry_points_of_images_are_kept() -> None:
    """Entry points of images are kept: Airflow's names unknown user ids, Cassandra's configures it."""
    replaced = {name for file, name, service in SERVICES if "entrypoint" in service and file == FILES[0]}
    assert replaced == set()


def test_only_the_dags_are_mounted_from_the_checkout() -> None:
    """Only the DAGs are mounted from the checkout, because a clone may be readable only by its owner."""
    for file in FILES:
        for name, config in load(file).get("configs", {}).items():
            assert list(config) == ["content"], (file, name)


def test_every_variable_of_the_example_is_used() -> None:
    """Every variable of the example is used by a Compose file."""
    text = "".join((ROOT / file).read_text() for file in FILES)
    assert [variable.name for variable in environment.VARIABLES if f"${{{variable.name}" not in text] == []


def test_persistent_data_is_in_named_volumes() -> None:
    """Kafka's log, Cassandra, checkpoint, Airflow's database and logs, and delivery log are in named volumes."""
    volumes = load("docker-compose.yml")["volumes"]
    assert set(volumes) >= {
        "kafka_data",
        "cassandra_data",
        "checkpoint",
        "postgres_data",
        "airflow_logs",
        "penstock_data",
    }
    for _, name, service in SERVICES:
        for volume in service.get("volumes", ()):
            source, target, *_ = volume.split(":")
            assert source == "./dags" or source in load("docker-compose.yml")["volumes"] | load(FILES[1])["volumes"], (
                name
            )
            assert not target.startswith("/tmp"), name


@pytest.mark.parametrize("name", ["airflow", "spark", "control", "build"])
def test_requirements_of_images_match_the_lock(name: str) -> None:
    """Requirements of images have the lock's versions and hashes, and no index URL."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert not re.search(r"^(-|--)\S|://", text, re.MULTILINE)
    pins = re.findall(r"^([a-z0-9-]+==\S+)", text, re.MULTILINE)
    lock = set(re.findall(r"^([a-z0-9-]+==\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    assert pins
    assert set(pins) - lock == set()
    assert text.count("--hash=sha256:") >= len(pins)


@pytest.mark.parametrize("name", ["Dockerfile.airflow", "Dockerfile.spark", "Dockerfile.control"])
def test_images_run_without_root_and_have_health_checks(name: str) -> None:
    """Images run without root, have health checks, and are labelled."""
    last = (ROOT / name).read_text().rpartition("\nFROM ")[2]
    users = re.findall(r"^USER (\S+)", last, re.MULTILINE)
    assert users
    assert users[-1] != "root"
    assert "HEALTHCHECK" in last
    assert "org.opencontainers.image.licenses" in last
    assert "gcc" not in last


@pytest.mark.parametrize("name", ["Dockerfile.spark", "Dockerfile.control"])
def test_images_can_be_built_with_any_user_id(name: str) -> None:
    """Images can be built with very high and existing user ids. Root is rejected."""
    text = (ROOT / name).read_text()
    (useradd,) = re.findall(r"useradd .*", text)
    assert "--no-log-init" in useradd
    assert "--non-unique" in useradd
    assert "no container runs as root" in text


@pytest.mark.parametrize("name", ["Dockerfile.airflow", "Dockerfile.spark"])
def test_copied_files_are_readable_by_all_users(name: str) -> None:
    """Images built from a clone with a strict umask work."""
    last = (ROOT / name).read_text().rpartition("\nFROM ")[2]
    copied = last.rindex("COPY --chown=airflow:0 dags" if "airflow" in name else "COPY spark_stream.py")
    assert re.search(r"^RUN chmod ", last[copied:], re.MULTILINE)


def test_the_jars_are_installed_by_the_modules_copied_before_them(tmp_path: Path) -> None:
    """The rest of the sources is copied later, so that changing it does not download the jars again."""
    head = (ROOT / "Dockerfile.spark").read_text().partition("\nRUN PYTHONPATH=src")[0]
    for line in re.findall(r"^COPY (src/.*)$", head, re.MULTILINE):
        *names, folder = line.split()
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            shutil.copy(ROOT / name, tmp_path / folder)
    done = subprocess.run(
        [sys.executable, "-c", "from penstock.stack import jars, layout; print(jars.__file__)"],
        env=os.environ | {"PYTHONPATH": str(tmp_path / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith(str(tmp_path)), done.stderr


def test_the_build_context_excludes_secrets() -> None:
    """`.env`, data and virtual environments are excluded from the build context."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    assert not any(line.startswith(("!.env", "!.penstock", "!.venv")) for line in lines)
    assert Path(ROOT / ".gitignore").read_text().splitlines().count(".env") == 1


def lint(*command: str) -> None:
    """Run a linter, which must find nothing."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / command[0]), *command[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["Dockerfile.airflow", "Dockerfile.spark", "Dockerfile.control"])
def test_hadolint_reports_nothing(name: str) -> None:
    """hadolint reports nothing for the Dockerfiles."""
    lint("hadolint", "--no-color", "--failure-threshold", "warning", name)


def test_the_files_conform_to_the_specification() -> None:
    """The files conform to the JSON Schema of the Compose specification."""
    lint("check-jsonschema", "--builtin-schema", "vendor.compose-spec", *FILES)


def test_the_documentation_names_existing_services() -> None:
    """The services, variables and ports in docs/compose.md and README exist."""
    text = (ROOT / "docs" / "compose.md").read_text()
    services = {name for file in FILES for name in load(file)["services"]}
    named = re.findall(r"docker compose exec (\S+)", text) + [
        name for line in re.findall(r"^\| (`[^|]*)\|", text, re.MULTILINE) for name in re.findall(r"`([a-z_-]+)`", line)
    ]
    full = {f"airflow-webserver{name}" if name.startswith("-") else name for name in named}
    assert {name for name in full if name.replace("airflow-webserver-", "airflow-") not in services} == set()
    known = {variable.name for variable in environment.VARIABLES}
    assert set(re.findall(r"`([A-Z]+_[A-Z_]+)[`=]", text)) <= known
    ports = {variable.default for variable in environment.VARIABLES if variable.name.endswith("_PORT")}
    both = text + (ROOT / "README.md").read_text()
    assert set(re.findall(r"(?:127\.0\.0\.1|localhost):(\d+)", both)) <= ports
