"""The checks of doctor, each with a hint."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from penstock import config
from penstock.errors import InstallFailed, WrongSettings
from penstock.stack import catalog, credentials, doctor, layout, logs
from penstock.stack.environment import StackEnvironment
from tests.unit.stack.conftest import create_environment


def test_required_memory_is_that_of_services_not_running(environment: StackEnvironment) -> None:
    """The required memory is the sum over the services that are not running."""
    services = list(catalog.build_services(environment).values())
    need_mib = sum(service.memory_mib for service in services)
    assert doctor.check_memory(services, need_mib).ok
    short = doctor.check_memory(services, need_mib - 1)
    assert not short.ok
    assert "PENSTOCK_" in short.hint


def test_the_stack_is_expected_to_fit_in_6_gib(environment: StackEnvironment) -> None:
    """With default settings the services are expected to fit in 6 GiB."""
    assert sum(service.memory_mib for service in catalog.build_services(environment).values()) < 6 * 1024
    assert all(service.memory_mib for service in catalog.build_services(environment).values())


@pytest.mark.parametrize(("kind", "ok"), [("ext4", True), ("nfs4", False), ("tmpfs", False), ("overlay", True)])
def test_the_file_system_must_be_local_and_persistent(kind: str, ok: bool) -> None:
    """A data directory on a network or memory file system fails the check."""
    check = doctor.check_file_system(Path("/mnt/home/.penstock"), {"/": "xfs", "/mnt": kind})
    assert check.ok is ok
    assert kind in check.detail


def test_open_files_and_clock_have_limits() -> None:
    """A low limit of open files and a clock behind the project's files fail their checks."""
    assert doctor.check_open_files(65536).ok
    assert not doctor.check_open_files(1024).ok
    assert doctor.check_clock(2.0, 1.0).ok
    assert not doctor.check_clock(1.0, 2.0).ok


def test_requirements_are_compared_with_the_stamp(tmp_path: Path) -> None:
    """The stamp of ./penstock is `cksum` of the two files. Without a stamp nothing is checked."""
    for name in ("requirements.txt", "pyproject.toml"):
        (tmp_path / name).write_text(name)
    assert doctor.check_requirements(tmp_path, tmp_path).ok
    stamp = subprocess.run(
        "cat requirements.txt pyproject.toml | cksum >.penstock-lock", shell=True, cwd=tmp_path, check=True
    )
    assert stamp.returncode == 0
    assert doctor.check_requirements(tmp_path, tmp_path).ok
    (tmp_path / "requirements.txt").write_text("changed")
    assert not doctor.check_requirements(tmp_path, tmp_path).ok


def test_jars_that_differ_from_the_lock_are_listed(environment: StackEnvironment) -> None:
    """Groups that differ from the lock are listed. Before the first start that is not a failure."""
    services = [catalog.build_services(environment)["kafka"]]
    assert doctor._check_jars(environment, services).ok
    environment.layout.jars.mkdir()
    check = doctor._check_jars(environment, services)
    assert (check.ok, check.detail, check.hint) == (False, "not as locked: kafka", "./penstock up")


@pytest.mark.parametrize("name", ["a:b", "a,b", "a%b"])
def test_a_data_directory_that_class_paths_cannot_contain_is_rejected(name: str) -> None:
    """Java splits class paths at colons, so such a data directory is rejected at once."""
    with pytest.raises(WrongSettings, match="PENSTOCK_HOME"):
        layout.resolve_layout(config.read(home=Path("/tmp") / name))


def test_secrets_are_generated_once_and_private(environment: StackEnvironment) -> None:
    """Every start reads the same secrets, and other users cannot read them."""
    assert credentials.load_secrets(environment.layout) == environment.secrets
    assert environment.layout.credentials.stat().st_mode & 0o777 == 0o600
    assert set(environment.secrets) == set(credentials.GENERATORS)


def test_concurrent_commands_share_their_secrets(environment: StackEnvironment, tmp_path: Path) -> None:
    """The first one generates them; each of the others reads those."""
    fresh = replace(environment.layout, home=tmp_path / "fresh")
    with ThreadPoolExecutor(8) as pool:
        loaded = list(pool.map(lambda _: credentials.load_secrets(fresh), range(8)))
    assert all(each == credentials.load_secrets(fresh) for each in loaded)


def test_two_data_directories_have_different_secrets(environment: StackEnvironment, tmp_path: Path) -> None:
    """Secrets are random, not derived from the path."""
    other = credentials.load_secrets(replace(environment.layout, home=tmp_path / "other"))
    assert not set(other.values()) & set(environment.secrets.values())


def test_tail_is_the_end_of_this_run(tmp_path: Path) -> None:
    """The tail skips the bytes before this run, or nothing after a rotation."""
    log = tmp_path / "log"
    assert logs.read_tail(log) == []
    log.write_text("old\n")
    size = logs.size_bytes(log)
    log.write_text("old\n1\n2\n3\n")
    assert logs.read_tail(log, 2, size) == ["2", "3"]
    assert logs.read_tail(log, 9, size) == ["1", "2", "3"]
    log.write_text("x\n")
    assert logs.read_tail(log, 9, size) == ["x"]


def test_follow_survives_a_rotation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each complete line is yielded exactly once across rotations, by rename or by truncation."""
    log = tmp_path / "log"
    log.write_text("skipped\nfirst\n")

    def rotate() -> None:
        with log.open("a") as file:
            file.write("alf\nthird\n")
        log.rename(tmp_path / "log.1")
        log.write_text("fourth\n")

    changes = iter([lambda: log.write_text("skipped\nfirst\nh"), rotate, lambda: log.write_text("5\n")])
    monkeypatch.setattr(logs.time, "sleep", lambda _s: next(changes)())
    lines = logs.follow_log(log, 1)
    assert [next(lines) for _ in range(5)] == ["first", "half", "third", "fourth", "5"]


def test_an_invalid_pipeline_fails_its_check(tmp_path: Path) -> None:
    """An invalid pipeline fails its check on one line with a hint. A valid one is shown with topic and table."""
    file = tmp_path / "orders.py"
    file.write_text("PIPELINE = Pipelin()\n")
    check = doctor.check_pipeline(config.read(pipeline=str(file)))
    assert (check.ok, check.name) == (False, "pipeline")
    assert check.detail.endswith(f"NameError: name 'Pipelin' is not defined; {file}, line 1: PIPELINE = Pipelin()")
    assert check.hint == f"correct line 1 of {file}, then ./penstock config"
    check = doctor.check_pipeline(config.read())
    assert (check.ok, check.detail) == (True, "penstock.pipelines.users: topic users_created, table created_users")


@pytest.mark.parametrize("has_java", [True, False])
def test_the_pipeline_is_checked_whatever_else_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_java: bool
) -> None:
    """The pipeline is checked whatever else fails, also without a Java."""
    settings = config.read(home=tmp_path / "home", pipeline=str(tmp_path / "none.py"))

    def read(_settings: config.Settings) -> StackEnvironment:
        if has_java:
            return create_environment(settings)
        raise InstallFailed("no Java", hint="install it")

    monkeypatch.setattr(doctor, "read_environment", read)
    checks = {check.name: check for check in doctor.run_checks(settings)}
    assert "file not found" in checks["pipeline"].detail
    assert checks["java"].ok is has_java
