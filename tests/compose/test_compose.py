"""Docker Compose on a real engine: our files as they are, from cold to rows in Cassandra, down and up again.

The images under the official names are stand-ins, made here: no registry of images is asked. So this proves our files,
our images' own layers, health checks, order, volumes and rights. It does not prove what the official images do beside
what they document: their entry points, their users' ids, the Python of their Airflow, or Postgres 17 (the stand-in has
Debian's 15).
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from penstock.compose import environment
from penstock.errors import Unreachable
from penstock.retry import wait_until
from tests.compose import engine as engines
from tests.compose.engine import Engine, Project
from tests.compose.standins import Standins, cache_folder
from tests.conftest import ROOT

pytestmark = pytest.mark.timeout(3600)  # the first one makes every image
FOLDER = Path(os.environ.get("PENSTOCK_COMPOSE_FOLDER", ROOT / ".penstock" / "compose"))
SHIFT = 15_000
"""The ports lie so far above the usual ones: below those that systems give to whoever connects somewhere."""
OFFLINE = ("docker-compose.yml", "docker-compose.offline.yml")
ZOOKEEPER = ("docker-compose.yml", "docker-compose.zookeeper.yml", "docker-compose.offline.yml")
STAND_INS = (
    "The images under the official names were stand-ins: the same jars and packages on Debian, with Postgres 15. "
    "Not proven is what the official images do beside what they document."
)
UP = ("up", "--detach", "--build", "--wait", "--wait-timeout", "900", "--pull", "never")


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """A Docker engine of our own, with a stand-in for each official image."""
    made = Engine(FOLDER)
    try:
        engines.install()
        made.start()
        Standins(made, cache_folder()).build()
    except engines.Missing as error:
        made.stop()
        pytest.skip(str(error))
    yield made
    made.stop()


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean checkout, with secrets of its own and ports that are free."""
    root = tmp_path_factory.mktemp("checkout") / "penstock"
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in files:
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    ports = {one.name: int(one.default) + SHIFT for one in environment.VARIABLES if one.name.endswith("_PORT")}
    (root / ".env").write_text("".join(f"{name}={port}\n" for name, port in ports.items()))
    environment.init(root / ".env")
    return root


@pytest.fixture(scope="session")
def known(checkout: Path) -> dict[str, str]:
    """The variables of its `.env`."""
    return environment.read(checkout / ".env")


def started(engine: Engine, checkout: Path, *files: str) -> Iterator[Project]:
    """The project, up from nothing; gone at the end, its data too."""
    project = Project(engine, checkout, *files)
    project.compose("down", "--volumes", "--remove-orphans")
    try:
        project.compose(*UP)
        yield project
    finally:
        print("\n" + "\n".join([STAND_INS, *project.transcript]))  # noqa: T201  what the report shows with -s
        project.compose("down", "--volumes", "--remove-orphans")


@pytest.fixture(scope="module")
def project(engine: Engine, checkout: Path) -> Iterator[Project]:
    """With Kafka that coordinates itself."""
    yield from started(engine, checkout, *OFFLINE)


class Airflow:
    """Airflow's API, as a user of the host reaches it."""

    def __init__(self, known: dict[str, str]) -> None:
        self._http = httpx2.Client(base_url=f"http://127.0.0.1:{known['AIRFLOW_PORT']}", timeout=60, trust_env=False)
        login = {"username": "airflow", "password": known["AIRFLOW_PASSWORD"]}
        token = self._http.post("/auth/token", json=login).raise_for_status().json()["access_token"]
        self._http.headers["Authorization"] = f"Bearer {token}"

    def run(self, records: int) -> str:
        """The id of a run that has ended well."""
        dag = "/api/v2/dags/user_automation"
        self._http.patch(dag, json={"is_paused": False}).raise_for_status()
        body = {"logical_date": None, "conf": {"records": records}}
        run_id: str = self._http.post(f"{dag}/dagRuns", json=body).raise_for_status().json()["dag_run_id"]

        def ended() -> str:
            state: str = self._http.get(f"{dag}/dagRuns/{run_id}").raise_for_status().json()["state"]
            if state in {"queued", "running"}:
                raise Unreachable(state)
            return state

        assert wait_until(ended, timeout_s=240, every_s=1.0, what="the run") == "success"
        return run_id


def balanced(project: Project) -> dict[str, Any]:
    """The receipt of the whole topic, once nothing is on its way."""

    def probe() -> dict[str, Any]:
        done = project.try_compose("exec", "-T", "control-center", "penstock", "verify", "--json")
        found: dict[str, Any] = json.loads(done.stdout)
        if found["waiting"]:
            raise Unreachable(f"{found['waiting']} wait")
        return found

    found = wait_until(probe, timeout_s=180, every_s=2.0, what="the receipt")
    assert found["balanced"], found["differences"]
    return found


def count(project: Project, known: dict[str, str]) -> int:
    """The rows of the table, as cqlsh in Cassandra's container counts them."""
    login = ("-u", "penstock", "-p", known["CASSANDRA_PASSWORD"])
    said = project.exec("cassandra_db", "cqlsh", *login, "-e", "SELECT COUNT(*) FROM spark_streams.created_users")
    return next(int(line) for line in said.splitlines() if line.strip().isdigit())


def carried(project: Project, known: dict[str, str], records: int) -> None:
    """Order a run; every record is acknowledged, balanced and counted. The day's own run may come between."""
    before = balanced(project)["produced"]
    Airflow(known).run(records)
    found = balanced(project)
    assert found["produced"] >= before + records
    assert found["rows"] == found["distinct_ids"] == found["produced"] - found["rejected"]
    assert count(project, known) >= found["rows"]
    assert found["acknowledged"]["attempts"] >= 1, "the journal is seen by the control center"
    assert found["acknowledged"]["runs"] >= 1, "and so are Airflow's runs"


