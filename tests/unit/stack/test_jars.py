"""The lock file and the installation of its jars."""

import hashlib
import io
import re
import tarfile
from pathlib import Path

import pytest

from penstock.errors import InstallFailed
from penstock.stack import catalog, jars, lock
from penstock.stack.environment import StackEnvironment
from penstock.stack.jars import Artifact

GOOD, BAD = b"good", b"cut"
SHA = hashlib.sha256(GOOD).hexdigest()
ONE = Artifact("org.example", "one", "1.0")


def file_name(artifact: Artifact) -> str:
    return f"{artifact.name}-{artifact.version}.{artifact.packaging}"


class Repository:
    """Returns the given bodies in turn and counts the requests."""

    def __init__(self, *bodies: bytes | Exception) -> None:
        self.bodies, self.requests = list(bodies), 0

    def __call__(self, folder: Path, artifact: Artifact) -> Path:
        path = folder / file_name(artifact)
        if path.exists():
            return path
        body = self.bodies[self.requests]
        self.requests += 1
        if isinstance(body, Exception):
            raise body
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        return path


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[Artifact, str]]:
    groups = {"group": {ONE: SHA}}
    monkeypatch.setattr(jars, "read_lock", lambda _lock=jars.LOCK: groups)
    return groups


def test_the_lock_contains_no_url() -> None:
    """The lock contains no URL, so that it works with any mirror."""
    assert not re.search(r"https?:|://|www\.", jars.LOCK.read_text(encoding="utf-8"))


def test_each_entry_has_a_digest() -> None:
    """Every entry has a SHA-256, so nothing is installed unverified."""
    digests = [digest for group in jars.read_lock().values() for digest in group.values()]
    assert digests
    assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in digests)


def test_the_lock_matches_the_catalog() -> None:
    """The lock has the catalog's versions: it was regenerated after the last change."""
    for group, roots in catalog.JARS.items():
        named = {str(artifact) for artifact in jars.read_lock()[group]}
        assert set(roots) <= named, f"{lock.__doc__}"
    assert set(jars.read_lock()) == set(catalog.JARS)


def test_the_spark_group_excludes_jars_bundled_with_pyspark() -> None:
    """The Spark group adds only jars that pyspark lacks, so that no jar is on the class path twice."""
    assert lock.is_bundled(Artifact("g", "lz4-java", "1.0"), ["lz4-java-1.8.0.jar"])
    assert not lock.is_bundled(Artifact("g", "kafka", "1"), ["kafka-clients-3.9.1.jar"])
    assert {artifact.name for artifact in jars.read_lock()["spark"]} == {
        "commons-pool2",
        "hadoop-bare-naked-local-fs",
        "kafka-clients",
        "spark-sql-kafka-0-10_2.13",
        "spark-token-provider-kafka-0-10_2.13",
    }


@pytest.mark.parametrize("text", ["g:n:1", "g:n:1:linux-x86_64", "g:n:1:all@tar.gz"])
def test_coordinates_survive_formatting_and_parsing(text: str) -> None:
    """A coordinate survives formatting and parsing."""
    assert str(Artifact.parse(text)) == text


def test_the_rendered_lock_is_read_as_resolved(tmp_path: Path) -> None:
    """The installer reads the rendered lock as it was resolved."""
    file = tmp_path / "lock.toml"
    file.write_text(lock.render_lock({"a": {"g:n:1:all@tar.gz": SHA}}), encoding="utf-8")
    assert jars.read_lock(file) == {"a": {Artifact("g", "n", "1", "all", "tar.gz"): SHA}}


def test_a_corrupt_download_is_repeated_once(tmp_path: Path) -> None:
    """A truncated download is deleted and repeated."""
    repository = Repository(BAD, GOOD)
    assert jars.fetch_verified(tmp_path, ONE, SHA, repository).read_bytes() == GOOD
    assert repository.requests == 2


