"""up, down, restart, status, logs, doctor, destroy: manage the local stack."""

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from penstock.cli.text import format_table, print_json, print_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from penstock.config import Settings
    from penstock.stack.check import Check
    from penstock.stack.report import Report, Stage

Services = Annotated[list[str] | None, typer.Argument(metavar="[SERVICE]...", help="Services; default: all.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print a JSON list.")]
_LISTED = 5
"""Number of unfinished runs that are listed."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (up, down, restart, status, logs, doctor, destroy):
        app.command()(command)


def up(
    services: Services = None,
    coordination: Annotated[
        Literal["kraft", "zookeeper"] | None, typer.Option(help="Coordination of Kafka.", show_default=False)
    ] = None,
) -> None:
    """Start services and their dependencies, and wait until all are ready."""
    settings = _load_settings(coordination)
    start_stack(settings, services)
    if not services:
        print_progress("\n" + format_web_pages(settings))


def start_stack(settings: "Settings", services: list[str] | None = None) -> None:
    """Start services and their dependencies with progress reports. Without names: all."""
    from penstock.stack import launch

    with report_progress() as report:
        launch.start_services(settings, services or (), report)


def down(services: Services = None) -> None:
    """Stop services and their dependents. Data is kept."""
    stop_stack(_load_settings(), services)


def stop_stack(settings: "Settings", services: list[str] | None = None) -> None:
    """Stop services and their dependents with progress reports. Without names: all."""
    from penstock.stack import launch

    if not services or any(name.startswith("airflow") for name in services):
        print_unfinished(settings)
    with report_progress() as report:
        launch.stop_services(settings, services or (), report)


def print_unfinished(settings: "Settings") -> None:
    """List the unfinished runs if Airflow is running. They resume at the next `up`."""
    from penstock.airflow import runs
    from penstock.config import LOOPBACK
    from penstock.errors import PenstockError
    from penstock.net import is_port_free

    if is_port_free(settings.airflow_port, LOOPBACK):
        return
    local = settings.model_copy(update={"airflow_url": f"http://{LOOPBACK}:{settings.airflow_port}"})
    try:
        unfinished = runs.list_unfinished(local)
    except PenstockError as error:
        print_progress(f"cannot check for unfinished runs: {error.message}")
        return
    if unfinished:
        count = f"{len(unfinished)} unfinished {'run' if len(unfinished) == 1 else 'runs'}"
        more = f" and {len(unfinished) - _LISTED} more" if len(unfinished) > _LISTED else ""
        print_progress(f"{count}: {', '.join(unfinished[:_LISTED])}{more}\n  resume: ./penstock up")


def restart(services: Services = None) -> None:
    """Stop and start services with the effective settings."""
    from penstock.stack import launch

    with report_progress() as report:
        launch.restart_services(_load_settings(), services or (), report)


def status(services: Services = None, as_json: AsJson = False) -> None:
    """Show the state of each service.

    Exit 1 unless all named services, or all running ones, are ready.
    """
    from penstock.stack import status as stack_status

    states = stack_status.read_statuses(_load_settings(), services or ())
    if as_json:
        print_json(states)
    else:
        heads = ("service", "state", "pid", "uptime", "restarts", "MiB", "version", "ports")
        lines = [
            (
                service.name,
                service.state,
                service.pid or "",
                _format_uptime(service.uptime_s),
                service.restarts or "",
                service.rss_mib or "",
                service.version,
                _format_ports(service.ports),
            )
            for service in states
        ]
        typer.echo(
            format_table(heads, [*lines, ("", "", "", "", "", sum(service.rss_mib for service in states), "", "")])
        )
        for service in states:
            if service.detail:
                print_progress(f"{service.name}: {service.detail}")
    if any(service.state != "ready" and (services or service.state != "stopped") for service in states):
        raise typer.Exit(1)


def format_web_pages(settings: "Settings") -> str:
    """Return a table of the stack's web pages."""
    from penstock.stack import catalog
    from penstock.stack.environment import read_environment

    services = catalog.build_services(read_environment(settings)).values()
    return format_table(
        ("web page", "address"), [(service.title, service.page) for service in services if service.page]
    )


def logs(
    service: Annotated[str, typer.Argument(help="The service.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Follow the log.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="Number of lines.")] = 50,
) -> None:
    """Show the last lines of a service's log."""
    from penstock.stack import launch
    from penstock.stack import logs as stack_logs

    path = launch.log_path(_load_settings(), service)
    with contextlib.suppress(KeyboardInterrupt):
        for line in stack_logs.follow_log(path, lines) if follow else stack_logs.read_tail(path, lines):
            typer.echo(line)


def doctor(
    as_json: AsJson = False,
    compose: Annotated[bool, typer.Option("--compose", help="Check Docker Compose instead.")] = False,
) -> None:
    """Check this machine and the local stack, with hints.

    Exit 1 if a check fails.
    """
    checks = _compose_checks() if compose else _stack_checks()
    if as_json:
        print_json(checks)
    else:
        from penstock.stack.check import format_checks

        typer.echo(format_checks(checks))
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


def _stack_checks() -> "list[Check]":
    from penstock.stack import doctor

    return doctor.run_checks(_load_settings())


def _compose_checks() -> "list[Check]":
    from penstock.compose import doctor
    from penstock.stack.layout import REPOSITORY

    return doctor.run_checks(REPOSITORY)


def destroy(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    downloads: Annotated[bool, typer.Option("--downloads", help="Also delete downloaded jars.")] = False,
) -> None:
    """Stop the local stack and delete its data. Asks for confirmation.

    Deletes data, logs, installed jars and secrets. Downloads are kept without --downloads.
    """
    from penstock.stack import launch

    settings = _load_settings()
    if not yes:
        typer.confirm(f"Delete all data of the local stack in {settings.home}?", abort=True, err=True)
    with report_progress() as report:
        deleted = launch.destroy_stack(settings, downloads=downloads, report=report)
    for path in deleted:
        print_progress(f"deleted {path}")


def _load_settings(coordination: str | None = None) -> "Settings":
    from penstock.config import load, read

    return read(coordination=coordination) if coordination else load()


def _format_uptime(seconds: float) -> str:
    minutes, rest_s = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest_s:02}" if seconds else ""


def _format_ports(ports: dict[str, int]) -> str:
    return " ".join(str(port) for port in ports.values())


@contextlib.contextmanager
def report_progress() -> "Iterator[Report]":
    """Report progress on stderr: with a spinner on a terminal, as plain lines elsewhere."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    with console.status("...") as spinner:
        yield _Moving(console.print, spinner.update)


class _Lines:
    """Prints each step on a line."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self, service: str, stage: "Stage", detail: str = "") -> None:
        print_progress(f"{time.monotonic() - self._began:6.1f} s  {service:18} {stage:10} {detail}".rstrip())


class _Moving:
    """Prints a line for each completed step, and a spinner for those in progress."""

    ENDS = ("ready", "unchanged", "outdated", "failed", "stopped")

    def __init__(self, write: "Callable[[str], None]", update: "Callable[[str], None]") -> None:
        self._write, self._update = write, update
        self._in_progress: dict[str, str] = {}

    def __call__(self, service: str, stage: "Stage", detail: str = "") -> None:
        if stage in self.ENDS:
            self._in_progress.pop(service, None)
            self._write(f"{service:18} {stage:10} {detail}")
        else:
            self._in_progress[service] = f"{stage} {service}"
        self._update(", ".join(list(self._in_progress.values())) or "...")
