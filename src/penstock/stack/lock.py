"""Generate jars.lock.toml: the artifacts that the catalog's coordinates resolve to, with SHA-256, without URLs.

Run it after changing a version: `.venv/bin/python -m penstock.stack.lock`.
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


def render_lock(groups: dict[str, dict[str, str]]) -> str:
    """Render the lock file: one table per group, SHA-256 by coordinate."""
    lines = [HEADER]
    for group, locked in groups.items():
        lines += [f"[{group}]", *(f'"{coordinate}" = "{digest}"' for coordinate, digest in locked.items()), ""]
    return "\n".join(lines)


def resolve_groups(cache: Path) -> dict[str, dict[str, str]]:
    """Resolve each group of the catalog over the network."""
    return {group: _resolve_group(cache, group, roots) for group, roots in catalog.JARS.items()}


def _resolve_group(cache: Path, group: str, roots: tuple[str, ...]) -> dict[str, str]:
    archives = [jars.Artifact.parse(root) for root in roots if "@" in root]
    if archives:
        return {str(archive): jars.compute_sha256(jars.fetch_artifact(cache, archive)) for archive in archives}
    dependencies = _resolve_dependencies(cache, roots)
    if group == spark.GROUP:
        bundled = [path.name for path in (spark.find_spark_home() / "jars").glob("*.jar")]
        dependencies = [(artifact, digest) for artifact, digest in dependencies if not is_bundled(artifact, bundled)]
    return {str(artifact): digest for artifact, digest in sorted(dependencies, key=lambda pair: str(pair[0]))}


def _resolve_dependencies(cache: Path, roots: tuple[str, ...]) -> list[tuple[jars.Artifact, str]]:
    from jgo.env import EnvironmentBuilder
    from jgo.maven import MavenContext

    with tempfile.TemporaryDirectory() as folder:
        builder = EnvironmentBuilder(context=MavenContext(repo_cache=cache), cache_dir=Path(folder))
        # Without the "!" a dependency's managed versions leak in, and the result differs from Maven's.
        locked = builder.from_endpoint("+".join(f"{root}!" for root in roots)).lockfile.dependencies
    return [
        (
            jars.Artifact(
                dependency.groupId,
                dependency.artifactId,
                dependency.version,
                dependency.classifier or "",
                dependency.packaging,
            ),
            dependency.sha256,
        )
        for dependency in locked
    ]


def is_bundled(artifact: jars.Artifact, file_names: Iterable[str]) -> bool:
    """Return whether one of the jars is the artifact, in any version."""
    prefix = f"{artifact.name}-"
    return any(name.startswith(prefix) and name[len(prefix)].isdigit() for name in file_names)


if __name__ == "__main__":
    layout.write(jars.LOCK, render_lock(resolve_groups(jars.repository_folder(layout.resolve_layout(load())))), 0o644)
