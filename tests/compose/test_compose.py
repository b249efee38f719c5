"""Docker Compose on a real engine: our files as they are, from cold to rows in Cassandra, down and up again.

The images under the official names are stand-ins, made here: no registry of images is asked. They do what the official
Dockerfiles and entry points do with user, home, environment and files; what differs all the same is printed.
"""

import contextlib
import json
import os
import pty
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from penstock.compose import environment, preflight
from penstock.errors import Unreachable
from penstock.retry import wait_until
from tests.compose import engine as engines
from tests.compose.engine import ORDINARY, ORDINARY_USER, Engine, Project
from tests.compose.standins import DIFFERENCES, Standins, cache_folder
from tests.conftest import ROOT

pytestmark = pytest.mark.timeout(3600)  # the first one makes every image
FOLDER = Path(os.environ.get("PENSTOCK_COMPOSE_FOLDER", ROOT / ".penstock" / "compose"))
SHIFT = 15_000
"""The ports lie so far above the usual ones: below those that systems give to whoever connects somewhere."""
OFFLINE = ("docker-compose.yml", "docker-compose.offline.yml")
ZOOKEEPER = ("docker-compose.yml", "docker-compose.zookeeper.yml", "docker-compose.offline.yml")
PORTS = {
    variable.name: str(int(variable.default) + SHIFT)
    for variable in environment.VARIABLES
    if variable.name.endswith("_PORT")
}
"""Set by the shell, so that `.env` holds what users write into it and nothing else."""
ONCE = {"secrets-init", "pipeline-init", "airflow-init"}
ONLY_LINE = f"AIRFLOW_UID={ORDINARY_USER}\n"
LATER = {
    "AIRFLOW_PASSWORD": "a new /p@ss%word",
    "CONTROL_PASSWORD": "another: one",
    "CASSANDRA_PASSWORD": 'it\'s "quoted"',
    "CASSANDRA_ADMIN_PASSWORD": "admin'; --",
    "POSTGRES_PASSWORD": "p@ss:w/rd%41 ü",
}
"""Passwords that are set after the first start, with all that could break a URL, a statement or a file."""


def steps(document: str = "docs/compose.md") -> list[str]:
    """The blocks of commands under the heading that tells how to start."""
    section = re.split(r"^## ", (ROOT / document).read_text(), flags=re.MULTILINE)
    start = next(part for part in section if part.startswith(("Start\n", "Docker Compose\n")))
    return re.findall(r"^```\n(.*?)^```$", start, flags=re.MULTILINE | re.DOTALL)


def test_the_readme_shows_the_same_steps() -> None:
    """One truth, at two places where users look."""
    assert steps("README.md") == steps()
    assert len(steps()) == 2


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


def copy_checkout(root: Path) -> None:
    """Lay a clean checkout at `root`."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)


@pytest.fixture(scope="session")
def clone(engine: Engine) -> Path:
    """An ordinary user's clone: readable for that user alone, in a path with a space and letters that are not ASCII."""
    root = engine.home / "Jörgs Ordner" / "penstock"
    copy_checkout(root)
    engine.home.chmod(0o755)
    root.parent.chmod(0o755)
    for path in (root, *root.rglob("*")):
        path.chmod(path.stat().st_mode & 0o700)
        os.chown(path, ORDINARY_USER, ORDINARY_USER)
    return root


@pytest.fixture(scope="session")
def users(engine: Engine, clone: Path) -> Project:
    """The clone with the stand-in of the API; nothing is up."""
    project = Project(engine, clone, *OFFLINE, as_user=True, **PORTS)
    project.compose("down", "--volumes", "--remove-orphans")
    return project


def write_env(project: Project, text: str) -> None:
    """Write `.env` as its user would."""
    path = project.root / ".env"
    path.write_text(text, encoding="utf-8")
    os.chown(path, ORDINARY_USER, ORDINARY_USER)


def wait_for_health(project: Project) -> None:
    """Return when every container is healthy."""
    project.compose("up", "--detach", "--no-recreate", "--wait", "--wait-timeout", "600")


def finish(project: Project) -> None:
    """Print how it went, and delete the containers and their data."""
    differences = [f"{image}: {text}" for image, texts in DIFFERENCES.items() for text in texts]
    print("\n" + "\n".join(["differs from the official images:", *differences, *project.transcript]))  # noqa: T201
    project.compose("down", "--volumes", "--remove-orphans")


@pytest.fixture(scope="module")
def project(users: Project) -> Iterator[Project]:
    """What the documented steps bring up, typed by an ordinary user."""
    try:
        began = time.monotonic()
        first, up = steps()[0].splitlines()
        for command in (first, up):
            done = users.run("sh", "-c", command)
            assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-5000:]}\n{users.troubles()}"
        users.transcript.append(f"{up}: {time.monotonic() - began:.0f} s")
        assert (users.root / ".env").read_text() == ONLY_LINE
        wait_for_health(users)
        users.transcript.append(f"everything is healthy after {time.monotonic() - began:.0f} s")
        yield users
    finally:
        finish(users)


