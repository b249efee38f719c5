"""check, test, config, docs: what keeps the project true."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from penstock.stack.layout import REPOSITORY

BIN = Path(sys.executable).parent

CHECKS = {
    "format": [str(BIN / "ruff"), "format", "--check"],
    "lint": [str(BIN / "ruff"), "check"],
    "types": [str(BIN / "mypy")],
    "layers": [str(BIN / "lint-imports")],
    "schemas": [sys.executable, "-m", "penstock.cli", "schema", "render", "--check"],
    "docs": [sys.executable, "-m", "penstock.cli", "docs", "--check"],
    "unit tests": [sys.executable, "-m", "pytest", "-q", "tests/unit"],
}
STACK_TESTS = ("tests/integration", "tests/e2e", "tests/browser", "tests/drills")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(check)
    app.command(context_settings={"ignore_unknown_options": True})(test)  # they are pytest's
    app.command()(config)
    app.command()(docs)
    app.command()(wheel)


def check() -> None:
    """Run every check and the unit tests; no network.

    Format, lint, types, import layers, rendered files, unit tests. Exit 1 when one fails.
    """
    raise typer.Exit(0 if run_checks() else 1)


def test(
    arguments: Annotated[list[str] | None, typer.Argument(help="Arguments for pytest instead of all tests.")] = None,  # noqa: PT028
    compose: Annotated[
        bool,
        typer.Option("--compose", help="Only the test of Docker Compose, on a Docker engine of its own; needs root."),
    ] = False,  # noqa: PT028
) -> None:
    """Run every check and every test but those of Docker Compose and of the benchmarks.

    The tests start real services, on ports of their own, and stop them.
    """
    if compose:
        raise typer.Exit(_run([sys.executable, "-m", "pytest", "-s", "tests/compose", *(arguments or ())]))
    if arguments:
        raise typer.Exit(_run([sys.executable, "-m", "pytest", *arguments]))
    checked = run_checks()
    tested = _run([sys.executable, "-m", "pytest", "--durations=20", *STACK_TESTS]) == 0
    raise typer.Exit(0 if checked and tested else 1)


def run_checks() -> bool:
    """Whether every check passed; each one's outcome is told."""
    passed = True
    for name, command in CHECKS.items():
        typer.echo(f"== {name}", err=True)
        if _run(command):
            typer.echo(f"== {name}: FAILED", err=True)
            passed = False
    return passed


def _run(command: list[str]) -> int:
    return subprocess.run(command, cwd=REPOSITORY, check=False).returncode


def config() -> None:
    """Show the settings in force; secrets are hidden.

    Exit 2 when one of them, or the pipeline's file, cannot work: what is wrong with it is said.
    """
    from penstock import pipelines
    from penstock.config import PREFIX, load

    settings = load()
    for name, value in settings:
        typer.echo(f"{PREFIX}{name.upper()}={'' if value is None else value}")
    pipelines.of(settings)


def wheel() -> None:
    """Build dist/*.whl, to install into your own Airflow or Spark."""
    code = _run([sys.executable, "-m", "hatchling", "build", "--target", "wheel"])
    raise typer.Exit(code)


def docs(
    check_only: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 when a file is stale.")] = False,
) -> None:
    """Write docs/config.md, docs/cli.md, docs/metrics.md and .env.example from the code."""
    from penstock.cli.reference import pages
    from penstock.errors import PenstockError

    stale = [path for path, text in pages().items() if not path.exists() or path.read_text() != text]
    if check_only and stale:
        names = ", ".join(path.name for path in stale)
        raise PenstockError(f"stale: {names}", hint="./penstock docs")
    for path in stale:
        path.write_text(pages()[path])
        typer.echo(f"wrote {path.relative_to(REPOSITORY)}")
