"""All services of the local stack, those with the longest startup first, and their dependencies."""

from collections.abc import Iterable, Mapping

from penstock import remedies
from penstock.errors import UsageError
from penstock.stack.environment import StackEnvironment
from penstock.stack.service import Service
from penstock.stack.services import airflow, cassandra, control, kafka, registry, source, spark, watch

JARS: Mapping[str, tuple[str, ...]] = {**kafka.JARS, **registry.JARS, **cassandra.JARS, **spark.JARS}
"""Root Maven coordinates by group. jars.lock.toml is resolved from them, with all transitive dependencies."""


def build_services(environment: StackEnvironment) -> dict[str, Service]:
    """Return all services by name. Airflow is first, because it takes longest to start."""
    groups = [airflow, kafka, cassandra, spark, registry, source, watch, control]
    return {service.name: service for group in groups for service in group.build_services(environment)}


def resolve_dependencies(catalog: Mapping[str, Service], names: Iterable[str]) -> list[Service]:
    """Return the named services and their transitive dependencies, in catalog order. Without names: all services."""
    wanted: set[str] = set()
    queue = list(check_names(catalog, names) or catalog)
    while queue:
        name = queue.pop()
        if name not in wanted:
            wanted.add(name)
            queue.extend(catalog[name].needs)
    return [service for name, service in catalog.items() if name in wanted]


def find_dependents(catalog: Mapping[str, Service], names: Iterable[str]) -> list[str]:
    """Return the names of the given services and of all that depend on them. Without names: all services."""
    wanted = set(check_names(catalog, names) or catalog)
    while added := {name for name, service in catalog.items() if wanted & set(service.needs)} - wanted:
        wanted |= added
    return [name for name in catalog if name in wanted]


def check_names(catalog: Mapping[str, Service], names: Iterable[str]) -> list[str]:
    """Return the names as a list. Raises `UsageError` for the first one that is not a service."""
    names = list(names)
    for name in names:
        if name not in catalog:
            raise UsageError(
                f"unknown service {name!r}: expected one of {', '.join(catalog)}", hint=remedies.show_status()
            )
    return names