class Airflow:
    """Airflow's API, as a user of the host reaches it."""

    def __init__(self, password: str = environment.SIMPLE) -> None:
        self._http = httpx2.Client(base_url=f"http://127.0.0.1:{PORTS['AIRFLOW_PORT']}", timeout=60, trust_env=False)
        login = {"username": "airflow", "password": password}
        token = self._http.post("/auth/token", json=login).raise_for_status().json()["access_token"]
        self._http.headers["Authorization"] = f"Bearer {token}"

    def switch_on(self) -> None:
        """Do what the toggle beside the DAG does, once Airflow has read the DAG's file."""

        def switch() -> None:
            answer = self._http.patch("/api/v2/dags/user_automation", json={"is_paused": False})
            if answer.status_code == 404:
                raise Unreachable(answer.text)
            answer.raise_for_status()

        wait_until(switch, timeout_s=60, every_s=1.0, what="the DAG")

    def run(self, records: int) -> str:
        """The id of a run that has ended well."""
        dag = "/api/v2/dags/user_automation"
        self.switch_on()
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
        if not done.stdout:
            raise Unreachable(done.stderr)
        found: dict[str, Any] = json.loads(done.stdout)
        if found["waiting"]:
            raise Unreachable(f"{found['waiting']} wait")
        return found

    found = wait_until(probe, timeout_s=180, every_s=2.0, what="the receipt")
    assert found["balanced"], found["differences"]
    return found


def count(project: Project) -> int:
    """The rows of the table, as cqlsh in Cassandra's container counts them, without being told a password."""
    said = project.exec("cassandra_db", "cqlsh", "-e", "SELECT COUNT(*) FROM spark_streams.created_users")
    return next(int(line) for line in said.splitlines() if line.strip().isdigit())


def carried(project: Project, records: int, password: str = environment.SIMPLE) -> None:
    """Order a run; every record is acknowledged, balanced and counted. The day's own run may come between."""
    before = balanced(project)["produced"]
    Airflow(password).run(records)
    found = balanced(project)
    assert found["produced"] >= before + records
    assert found["rows"] == found["distinct_ids"] == found["produced"] - found["rejected"]
    assert count(project) >= found["rows"]
    assert found["acknowledged"]["attempts"] >= 1, "the journal is seen by the control center"
    assert found["acknowledged"]["runs"] >= 1, "and so are Airflow's runs"


def page(path: str, **more: Any) -> httpx2.Response:
    """What the control center answers."""
    return httpx2.get(f"http://127.0.0.1:{PORTS['CONTROL_PORT']}{path}", trust_env=False, timeout=30, **more)


def test_an_open_address_without_passwords_stops_before_anything_starts(users: Project) -> None:
    """One line says why, in the log of the container that Compose names; no other one has been started."""
    write_env(users, ONLY_LINE)
    done = users.try_compose("up", "--detach", "--build", BIND="0.0.0.0")
    assert done.returncode != 0
    assert 'service "secrets-init" didn\'t complete successfully' in done.stderr
    said = users.compose("logs", "--no-color", "--no-log-prefix", "secrets-init").splitlines()
    assert said[0] == (
        "secrets-init: BIND=0.0.0.0 allows access from other machines: "
        "AIRFLOW_PASSWORD and CONTROL_PASSWORD must be set"
    )
    states = {container["Service"]: container["State"] for container in users.containers()}
    assert states.pop("secrets-init") == "exited"
    assert set(states.values()) == {"created"}
    users.compose("down", "--volumes")


def test_root_is_refused_by_the_build(users: Project) -> None:
    """With the reason, where the image would be made for nobody."""
    for service in ("control-center", "spark-master"):
        done = users.try_compose("build", service, AIRFLOW_UID="0")
        assert done.returncode != 0, service
        assert "no container runs as root" in done.stdout + done.stderr, service


def test_the_documented_steps_bring_everything_up(project: Project) -> None:
    """Every container is healthy, or has done what it was there for; the images are small enough to tell."""
    states = {one["Service"]: (one["State"], one["Health"], one["ExitCode"]) for one in project.containers()}
    assert {states[name] for name in ONCE} == {("exited", "", 0)}
    assert {state for name, state in states.items() if name not in ONCE} == {("running", "healthy", 0)}
    memory = project.memory_mib()
    project.transcript += [f"{name}: {mib} MiB" for name, mib in sorted(memory.items())]
    project.transcript.append(f"all: {sum(memory.values())} MiB")
    sizes = project.engine.docker("images", "--format", "{{.Repository}} {{.Size}}")
    project.transcript += [line for line in sizes.splitlines() if line.startswith("penstock-")]


