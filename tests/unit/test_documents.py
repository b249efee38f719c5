"""The references in the documents exist."""

import re
import subprocess
from pathlib import Path

import pytest
import typer

from penstock.cli import app
from penstock.config import PREFIX, Settings
from penstock.contract.fault import Reason, Stage

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
OF_THE_FRONT_DOOR = {"PENSTOCK_PYTHON", "PENSTOCK_STACK"}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_documented_command_exists(document: Path) -> None:
    """Each `./penstock WORD` is a command, and each of its long options is one of that command."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for word, rest in re.findall(r"\./penstock ([a-z]+)([^`|\n#]*)", document.read_text()):
        assert word in commands, f"{word} in {named(document)}"
        command = commands[word]
        options = {option for parameter in command.params for option in parameter.opts}
        for child in getattr(command, "commands", {}).values():
            options |= {option for parameter in child.params for option in parameter.opts}
        asked = {option for option in re.findall(r"(?<=\s)--[a-z-]+", rest) if option != "--help"}
        assert asked <= options, f"{word}{rest} in {named(document)}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_documented_setting_exists(document: Path) -> None:
    """Each variable is a field of the settings."""
    known = {PREFIX + name.upper() for name in Settings.model_fields} | OF_THE_FRONT_DOOR
    assert set(re.findall(r"PENSTOCK_[A-Z_]*[A-Z]", document.read_text())) <= known


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_link_has_a_target(document: Path) -> None:
    """Each relative link is a file."""
    for link in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
        assert (document.parent / link).exists(), f"{link} in {named(document)}"


def test_every_reason_and_stage_is_documented() -> None:
    """The codes in dead-letter topics are in the document of the broker."""
    text = (ROOT / "docs" / "3-broker.md").read_text()
    assert [code for code in (*Reason, *Stage) if f"`{code}`" not in text] == []


def test_no_file_names_a_package_index() -> None:
    """Locks and settings contain no address of where packages come from."""
    result = subprocess.run(
        ["git", "grep", "-nIiE", r"https?://[a-z0-9.-]*(py" + r"pi|maven|npm" + r"js|python" + r"hosted)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout == ""
