"""Makes jars.lock.toml: what the catalog's coordinates resolve to, each with its SHA-256, and no address.

Run it after a version changed: `.venv/bin/python -m penstock.stack.lock`.
"""

import tempfile
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from penstock.config import load
from penstock.stack import catalog, jars, layout
from penstock.stack.services import spark

HEADER = f"""\
# Every jar of the local stack and its SHA-256, by group. Made by `.venv/bin/python -m penstock.stack.lock` with
# jgo {version("jgo")} from the coordinates in stack/services; change those, not this.
"""


def render(groups: dict[str, dict[str, str]]) -> str:
    """The text of the lock: a table per group, SHA-256 by coordinate."""
    lines = [HEADER]
    for group, locked in groups.items():
        lines += [f"[{group}]", *(f'"{coordinate}" = "{digest}"' for coordinate, digest in locked.items()), ""]
    return "\n".join(lines)


def resolve(cache: Path) -> dict[str, dict[str, str]]:
    """What each group of the catalog resolves to; asks the network."""
    return {group: _group(cache, group, roots) for group, roots in catalog.JARS.items()}


def _group(cache: Path, group: str, roots: tuple[str, ...]) -> dict[str, str]:
    archives = [jars.Artifact.parse(root) for root in roots if "@" in root]
    if archives:
        return {str(each): jars.digest(jars.fetch(cache, each)) for each in archives}
    found = _dependencies(cache, roots)
    if group == spark.GROUP:
        carried = [path.name for path in (spark.home() / "jars").glob("*.jar")]
        found = [(each, digest) for each, digest in found if not is_carried(each, carried)]
    return {str(each): digest for each, digest in sorted(found, key=lambda pair: str(pair[0]))}


def _dependencies(cache: Path, roots: tuple[str, ...]) -> list[tuple[jars.Artifact, str]]:
    from jgo.env import EnvironmentBuilder
    from jgo.maven import MavenContext

    with tempfile.TemporaryDirectory() as folder:
        builder = EnvironmentBuilder(context=MavenContext(repo_cache=cache), cache_dir=Path(folder))
        # Without the "!" a dependency's managed versions leak in, and another set than Maven's comes out.
        locked = builder.from_endpoint("+".join(f"{root}!" for root in roots)).lockfile.dependencies
    return [
        (jars.Artifact(d.groupId, d.artifactId, d.version, d.classifier or "", d.packaging), d.sha256) for d in locked
    ]


def is_carried(artifact: jars.Artifact, file_names: Iterable[str]) -> bool:
    """Whether one of the jars is some version of the artifact."""
    prefix = f"{artifact.name}-"
    return any(name.startswith(prefix) and name[len(prefix)].isdigit() for name in file_names)


if __name__ == "__main__":
    layout.write(jars.LOCK, render(resolve(jars.repository(layout.of(load())))), 0o644)
