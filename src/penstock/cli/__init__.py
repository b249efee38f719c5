"""Command line: one module per group of commands.

Results go to stdout, progress to stderr. Exit codes: 0 done, 1 failed, 2 usage error, 3 service not reachable.
"""

import sys
from typing import Annotated, Any

import typer

from penstock import __version__
from penstock.cli import (
    bench,
    checkpoint,
    checks,
    compose,
    control,
    data,
    dlq,
    drill,
    replay,
    runs,
    schema,
    source,
    stack,
    watch,
)
from penstock.errors import exits_by_kind

app = typer.Typer(
    name="penstock",
    help="Carries records from an HTTP API to Cassandra through Airflow, Kafka and Spark, and proves none was lost.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"penstock {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Set the options common to all commands."""
    _debug["on"] = debug


_debug: dict[str, Any] = {"on": False}

for group in (
    runs,
    replay,
    stack,
    data,
    dlq,
    checkpoint,
    schema,
    source,
    drill,
    checks,
    watch,
    control,
    compose,
    bench,
):
    group.register(app)


def main() -> None:
    """Run the command. Errors become a message and an exit code."""
    try:
        with exits_by_kind("penstock", debug=lambda: bool(_debug["on"])):
            _configure_log()
            app(args=sys.argv[1:] or ["--help"], prog_name="./penstock")
    except Exception as error:
        if _debug["on"]:
            raise
        message = f"{type(error).__name__}: {error}"
        typer.echo(f"penstock: {message}\n  try: run it again with --debug before the command", err=True)
        sys.exit(1)


def _configure_log() -> None:
    from penstock import config, log

    settings = config.load()
    log.configure(settings.log_level, json=settings.log_json)
