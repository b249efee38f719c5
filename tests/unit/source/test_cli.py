import msgspec
import pytest
import typer
from structlog.testing import capture_logs
from typer.testing import CliRunner

from penstock.cli.source import register
from penstock.config import load
from penstock.errors import UsageError
from penstock.source.hostile import ResponseFault
from penstock.source.standin import load_captured_users, make_app


def run(*arguments: str):
    app = typer.Typer(pretty_exceptions_enable=False)
    register(app)
    with capture_logs():
        return CliRunner().invoke(app, arguments)


def test_fetch_prints_json_lines(served, captured_file):
    """`source fetch` prints each user as the API returns it, one per line, in UTF-8."""
    url = served(make_app(load_captured_users(captured_file)))
    result = run("source", "fetch", "--records", "30", "--seed", "s", "--url", url)
    assert result.exit_code == 0
    lines = result.stdout_bytes.splitlines()
    assert [msgspec.json.decode(line) for line in lines] == msgspec.json.decode(captured_file.read_bytes())["results"]


@pytest.fixture
def started(monkeypatch) -> list:
    """Record the apps, ports and hosts of `source serve` instead of serving."""
    calls: list = []
    monkeypatch.setattr("penstock.source.serve.serve_app", lambda *served: calls.append(served))
    return calls


def test_serve_uses_the_configured_port(started):
    """By default `source serve` uses the configured port on loopback, without faults."""
    assert run("source", "serve").exit_code == 0
    assert run("source", "serve", "--port", "8123").exit_code == 0
    assert run("source", "serve", "--host", "0.0.0.0").exit_code == 0
    here = load().source_port
    assert [where for _, *where in started] == [[here, "127.0.0.1"], [8123, "127.0.0.1"], [here, "0.0.0.0"]]
    assert endpoint(started[0][0])._hostility.rate == 0


def test_serve_accepts_a_fault_rate_and_a_seed(started):
    """`--hostile` and `--seed` determine the faults."""
    assert run("source", "serve", "--hostile", "1", "--seed", "x").exit_code == 0
    hostility = endpoint(started[0][0])._hostility
    assert (hostility.rate, hostility.seed) == (1, "x")
    assert hostility.choose_fault(0) is not ResponseFault.NONE


@pytest.mark.parametrize(
    "arguments", [["--hostile", "2"], ["--port", "0"], ["--answer", "/no/such/file"], ["--answer", "/"]]
)
def test_an_invalid_option_is_a_usage_error(started, arguments):
    """An invalid option is a usage error: exit 2, nothing served."""
    assert run("source", "serve", *arguments).exit_code == 2
    assert started == []


def test_serve_rejects_a_file_that_is_not_a_response(started, tmp_path):
    """A file that is not a captured response is a usage error."""
    (file := tmp_path / "x.json").write_text("{}")
    result = run("source", "serve", "--answer", str(file))
    assert isinstance(result.exception, UsageError)
    assert started == []


def endpoint(app):
    return app.routes[0].endpoint.__self__
