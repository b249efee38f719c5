"""control: the control center."""

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(control)


def control(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port; PENSTOCK_CONTROL_PORT if none.")] = None,
) -> None:
    """Serve the control center until stopped, for the cluster that the settings name.

    It listens on PENSTOCK_CONTROL_HOST, which is loopback; any other address needs PENSTOCK_CONTROL_PASSWORD.
    """
    import logging

    from penstock import config
    from penstock.control import app

    settings = config.load()
    logging.getLogger("cassandra").setLevel(logging.CRITICAL)  # the page shows what it complains of
    app.serve(settings, port or settings.control_port)
