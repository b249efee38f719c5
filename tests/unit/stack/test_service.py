"""The script, fingerprint and files of a service."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.stack.service import ConfigFile, Service, render_template


def _service(**changes: object) -> Service:
    plain = Service("echo", "Echo", "1", ("/bin/sh", "-c", 'printf "%s|" "$ODD" "$@"', "-", "a b"), lambda *_: None)
    return replace(plain, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("odd", ["100%", "it's", 'a "b"', "$HOME `id`", "two\nlines", "ü"])
def test_script_keeps_every_character(tmp_path: Path, odd: str) -> None:
    """The process receives every value unchanged, whatever its characters."""
    script = tmp_path / "script"
    script.write_text(_service(env={"ODD": odd}).script(), encoding="utf-8")
    result = subprocess.run(["/bin/sh", script], capture_output=True, text=True, check=True, encoding="utf-8")
    assert result.stdout == f"{odd}|a b|"


def test_fingerprint_follows_what_a_restart_would_change() -> None:
    """The fingerprint changes with command, environment and files, not with the hint."""
    before = _service().fingerprint
    assert _service(hint="other").fingerprint == before
    changed = [
        _service(command=("true",)),
        _service(env={"A": "1"}),
        _service(files=(ConfigFile(Path("/x"), "text"),)),
        _service(version="2"),
    ]
    assert len({before, *(service.fingerprint for service in changed)}) == 5


def test_a_template_without_its_value_is_an_error() -> None:
    """A template with a missing value is an error, not rendered as empty text."""
    with pytest.raises(KeyError):
        render_template("zookeeper.properties", data="/d")


@pytest.mark.parametrize(
    ("folder", "written"),
    [
        ("/home/a b", "/home/a b"),
        ("/Jörgs Klon", r"/J\u00f6rgs Klon"),
        ("/Żółw/😀", r"/\u017b\u00f3\u0142w/\ud83d\ude00"),
    ],
)
def test_java_reads_every_character_of_a_properties_file(folder: str, written: str) -> None:
    """Paths are escaped for java.util.Properties, which reads ISO 8859-1. Otherwise Kafka would use another folder."""
    assert f"dataDir={written}\n" in render_template("zookeeper.properties", data=folder, port=1)
    assert f"log.dirs={written}\n" in render_template("kafka.properties", data=folder, port=1, controller=2)