def test_a_file_that_stays_corrupt_is_an_error(tmp_path: Path) -> None:
    """After two wrong downloads the error names the artifact and both digests, and the file is deleted."""
    with pytest.raises(InstallFailed, match=rf"org\.example:one:1\.0: SHA-256 mismatch: expected {SHA}, got "):
        jars.fetch_verified(tmp_path, ONE, SHA, Repository(BAD, BAD))
    assert not list(tmp_path.iterdir())


def test_a_network_error_is_quoted(tmp_path: Path) -> None:
    """A network error is quoted in the message."""
    with pytest.raises(InstallFailed, match=r"one:1\.0: no route"):
        jars.fetch_verified(tmp_path, ONE, SHA, Repository(OSError("no route"), OSError("no route")))


def test_installing_twice_fetches_once(environment: StackEnvironment, locked: dict[str, dict[Artifact, str]]) -> None:
    """A group that is installed as locked is not fetched again."""
    repository = Repository(GOOD)
    for _ in range(2):
        jars.install_group(environment.layout, "group", fetch=repository)
    assert repository.requests == 1
    assert (environment.layout.jars / "group" / file_name(ONE)).read_bytes() == GOOD


def test_a_new_lock_replaces_the_group(environment: StackEnvironment, locked: dict[str, dict[Artifact, str]]) -> None:
    """A changed lock replaces the group: no old jar stays on the class path."""
    jars.install_group(environment.layout, "group", fetch=Repository(GOOD))
    two = Artifact("org.example", "two", "2.0")
    locked["group"] = {two: SHA}
    assert not jars.is_installed(environment.layout, "group")
    jars.install_group(environment.layout, "group", fetch=Repository(GOOD))
    assert [path.name for path in (environment.layout.jars / "group").glob("*.jar")] == [file_name(two)]


def test_a_group_is_installed_from_the_given_lock(environment: StackEnvironment, tmp_path: Path) -> None:
    """Jars and stamp are those of the given lock, not of penstock's own."""
    first, other = tmp_path / "one.toml", tmp_path / "other.toml"
    first.write_text(lock.render_lock({"group": {str(ONE): SHA}}), encoding="utf-8")
    other.write_text(lock.render_lock({"group": {"org.example:two:2.0": SHA}}), encoding="utf-8")
    jars.install_group(environment.layout, "group", lock=first, fetch=Repository(GOOD))
    assert [path.name for path in (environment.layout.jars / "group").glob("*.jar")] == [file_name(ONE)]
    assert jars.is_installed(environment.layout, "group", first)
    assert not jars.is_installed(environment.layout, "group", other)
    assert jars.group_digest("group", first) != jars.group_digest("group", other)
    with pytest.raises(KeyError):
        jars.install_group(environment.layout, "group", fetch=Repository(GOOD))


def test_an_interrupted_installation_does_not_count(
    environment: StackEnvironment, locked: dict[str, dict[Artifact, str]]
) -> None:
    """An interrupted installation does not count as installed."""

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jars.install_group(environment.layout, "group", fetch=Repository(GOOD), check=stop)
    assert not jars.is_installed(environment.layout, "group")


def test_data_directories_share_downloads(
    tmp_path: Path, environment: StackEnvironment, locked: dict[str, dict[Artifact, str]]
) -> None:
    """Two data directories with a shared cache download only once."""
    from penstock.stack.layout import Layout

    repository = Repository(GOOD)
    for name in ("a", "b"):
        jars.install_group(Layout(tmp_path / name, tmp_path / "cache"), "group", fetch=repository)
    assert repository.requests == 1


def test_an_archive_is_unpacked(environment: StackEnvironment, locked: dict[str, dict[Artifact, str]]) -> None:
    """A tar.gz archive is unpacked into the group's folder."""
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w:gz") as archive:
        entry = tarfile.TarInfo("lib/x.jar")
        entry.size = len(GOOD)
        archive.addfile(entry, io.BytesIO(GOOD))
    packed = Artifact("org.example", "app", "1", "all", "tar.gz")
    locked["group"] = {packed: hashlib.sha256(body.getvalue()).hexdigest()}
    jars.install_group(environment.layout, "group", fetch=Repository(body.getvalue()))
    assert (environment.layout.jars / "group" / "lib" / "x.jar").read_bytes() == GOOD
