"""Properties that all services of the catalog share."""

import re
from collections.abc import Iterator
from dataclasses import replace
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from penstock import config
from penstock.errors import UsageError
from penstock.stack import catalog
from penstock.stack.environment import StackEnvironment
from penstock.stack.service import Service

MODES = ("kraft", "zookeeper")
ANYWHERE = re.compile(r"0\.0\.0\.0|\[::\]|(?<![\w:]):::?\d|\*:\d|=::")


@pytest.fixture(params=MODES)
def services(request: pytest.FixtureRequest, environment: StackEnvironment) -> dict[str, Service]:
    settings = environment.settings.model_copy(update={"coordination": request.param})
    return catalog.build_services(replace(environment, settings=settings))


def _texts(service: Service) -> Iterator[str]:
    yield service.script()
    yield from (service.script(step.command) for step in service.prepare)
    yield from (file.text for file in service.files)


def test_dependencies_have_an_order(services: dict[str, Service]) -> None:
    """Every dependency is a service, and there are no cycles."""
    order = list(TopologicalSorter({name: service.needs for name, service in services.items()}).static_order())
    assert set(order) == set(services)


def test_each_port_has_one_service(services: dict[str, Service], environment: StackEnvironment) -> None:
    """No two services use the same port, and each port is a setting."""
    ports = [port for service in services.values() for port in service.ports]
    assert len(ports) == len(set(ports))
    assert set(ports) <= set(environment.settings.ports())


def test_each_port_setting_is_used(environment: StackEnvironment) -> None:
    """Every port setting belongs to a service that listens on it."""
    used = {
        port
        for mode in MODES
        for service in catalog.build_services(
            replace(environment, settings=environment.settings.model_copy(update={"coordination": mode}))
        ).values()
        for port in service.ports
    }
    assert used == set(environment.settings.ports())


def test_a_changed_port_reaches_the_service(environment: StackEnvironment) -> None:
    """A changed port setting appears in the script or a file of its service."""
    ports = {name: 20_000 + number for number, name in enumerate(environment.settings.ports())}
    for mode in MODES:
        settings = environment.settings.model_copy(update={**ports, "coordination": mode})
        for service in catalog.build_services(replace(environment, settings=settings)).values():
            texts = "\n".join(_texts(service))
            assert [port for port in service.ports if str(ports[port]) not in texts] == []


def test_nothing_listens_beyond_loopback(services: dict[str, Service]) -> None:
    """No command, environment variable or file makes a service bind to all addresses."""
    for service in services.values():
        for text in _texts(service):
            assert not ANYWHERE.search(text), f"{service.name}: {ANYWHERE.search(text)}"


def test_no_secret_is_an_argument(services: dict[str, Service], environment: StackEnvironment) -> None:
    """Secrets are passed by environment or file, never as arguments, which every user of the machine can list."""
    secrets = {value for name, value in environment.secrets.items() if name != "kafka_cluster_id"}
    for service in services.values():
        words = {word for command in [service.command, *(step.command for step in service.prepare)] for word in command}
        assert not [word for word in words if any(secret in word for secret in secrets)]


def test_files_with_secrets_are_private(services: dict[str, Service], environment: StackEnvironment) -> None:
    """A rendered file that contains a secret is readable only by its owner."""
    for file in (file for service in services.values() for file in service.files):
        if any(secret in file.text for secret in environment.secrets.values()):
            assert file.mode & 0o077 == 0, file.path


def test_all_data_is_below_the_data_directory(services: dict[str, Service], environment: StackEnvironment) -> None:
    """Services write only below the data directory."""
    for service in services.values():
        paths = [*service.folders, *(file.path for file in service.files), *(step.done for step in service.prepare)]
        assert all(path.is_relative_to(environment.layout.home) for path in paths)


def test_both_coordinations_use_separate_data_folders(environment: StackEnvironment) -> None:
    """KRaft and ZooKeeper use separate data folders, because their formats differ."""
    folders = [
        catalog.build_services(
            replace(environment, settings=environment.settings.model_copy(update={"coordination": mode}))
        )["kafka"].folders
        for mode in MODES
    ]
    assert set(folders[0]).isdisjoint(folders[1])


def test_jar_groups_are_known(services: dict[str, Service]) -> None:
    """Each group of jars that a service uses is in the lock."""
    assert {group for service in services.values() for group in service.jars} <= set(catalog.JARS)


def test_dependencies_are_started_too(environment: StackEnvironment) -> None:
    """Starting the registry also starts Kafka, and nothing else."""
    assert [
        service.name for service in catalog.resolve_dependencies(catalog.build_services(environment), ["registry"])
    ] == ["kafka", "registry"]


def test_dependents_are_stopped_too(environment: StackEnvironment) -> None:
    """Stopping the worker also stops the job."""
    assert set(catalog.find_dependents(catalog.build_services(environment), ["spark-worker"])) == {
        "spark-worker",
        "spark-job",
    }


def test_an_unknown_service_is_a_usage_error(environment: StackEnvironment) -> None:
    """An unknown name changes nothing, and the message lists the known ones."""
    with pytest.raises(UsageError, match=r"'kafak': expected one of .*kafka"):
        catalog.resolve_dependencies(catalog.build_services(environment), ["kafak"])


def test_child_processes_use_the_standin_by_default(environment: StackEnvironment, tmp_path: Path) -> None:
    """Tasks use the stand-in API unless PENSTOCK_SOURCE_URL is set."""
    assert environment.child_env()["PENSTOCK_SOURCE_URL"] == f"http://127.0.0.1:{environment.settings.source_port}/api/"
    chosen = config.read(home=tmp_path, source_url=config.REAL_API_URL)
    assert replace(environment, settings=chosen).child_env()["PENSTOCK_SOURCE_URL"] == config.REAL_API_URL
