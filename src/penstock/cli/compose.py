"""compose: commands for Docker Compose."""

from typing import Annotated

import typer

group = typer.Typer(help="Commands for Docker Compose.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the group `compose` to `app`."""
    app.add_typer(group, name="compose")


@group.callback()
def _on_compose() -> None:
    """Group commands for Docker Compose."""


@group.command()
def init(
    simple_login: Annotated[
        bool, typer.Option("--simple-login", help="Airflow's password is `airflow`; on loopback only.")
    ] = False,
) -> None:
    """Write .env with random secrets. Existing values are kept."""
    from penstock.compose.commands import run_init

    run_init(simple_login=simple_login)
