"""check, test, config, docs, wheel: commands for development and configuration."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Annotated

import typer

from penstock.stack.layout import REPOSITORY

BIN = Path(sys.executable).parent

PYTEST = [sys.executable, "-m", "pytest", "-q"]
QUICK = "--hypothesis-profile=quick"
"""Makes pytest try a third of the examples of each property."""
SLOWEST_TESTS = "tests/unit/reconcile/test_reconciliation.py"
CHECKS = {
    "format": [str(BIN / "ruff"), "format", "--check"],
    "lint": [str(BIN / "ruff"), "check"],
    "unit tests": [*PYTEST, "tests/unit", "--ignore=tests/unit/reconcile"],
    "reconcile tests": [*PYTEST, "tests/unit/reconcile", f"--ignore={SLOWEST_TESTS}"],
    "reconciliation tests": [*PYTEST, SLOWEST_TESTS],
    "layers": [str(BIN / "lint-imports")],
    "types": [str(BIN / "mypy")],
    "schemas": [sys.executable, "-m", "penstock.cli", "schema", "render", "--check"],
    "docs": [sys.executable, "-m", "penstock.cli", "docs", "--check"],
}
"""In the order in which they start. The unit tests are divided so that two cores are busy to the end."""
STACK_TESTS = ("tests/integration", "tests/e2e", "tests/browser", "tests/drills")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(check)
    app.command(context_settings={"ignore_unknown_options": True})(test)  # unknown options are passed to pytest
    app.command()(config)
    app.command()(docs)
    app.command()(wheel)


def check() -> None:
    """Run all checks and the unit tests, without network.

    Format, lint, types, import layers, rendered files, unit tests. Exit 1 if one fails. Properties are tested with a
    third of the examples that `test` tries.
    """
    raise typer.Exit(0 if run_checks(quick=True) else 1)


def test(
    arguments: Annotated[list[str] | None, typer.Argument(help="Arguments for pytest; default: all tests.")] = None,  # noqa: PT028
    compose: Annotated[
        bool,
        typer.Option("--compose", help="Run only the Docker Compose test, on its own Docker engine; requires root."),
    ] = False,  # noqa: PT028
) -> None:
    """Run all checks and all tests except those of Docker Compose and of the benchmarks.

    The tests start real services on separate ports and stop them.
    """
    if compose:
        raise typer.Exit(
            _run_command([sys.executable, "-m", "pytest", "-s", "--durations=20", "tests/compose", *(arguments or ())])
        )
    if arguments:
        raise typer.Exit(_run_command([sys.executable, "-m", "pytest", *arguments]))
    checked = run_checks(quick=False)
    tested = _run_command([sys.executable, "-m", "pytest", "--durations=20", *STACK_TESTS]) == 0
    raise typer.Exit(0 if checked and tested else 1)


def run_checks(*, quick: bool) -> bool:
    """Run all checks, as many at once as there are cores, print their results, and return whether all passed.

    If `quick`, properties are tested with fewer examples.
    """
    options = [QUICK] if quick else []
    passed = True
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        checks = {
            pool.submit(_run_captured, [*command, *(options if command[: len(PYTEST)] == PYTEST else [])]): name
            for name, command in CHECKS.items()
        }
        for check in as_completed(checks):
            result = check.result()
            passed = passed and result.returncode == 0
            _report_check(checks[check], result)
    return passed


def _report_check(name: str, result: subprocess.CompletedProcess[str]) -> None:
    typer.echo(f"== {name}", err=True)
    typer.echo(result.stdout, nl=False)
    if result.returncode:
        typer.echo(f"== {name}: FAILED", err=True)


def _run_captured(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=REPOSITORY,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )


def _run_command(command: list[str]) -> int:
    return subprocess.run(command, cwd=REPOSITORY, check=False).returncode


def config() -> None:
    """Show the effective settings. Secrets are hidden.

    Exit 2 if a setting or the pipeline's file is invalid, with the reason.
    """
    from penstock import pipelines
    from penstock.config import PREFIX, load

    settings = load()
    for name, value in settings:
        typer.echo(f"{PREFIX}{name.upper()}={'' if value is None else value}")
    pipelines.of(settings)


def wheel() -> None:
    """Build dist/*.whl to install into your own Airflow or Spark."""
    code = _run_command([sys.executable, "-m", "hatchling", "build", "--target", "wheel"])
    raise typer.Exit(code)


def docs(
    check_only: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 if a file is stale.")] = False,
) -> None:
    """Generate docs/config.md, docs/cli.md, docs/metrics.md and .env.example from the code."""
    from penstock.cli.reference import render_pages
    from penstock.errors import PenstockError

    stale = [path for path, text in render_pages().items() if not path.exists() or path.read_text() != text]
    if check_only and stale:
        names = ", ".join(path.name for path in stale)
        raise PenstockError(f"stale: {names}", hint="./penstock docs")
    for path in stale:
        path.write_text(render_pages()[path])
        typer.echo(f"wrote {path.relative_to(REPOSITORY)}")
