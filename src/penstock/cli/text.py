"""Output of commands: JSON and plain tables."""

from collections.abc import Sequence
from typing import Any

import msgspec
import typer


def print_json(value: Any) -> None:
    """Print a value as indented JSON, with times in ISO 8601 and ids as text."""
    typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_progress(line: str) -> None:
    """Print a progress message on stderr."""
    typer.echo(line, err=True)


def format_table(heads: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    """Format a plain table with aligned columns."""
    cells = [list(heads), *([_format_cell(value) for value in line] for line in lines)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(heads))]
    return "\n".join(
        "  ".join(value.ljust(width) for value, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def _format_cell(value: Any) -> str:
    return "-" if value is None else str(value)