def test_the_first_run_comes_to_the_table(project: Project) -> None:
    """The DAG is switched on, and the documented lines, typed at a terminal, show its rows."""
    Airflow().switch_on()

    def rows() -> str:
        typed, *lines = steps()[1].splitlines()
        output = type_at_terminal(project, typed, [*lines, "exit"])
        if "(10 rows)" not in output:
            raise Unreachable(output[-2000:])
        return output

    output = wait_until(rows, timeout_s=240, every_s=3.0, what="ten rows")
    assert "Warning" not in output
    assert "Password:" not in output


def type_at_terminal(project: Project, command: str, lines: list[str]) -> str:
    """What a terminal shows when the user types a command, and lines into it."""
    master, slave = pty.openpty()
    environ = {**project.engine.environment, **project.engine.user_environment()}
    with subprocess.Popen(
        ["sh", "-c", command], stdin=slave, stdout=slave, stderr=slave, env=environ, start_new_session=True, **ORDINARY
    ) as process:
        os.close(slave)
        os.write(master, "".join(f"{line}\n" for line in lines).encode())
        shown = b""
        with contextlib.suppress(OSError):  # Linux's end of a terminal that nobody holds any more
            while chunk := os.read(master, 65536):
                shown += chunk
        process.wait(60)
    os.close(master)
    return shown.decode(errors="replace")


def test_records_come_to_the_table(project: Project) -> None:
    """API, Airflow, Kafka, Spark, Cassandra: triggered by Airflow's API, counted by cqlsh, balanced by a receipt."""
    carried(project, 200)


def test_the_program_docker_compose_does_the_same(project: Project) -> None:
    """As tutorials type it."""
    done = project.run("docker-compose", "ps", "--format", "{{.Service}}")
    assert done.returncode == 0, done.stderr
    assert "spark-submitter" in done.stdout.split()


def test_the_page_needs_no_password_on_loopback(project: Project) -> None:
    """It knows every service; under another name, or for another site's page, it answers nothing."""

    def has_counted() -> dict[str, Any]:
        """What its last look found, once that is of a time after the rows came: it looks every other second."""
        now: dict[str, Any] = page("/api/v1/pipeline").raise_for_status().json()["now"]
        if (now["counts"]["stored"] or 0) < 200:
            raise Unreachable(f"it tells of {now['counts']}, {time.time() - now['at_s']:.1f} s ago")
        return now

    now = wait_until(has_counted, timeout_s=30, every_s=0.5, what="the rows on the page")
    assert set(now["services"].values()) == {""}
    assert page("/").status_code == 200
    assert page("/", headers={"Host": "evil.example.com"}).status_code == 421
    assert page("/api/v1/pipeline", headers={"Origin": "http://evil.example.com"}).status_code == 403


def test_cassandra_takes_nobody_without_a_password(project: Project) -> None:
    """Neither the password that it began with; cqlsh in its container knows one."""
    nobody = project.try_compose("exec", "-T", "-e", "HOME=/nowhere", "cassandra_db", "cqlsh", "-e", "HELP")
    assert nobody.returncode != 0
    for login in (("-u", "cassandra", "-p", "cassandra"), ("-u", "penstock", "-p", "wrong")):
        done = project.try_compose("exec", "-T", "cassandra_db", "cqlsh", *login, "-e", "DESCRIBE KEYSPACES")
        assert done.returncode != 0, login


def secrets_of(project: Project) -> dict[str, str]:
    """Every generated secret, as secrets-init keeps them."""
    command = ("cat", str(preflight.VOLUMES / "all" / "secrets.json"))
    kept = json.loads(project.compose("run", "--rm", "--no-deps", "-T", "secrets-init", *command))
    return {name: values[0] for name, values in kept["values"].items() if name not in preflight.WITHOUT_VALUE}


def test_no_container_runs_as_root_or_shows_a_secret(project: Project) -> None:
    """Not in arguments, which everybody on the machine sees, and not in what `docker inspect` shows."""
    secrets = secrets_of(project)
    shown = project.compose("top") + project.compose("config")
    for container in project.containers():
        shown += project.engine.docker("inspect", container["ID"])
        if container["State"] == "running":
            user = project.exec(container["Service"], "id", "-u").strip()
            assert user != "0", container["Service"]
    assert [name for name, value in secrets.items() if value in shown] == []


def test_each_service_sees_its_own_secrets_only(project: Project) -> None:
    """Its folder is the one that `preflight.FILES` lists for it; the others have none."""
    folders = {"cassandra_db": "cassandra", "spark-worker": "spark", "spark-submitter": "spark"}
    for container in project.containers():
        service = container["Service"]
        if container["State"] == "running":
            folder = "airflow" if service.startswith("airflow-") else folders.get(service, service)
            listed = project.exec(service, "sh", "-c", f"ls {preflight.FOLDER} 2>/dev/null || true").split()
            assert set(listed) == set(preflight.FILES.get(folder, ())), service


