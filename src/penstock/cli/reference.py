"""Generate docs/cli.md, docs/config.md, docs/metrics.md and .env.example from the code."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner

from penstock.cli import app
from penstock.config import PREFIX, Settings
from penstock.stack.layout import REPOSITORY

_NOTICE = "<!-- Written by `./penstock docs`; do not edit. -->"


def render_pages() -> dict[Path, str]:
    """Render all pages, by path."""
    from penstock.compose import environment

    docs = REPOSITORY / "docs"
    return {
        docs / "cli.md": render_cli_page(),
        docs / "config.md": render_config_page(),
        docs / "metrics.md": render_metrics_page(),
        REPOSITORY / ".env.example": environment.render_example(),
    }


def render_metrics_page() -> str:
    """Render all metrics: name, type, labels, meaning."""
    from penstock.web import metrics

    return f"{_NOTICE}\n\n{metrics.render_page()}"


def render_config_page() -> str:
    """Render all settings: variable, default, meaning."""
    lines = [
        _NOTICE,
        "",
        "# Settings",
        "",
        "Environment variables. `./penstock config` shows the effective values.",
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        lines.append(f"| `{PREFIX}{name.upper()}` | {_format_default(field)} | {field.description} |")
    return "\n".join(lines) + "\n"


def _format_default(field: Any) -> str:
    if field.default_factory is not None:
        return "the local stack's"
    text = str(field.default.get_secret_value() if hasattr(field.default, "get_secret_value") else field.default)
    return f"`{text}`" if text not in {"", "None"} else ""


def render_cli_page() -> str:
    """Render the help of all commands."""
    parts = [_NOTICE, "", "# Commands"]
    for names in _iter_commands(typer.main.get_command(app), []):
        result = CliRunner().invoke(app, [*names, "--help"], prog_name="./penstock", env={"COLUMNS": "110"})
        title = " ".join(["penstock", *names])
        parts += ["", f"## {title}", "", "```", result.output.strip(), "```"]
    return "\n".join(parts) + "\n"


def _iter_commands(command: Any, names: list[str]) -> Iterator[list[str]]:
    yield names
    for name, child in getattr(command, "commands", {}).items():
        yield from _iter_commands(child, [*names, name])
