"""Whether the services are available, with servers that respond well, badly or never."""

import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from penstock import config
from penstock.errors import Unreachable
from penstock.monitoring import services
from penstock.monitoring.services import Connections, Services, build_checks

HEALTH = "/api/v2/monitor/health"
Answers = dict[str, tuple[int, str]]


@pytest.fixture
def serve() -> Iterator[Callable[[Answers], int]]:
    """Start a server that responds to each path as given, and return its port."""
    started: list[ThreadingHTTPServer] = []

    def start(answers: Answers) -> int:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, text = answers.get(self.path, (404, ""))
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        started.append(server)
        return server.server_address[1]

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def connect() -> Iterator[Callable[..., Connections]]:
    made: list[Connections] = []

    def make(**overrides: object) -> Connections:
        made.append(Connections(config.read(**overrides)))
        return made[-1]

    yield make
    for item in made:
        item.close()


def error_of(name: str, connections: Connections) -> str:
    """Return the problem of the service, or None."""
    try:
        build_checks(connections.settings)[name](connections)
    except Unreachable as error:
        return error.message
    return ""


def test_only_the_local_stacks_job_is_checked() -> None:
    """The address of another master's job page is unknown."""
    assert "spark-job" in build_checks(config.read())
    assert "spark-job" in build_checks(config.read(spark_port=17077))
    assert "spark-job" not in build_checks(config.read(spark_master="spark://elsewhere:7077"))


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('{"metadatabase": {"status": "healthy"}, "scheduler": {"status": "healthy"}}', ""),
        ('{"metadatabase": {"status": "healthy"}, "triggerer": {"status": null}}', ""),
        ('{"metadatabase": {"status": "healthy"}, "scheduler": {"status": "unhealthy"}}', "unhealthy: scheduler"),
        ("<html>", "not JSON"),
    ],
)
def test_airflow_is_as_healthy_as_its_components(serve, connect, text: str, wrong: str) -> None:
    """A component that reports itself unhealthy makes Airflow unavailable; one that never existed does not."""
    port = serve({HEALTH: (200, text)})
    error = error_of("airflow", connect(airflow_port=port))
    assert (wrong in error) if wrong else error == ""


@pytest.mark.parametrize("status", [401, 500])
def test_an_error_response_is_unavailable(serve, connect, status: int) -> None:
    """A server that rejects requests is of no use; its status is reported."""
    port = serve({"/apis/ccompat/v7/config": (status, "")})
    assert f"responded with HTTP {status}" in error_of("registry", connect(registry_port=port))


def test_a_password_in_an_address_is_not_shown(closed_port: int, connect) -> None:
    """Alerts go to people and to a webhook."""
    url = f"http://user:hunter2@127.0.0.1:{closed_port}"
    error = error_of("registry", connect(registry_url=url))
    assert str(closed_port) in error
    assert "hunter2" not in error


@pytest.mark.parametrize("name", ["kafka", "registry", "cassandra", "airflow", "spark-job"])
def test_an_unavailable_service_is_an_error_and_no_crash(closed_port: int, connect, monkeypatch, name: str) -> None:
    """The port is closed: the message names the address."""
    monkeypatch.setattr(services, "TIMEOUT_S", 0.3)
    port = f"{'spark_job_ui' if name == 'spark-job' else name}_port"
    assert str(closed_port) in error_of(name, connect(**{port: closed_port}))


def test_all_services_are_checked_and_none_delays_another(connect) -> None:
    """An unresponsive service is reported as such; the others' responses are unaffected; an unexpected error is
    reported as well.
    """
    hang, calls = threading.Event(), []

    def hanging(_: Connections) -> None:
        calls.append("hanging")
        hang.wait(30)

    def away(_: Connections) -> None:
        raise Unreachable("refused")

    def broken(_: Connections) -> None:
        raise ZeroDivisionError("by nothing")

    asked = Services(connect(), {"a": hanging, "b": away, "c": lambda _: None, "d": broken})
    try:
        for _ in range(2):
            result = asked.read(longest_s=0.2)
            assert result["a"].startswith("no response for")
            assert (result["b"], result["c"], result["d"]) == ("refused", "", "ZeroDivisionError: by nothing")
        assert calls == ["hanging"]
        hang.set()
        assert asked.read(longest_s=30)["a"] == ""
    finally:
        hang.set()
        asked.close()


def test_a_failed_session_is_recreated(connect, monkeypatch) -> None:
    """It is kept while it works; an error drops it, so that a recovered Cassandra is seen at once."""
    made = []

    class Session:
        def __init__(self) -> None:
            self.error: Exception | None = None
            self.cluster = self
            made.append(self)

        def execute(self, _query: str) -> None:
            if self.error:
                raise self.error

        def shutdown(self) -> None:
            made.append("closed")

    monkeypatch.setattr(services.cassandra, "connect", lambda _: Session())
    connections = connect()
    assert error_of("cassandra", connections) == error_of("cassandra", connections) == ""
    assert len(made) == 1
    made[0].error = OSError("reset")
    assert "reset" in error_of("cassandra", connections)
    assert made[1] == "closed"
    assert error_of("cassandra", connections) == ""
    assert len(made) == 3