def test_one_command_brings_everything_up(project: Project) -> None:
    """Every container is healthy, or has done what it was there for; the images are small enough to tell."""
    states = {one["Service"]: (one["State"], one["Health"], one["ExitCode"]) for one in project.containers()}
    once = {"pipeline-init", "airflow-init"}
    assert {states[name] for name in once} == {("exited", "", 0)}
    assert {state for name, state in states.items() if name not in once} == {("running", "healthy", 0)}
    project.transcript += [f"{name}: {mib} MiB" for name, mib in sorted(project.memory_mib().items())]
    sizes = project.engine.docker("images", "--format", "{{.Repository}} {{.Size}}")
    project.transcript += [line for line in sizes.splitlines() if line.startswith("penstock-")]


def test_records_come_to_the_table(project: Project, known: dict[str, str]) -> None:
    """API, Airflow, Kafka, Spark, Cassandra: triggered by Airflow's API, counted by cqlsh, balanced by a receipt."""
    carried(project, known, 200)


def test_the_page_asks_for_its_password(project: Project, known: dict[str, str]) -> None:
    """The control center shows the whole pipeline to who knows it, and knows every service."""
    address = f"http://127.0.0.1:{known['CONTROL_PORT']}/api/v1/pipeline"
    assert httpx2.get(address, trust_env=False).status_code == 401

    def has_counted() -> dict[str, Any]:
        """What its last look found, once that is of a time after the rows came: it looks every other second."""
        answer = httpx2.get(address, auth=("any", known["CONTROL_PASSWORD"]), trust_env=False)
        now: dict[str, Any] = answer.raise_for_status().json()["now"]
        if (now["counts"]["stored"] or 0) < 200:
            raise Unreachable(f"it tells of {now['counts']}, {time.time() - now['at_s']:.1f} s ago")
        return now

    now = wait_until(has_counted, timeout_s=30, every_s=0.5, what="the rows on the page")
    assert set(now["services"].values()) == {""}


def test_cassandra_takes_nobody_without_a_password(project: Project, known: dict[str, str]) -> None:
    """Neither the password that it began with."""
    for login in ((), ("-u", "cassandra", "-p", "cassandra"), ("-u", "penstock", "-p", "wrong")):
        done = project.try_compose("exec", "-T", "cassandra_db", "cqlsh", *login, "-e", "DESCRIBE KEYSPACES")
        assert done.returncode != 0, login


def test_no_container_runs_as_root_or_shows_a_secret_in_its_arguments(project: Project, known: dict[str, str]) -> None:
    """What `ps` shows to everybody on the machine."""
    secrets = [known[one.name] for one in environment.VARIABLES if one.make is not None]
    listed = project.compose("top")
    assert not [secret for secret in secrets if secret in listed]
    for one in project.containers():
        if one["State"] == "running":
            user = project.exec(one["Service"], "id", "-u").strip()
            assert user != "0", one["Service"]


def test_down_and_up_again_loses_nothing(project: Project, known: dict[str, str]) -> None:
    """The rows, the topic, the runs and the job's place are there; the stream goes on."""
    before = balanced(project)
    project.compose("down")
    project.compose(*UP)
    after = balanced(project)
    for name in ("produced", "stored", "rows"):
        assert after[name] >= before[name], name
    assert after["reread"] == 0, "the checkpoint was lost"
    carried(project, known, 100)


def test_a_container_that_dies_comes_back(project: Project, known: dict[str, str]) -> None:
    """The job's processes are killed: the engine starts them again, and nothing is missing."""
    project.try_compose("exec", "-T", "spark-submitter", "bash", "-c", "kill -9 -1")
    project.compose("up", "--detach", "--wait", "--wait-timeout", "300", "--no-recreate", "spark-submitter")
    carried(project, known, 50)


@pytest.mark.parametrize("files", [OFFLINE[:1], OFFLINE, ZOOKEEPER], ids="+".join)
def test_compose_accepts_the_files(engine: Engine, checkout: Path, files: tuple[str, ...]) -> None:
    """Each set that the documents name."""
    Project(engine, checkout, *files).compose("config", "--quiet")


def test_a_missing_secret_is_named(engine: Engine, checkout: Path, tmp_path: Path) -> None:
    """Compose refuses to start, and says which one and what to type."""
    root = tmp_path / "penstock"
    shutil.copytree(checkout, root)
    lines = (root / ".env").read_text().splitlines()
    (root / ".env").write_text("\n".join(line for line in lines if not line.startswith("SPARK_AUTH_SECRET")))
    done = Project(engine, root, *OFFLINE).try_compose("config", "--quiet")
    assert done.returncode != 0
    assert "SPARK_AUTH_SECRET" in done.stderr
    assert "./penstock compose init" in done.stderr


def test_kafka_beside_zookeeper(engine: Engine, checkout: Path, known: dict[str, str], project: Project) -> None:
    """The other set of files: the same pipeline on Kafka 3.9 with ZooKeeper."""
    project.compose("down", "--volumes", "--remove-orphans")
    for other in started(engine, checkout, *ZOOKEEPER):
        began = time.monotonic()
        assert "zookeeper" in {one["Service"] for one in other.containers()}
        carried(other, known, 50)
        other.transcript.append(f"carried with ZooKeeper in {time.monotonic() - began:.0f} s")
