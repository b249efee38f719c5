"""Run the stand-in API as a process, on the loopback interface by default, with a clean shutdown."""

import errno
import signal
import socket

import uvicorn
from starlette.applications import Starlette

from penstock import remedies
from penstock.errors import PortTaken

HOST = "127.0.0.1"
STOP_MAX_S = 5


def serve(app: Starlette, port: int, host: str = HOST) -> None:
    """Serve on `host` until SIGTERM or SIGINT, then finish pending requests. Raises `PortTaken`."""
    listener = listen(port, host)
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=STOP_MAX_S)
    )
    # uvicorn shuts down cleanly and then raises the signal again for the previous handler: ignore it
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: None)
    server.run(sockets=[listener])


def listen(port: int, host: str = HOST) -> socket.socket:
    """Open a listening socket on `host`. Raises `PortTaken` if another process listens on the port."""
    try:
        return socket.create_server((host, port), backlog=128)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise PortTaken(f"port {port} is in use by another process", hint=remedies.serve_on_another_port()) from error
