"""Current resource usage of each service."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

from penstock.drill.growth import ServiceUsage
from penstock.drill.target import Target
from penstock.stack import catalog, status
from penstock.stack.environment import read_environment
from penstock.stack.service import Service


def measure_services(target: Target) -> dict[str, ServiceUsage]:
    """Return the usage of each running service. A folder that services share counts for the first of them."""
    counted: set[Path] = set()
    usages = {}
    for service in catalog.build_services(read_environment(target.settings)).values():
        tree = target.tree(service.name)
        folders = [folder for folder in _list_folders(target, service) if folder not in counted]
        counted.update(folders)
        if tree:
            usages[service.name] = ServiceUsage(
                status.measure_memory_mib(tree[0].pid), _count_handles(tree), measure_disk_mib(folders)
            )
    return usages


def _list_folders(target: Target, service: Service) -> list[Path]:
    checkpoint = [Path(target.settings.checkpoint)] if service.name == "spark-job" else []
    return [*service.folders, target.layout.log(service.name), *checkpoint]


def _count_handles(tree: Iterable[psutil.Process]) -> int:
    total = 0
    for process in tree:
        try:
            total += process.num_fds()
        except psutil.Error:
            continue
    return total


def measure_disk_mib(folders: Iterable[Path]) -> int:
    """Return the disk usage of files and folders, in MiB. Holes in sparse files do not count."""
    return sum(_blocks_bytes(path) for folder in folders for path in _iter_files(folder)) // 2**20


def _iter_files(root: Path) -> Iterator[Path]:
    yield from (path for path in root.rglob("*") if path.is_file()) if root.is_dir() else [root]


def _blocks_bytes(path: Path) -> int:
    try:
        return path.stat().st_blocks * 512
    except FileNotFoundError:
        return 0
