"""up, down, restart, status, logs, doctor, destroy: the local stack."""

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from penstock.cli.text import print_json, table, talk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from penstock.config import Settings
    from penstock.stack.check import Check
    from penstock.stack.report import Report, Stage

Services = Annotated[list[str] | None, typer.Argument(metavar="[SERVICE]...", help="Services; all when none is named.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print a JSON list.")]
_NAMED = 5
"""So many unfinished runs are named."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (up, down, restart, status, logs, doctor, destroy):
        app.command()(command)


def up(
    services: Services = None,
    coordination: Annotated[
        Literal["kraft", "zookeeper"] | None, typer.Option(help="Who coordinates Kafka.", show_default=False)
    ] = None,
) -> None:
    """Start services and what they need; return when all are ready."""
    settings = _settings(coordination)
    up_for(settings, services)
    if not services:
        talk("\n" + where_to_look(settings))


def up_for(settings: "Settings", services: list[str] | None = None) -> None:
    """Start services and what they need, telling how it goes; all when none is named."""
    from penstock.stack import launch

    with reporting() as report:
        launch.up(settings, services or (), report)


def down(services: Services = None) -> None:
    """Stop services and what needs them; data stay."""
    down_all(_settings(), services)


def down_all(settings: "Settings", services: list[str] | None = None) -> None:
    """Stop services and what needs them, telling how it goes; all when none is named."""
    from penstock.stack import launch

    if not services or any(name.startswith("airflow") for name in services):
        tell_unfinished(settings)
    with reporting() as report:
        launch.down(settings, services or (), report)


def tell_unfinished(settings: "Settings") -> None:
    """Say which runs Airflow has not finished, when it runs: they go on once it is up again."""
    from penstock.config import LOOPBACK
    from penstock.errors import PenstockError
    from penstock.net import is_port_free
    from penstock.observe import runs

    if is_port_free(settings.airflow_port, LOOPBACK):
        return
    local = settings.model_copy(update={"airflow_url": f"http://{LOOPBACK}:{settings.airflow_port}"})
    try:
        found = runs.unfinished(local)
    except PenstockError as error:
        talk(f"whether a run is under way is not known: {error.message}")
        return
    if found:
        which = f"{len(found)} {'run has' if len(found) == 1 else 'runs have'} not ended: {', '.join(found[:_NAMED])}"
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        talk(f"{which}{more}\n  what is left of {'it' if len(found) == 1 else 'them'} is done after: ./penstock up")


def restart(services: Services = None) -> None:
    """Stop and start services, with the settings in force."""
    from penstock.stack import launch

    with reporting() as report:
        launch.restart(_settings(), services or (), report)


def status(services: Services = None, as_json: AsJson = False) -> None:
    """Show what each service is doing.

    Exit 1 unless each one that is named, or that runs, is ready.
    """
    from penstock.stack import status as stack_status

    found = stack_status.read(_settings(), services or ())
    if as_json:
        print_json(found)
    else:
        heads = ("service", "state", "pid", "uptime", "restarts", "MiB", "version", "ports")
        lines = [
            (
                s.name,
                s.state,
                s.pid or "",
                _clock(s.uptime_s),
                s.restarts or "",
                s.rss_mib or "",
                s.version,
                _ports(s.ports),
            )
            for s in found
        ]
        typer.echo(table(heads, [*lines, ("", "", "", "", "", sum(s.rss_mib for s in found), "", "")]))
        for s in found:
            if s.detail:
                talk(f"{s.name}: {s.detail}")
    if any(s.state != "ready" and (services or s.state != "stopped") for s in found):
        raise typer.Exit(1)


def where_to_look(settings: "Settings") -> str:
    """The address of each page of the stack."""
    from penstock.stack import catalog, site

    pages = [(each.title, each.page) for each in catalog.services(site.read(settings)).values() if each.page]
    return table(("where to look", ""), pages)


def logs(
    service: Annotated[str, typer.Argument(help="The service.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it is written.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many of the last lines.")] = 50,
) -> None:
    """Show the last lines of a service's log."""
    from penstock.stack import launch
    from penstock.stack import logs as stack_logs

    path = launch.log_of(_settings(), service)
    with contextlib.suppress(KeyboardInterrupt):
        for line in stack_logs.follow(path, lines) if follow else stack_logs.tail(path, lines):
            typer.echo(line)


def doctor(
    as_json: AsJson = False,
    compose: Annotated[bool, typer.Option("--compose", help="What Docker Compose needs, instead.")] = False,
) -> None:
    """Check this machine and the local stack; say what to type.

    Exit 1 when a check fails.
    """
    checks = _compose_checks() if compose else _stack_checks()
    if as_json:
        print_json(checks)
    else:
        from penstock.stack.check import render

        typer.echo(render(checks))
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


def _stack_checks() -> "list[Check]":
    from penstock.stack import doctor

    return doctor.examine(_settings())


def _compose_checks() -> "list[Check]":
    from penstock.compose import doctor
    from penstock.stack.layout import REPOSITORY

    return doctor.examine(REPOSITORY)


def destroy(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    downloads: Annotated[bool, typer.Option("--downloads", help="Delete the downloaded jars as well.")] = False,
) -> None:
    """Stop everything and delete its data; asks first.

    Data, logs and jars are deleted; downloads are kept unless asked for.
    """
    from penstock.stack import launch

    settings = _settings()
    if not yes:
        typer.confirm(f"Delete all data of the local stack in {settings.home}?", abort=True, err=True)
    with reporting() as report:
        deleted = launch.destroy(settings, downloads=downloads, report=report)
    for path in deleted:
        talk(f"deleted {path}")


def _settings(coordination: str | None = None) -> "Settings":
    from penstock.config import load, read

    return read(coordination=coordination) if coordination else load()


def _clock(seconds: float) -> str:
    minutes, rest_s = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest_s:02}" if seconds else ""


def _ports(ports: dict[str, int]) -> str:
    return " ".join(str(port) for port in ports.values())


@contextlib.contextmanager
def reporting() -> "Iterator[Report]":
    """Tells each step on stderr: a moving line of what is under way on a terminal, plain lines elsewhere."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    with console.status("...") as spinner:
        yield _Moving(console.print, spinner.update)


class _Lines:
    """One plain line for each step."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self, service: str, stage: "Stage", detail: str = "") -> None:
        talk(f"{time.monotonic() - self._began:6.1f} s  {service:18} {stage:10} {detail}".rstrip())


class _Moving:
    """A line for what is done, and one that moves for what is under way."""

    ENDS = ("ready", "unchanged", "outdated", "failed", "stopped", "swept")

    def __init__(self, write: "Callable[[str], None]", update: "Callable[[str], None]") -> None:
        self._write, self._update = write, update
        self._under_way: dict[str, str] = {}

    def __call__(self, service: str, stage: "Stage", detail: str = "") -> None:
        if stage in self.ENDS:
            self._under_way.pop(service, None)
            self._write(f"{service:18} {stage:10} {detail}")
        else:
            self._under_way[service] = f"{stage} {service}"
        self._update(", ".join(list(self._under_way.values())) or "...")
