import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import stamina
import uvicorn
from starlette.applications import Starlette

from penstock.source.client import HttpSource
from penstock.source.serve import open_listener

CAPTURED = Path(__file__).parents[2] / "data" / "randomuser-1.4.json"


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=100, cap=True):
        yield


@pytest.fixture
def captured_file() -> Path:
    return CAPTURED


Handler = Callable[[httpx2.Request], httpx2.Response]


@pytest.fixture
def source_of() -> Callable[..., HttpSource]:
    """Creates a source whose API is a function."""

    def make(handler: Handler, **changes: Any) -> HttpSource:
        arguments: dict[str, Any] = {"timeout_s": 5, "attempts": 3, "batch_records": 10} | changes
        return HttpSource("http://api.test/api/", transport=httpx2.MockTransport(handler), **arguments)

    return make


@contextmanager
def running(app: Starlette) -> Iterator[str]:
    """Serve `app` on a free loopback port and yield its URL."""
    listener = open_listener(0)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/api/"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def served() -> Iterator[Callable[[Starlette], str]]:
    """Start an app in a thread and return its URL."""
    with ExitStack() as stack:
        yield lambda app: stack.enter_context(running(app))
