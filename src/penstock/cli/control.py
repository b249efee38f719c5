"""control: serve the control center."""

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(control)


def control(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port; default: PENSTOCK_CONTROL_PORT.")] = None,
) -> None:
    """Serve the control center for the configured cluster, until stopped.

    It listens on PENSTOCK_CONTROL_HOST, by default loopback. Other addresses require PENSTOCK_CONTROL_PASSWORD.
    """
    import logging

    from penstock import config
    from penstock.web import app

    settings = config.load()
    logging.getLogger("cassandra").setLevel(logging.CRITICAL)  # the page shows these errors
    app.serve_app(settings, port or settings.control_port)
