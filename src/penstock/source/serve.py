"""Running the stand-in: a process, on the loopback interface unless told otherwise, that stops cleanly."""

import errno
import signal
import socket

import uvicorn
from starlette.applications import Starlette

from penstock.errors import PortTaken

HOST = "127.0.0.1"
STOP_MAX_S = 5


def serve(app: Starlette, port: int, host: str = HOST) -> None:
    """Answer on `host` until SIGTERM or SIGINT, finishing what is being answered. Raises `PortTaken`."""
    listener = listen(port, host)
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=STOP_MAX_S)
    )
    # uvicorn stops cleanly and then raises the signal again for whoever handled it before: nobody has to
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server.run(sockets=[listener])


def listen(port: int, host: str = HOST) -> socket.socket:
    """A socket that listens on `host`. Raises `PortTaken` when another process does."""
    try:
        return socket.create_server((host, port), backlog=128)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise PortTaken(
            f"port {port} is taken by another process", hint="set PENSTOCK_SOURCE_PORT, or give another --port"
        ) from error