def test_down_and_up_with_new_passwords_loses_nothing(project: Project) -> None:
    """The rows, the topic, the runs and the job's place are there; old passwords are refused, new ones hold."""
    before = balanced(project)
    project.compose("down")
    quoted = {name: value.replace("\\", "\\\\").replace('"', '\\"') for name, value in LATER.items()}
    write_env(project, ONLY_LINE + "".join(f'{name}="{value}"\n' for name, value in quoted.items()))
    project.compose("up", "--detach")
    wait_for_health(project)
    after = balanced(project)
    for name in ("produced", "stored", "rows"):
        assert after[name] >= before[name], name
    assert after["reread"] == 0, "the checkpoint was lost"
    with pytest.raises(httpx2.HTTPStatusError):
        Airflow()
    assert page("/api/v1/pipeline").status_code == 401
    assert page("/api/v1/pipeline", auth=("any", LATER["CONTROL_PASSWORD"])).status_code == 200
    admin = ("-u", "cassandra", "-p", LATER["CASSANDRA_ADMIN_PASSWORD"])
    project.exec("cassandra_db", "cqlsh", *admin, "-e", "LIST ROLES")
    carried(project, 100, LATER["AIRFLOW_PASSWORD"])


def test_a_password_is_changed_without_down(project: Project) -> None:
    """`up` restarts what uses it."""
    text = (project.root / ".env").read_text()
    write_env(project, text.replace(LATER["CONTROL_PASSWORD"], "yet another"))
    project.compose("up", "--detach")
    wait_for_health(project)
    assert page("/api/v1/pipeline", auth=("any", LATER["CONTROL_PASSWORD"])).status_code == 401
    assert page("/api/v1/pipeline", auth=("any", "yet another")).status_code == 200


def test_another_user_id_is_refused(project: Project) -> None:
    """Its containers could not read what the first one wrote; nothing is touched."""
    done = project.try_compose("run", "--rm", "--no-deps", "-T", "--user", "1234:0", "secrets-init")
    assert done.returncode == 2
    assert "AIRFLOW_UID is 1234, but the volumes were created with 1000" in done.stderr


def test_a_container_that_dies_comes_back(project: Project) -> None:
    """The job's processes are killed: the engine starts them again, and nothing is missing."""
    project.try_compose("exec", "-T", "spark-submitter", "bash", "-c", "kill -9 -1")
    project.compose("up", "--detach", "--wait", "--wait-timeout", "300", "--no-recreate", "spark-submitter")
    carried(project, 50, LATER["AIRFLOW_PASSWORD"])


@pytest.mark.parametrize("files", [OFFLINE[:1], OFFLINE, ZOOKEEPER], ids="+".join)
def test_compose_accepts_the_files(engine: Engine, tmp_path: Path, files: tuple[str, ...]) -> None:
    """Each set that the documents name, without any `.env`."""
    copy_checkout(tmp_path)
    Project(engine, tmp_path, *files).compose("config", "--quiet")


@pytest.fixture(scope="module")
def zookeeper(engine: Engine, project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Root's checkout with secrets by `compose init`, for the images' own user, and Kafka with ZooKeeper."""
    project.compose("down", "--volumes", "--remove-orphans")
    root = tmp_path_factory.mktemp("checkout") / "penstock"
    copy_checkout(root)
    made = Project(engine, root, *ZOOKEEPER, **PORTS)
    done = made.run("./penstock", "compose", "init")
    assert done.returncode == 0, done.stderr
    assert environment.read_env(root / ".env")["AIRFLOW_UID"] == "50000"
    assert not (root / ".venv").exists(), "nothing was installed"
    try:
        made.compose("up", "--detach", "--build")
        wait_for_health(made)
        yield made
    finally:
        finish(made)


def test_kafka_with_zookeeper_and_secrets_of_ones_own(zookeeper: Project) -> None:
    """The other set of files: the same pipeline on Kafka 3.9, and every password is the one in `.env`."""
    known = environment.read_env(zookeeper.root / ".env")
    assert {secret.name: known[secret.name] for secret in environment.SECRETS if secret.name in known} == {
        **secrets_of(zookeeper),
        **{name: known[name] for name in preflight.WITHOUT_VALUE},
    }
    assert "zookeeper" in {container["Service"] for container in zookeeper.containers()}
    assert page("/api/v1/pipeline").status_code == 401
    began = time.monotonic()
    carried(zookeeper, 50, known["AIRFLOW_PASSWORD"])
    zookeeper.transcript.append(f"carried with ZooKeeper in {time.monotonic() - began:.0f} s")
