"""Every service of the local stack, in the order in which starting them pays, and what follows from their needs."""

from collections.abc import Iterable, Mapping

from penstock.errors import WrongUse
from penstock.stack.service import Service
from penstock.stack.services import airflow, cassandra, control, kafka, registry, source, spark, watch
from penstock.stack.site import Site

JARS: Mapping[str, tuple[str, ...]] = {**kafka.JARS, **registry.JARS, **cassandra.JARS, **spark.JARS}
"""Root coordinates by group; with all they depend on, they make jars.lock.toml."""


def services(site: Site) -> dict[str, Service]:
    """Every service by name. Airflow leads, because it takes longest."""
    groups = [airflow, kafka, cassandra, spark, registry, source, watch, control]
    return {service.name: service for group in groups for service in group.services(site)}


def closure(catalog: Mapping[str, Service], names: Iterable[str]) -> list[Service]:
    """The named services and all that they need, in the catalog's order; no name: every service."""
    wanted: set[str] = set()
    queue = list(known(catalog, names) or catalog)
    while queue:
        name = queue.pop()
        if name not in wanted:
            wanted.add(name)
            queue.extend(catalog[name].needs)
    return [service for name, service in catalog.items() if name in wanted]


def dependents(catalog: Mapping[str, Service], names: Iterable[str]) -> list[str]:
    """The named services and all that need them; no name: every service."""
    wanted = set(known(catalog, names) or catalog)
    while more := {name for name, service in catalog.items() if wanted & set(service.needs)} - wanted:
        wanted |= more
    return [name for name in catalog if name in wanted]


def known(catalog: Mapping[str, Service], names: Iterable[str]) -> list[str]:
    """The names, all of services. Raises `WrongUse` naming the first that is none."""
    names = list(names)
    for name in names:
        if name not in catalog:
            raise WrongUse(f"there is no service {name!r}; there are {', '.join(catalog)}", hint="./penstock status")
    return names
