"""What each service takes of the machine now."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

from penstock.drill.ground import Ground
from penstock.drill.growth import Usage
from penstock.stack import catalog, site, status
from penstock.stack.service import Service


def of_services(ground: Ground) -> dict[str, Usage]:
    """The usage of each service that runs. A folder that services share counts for the first of them."""
    taken: set[Path] = set()
    found = {}
    for service in catalog.services(site.read(ground.settings)).values():
        tree = ground.tree(service.name)
        folders = [folder for folder in _folders(ground, service) if folder not in taken]
        taken.update(folders)
        if tree:
            found[service.name] = Usage(status.memory_mib(tree[0].pid), _handles(tree), disk_mib(folders))
    return found


def _folders(ground: Ground, service: Service) -> list[Path]:
    checkpoint = [Path(ground.settings.checkpoint)] if service.name == "spark-job" else []
    return [*service.folders, ground.layout.log(service.name), *checkpoint]


def _handles(tree: Iterable[psutil.Process]) -> int:
    total = 0
    for process in tree:
        try:
            total += process.num_fds()
        except psutil.Error:
            continue
    return total


def disk_mib(places: Iterable[Path]) -> int:
    """What files, and folders with all in them, take on disk: holes in files take nothing."""
    return sum(_blocks_bytes(path) for place in places for path in _files(place)) // 2**20


def _files(place: Path) -> Iterator[Path]:
    yield from (path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]


def _blocks_bytes(path: Path) -> int:
    try:
        return path.stat().st_blocks * 512
    except FileNotFoundError:
        return 0
