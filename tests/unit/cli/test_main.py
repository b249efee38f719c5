import sys

import pytest

from penstock import cli
from penstock.errors import CassandraUnreachable, RunFailed, UsageError
from penstock.sink import cassandra


@pytest.fixture
def penstock(monkeypatch, capsys):
    """Run the command line as ./penstock does and return exit code, stdout and stderr."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["penstock", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, *capsys.readouterr()

    yield run
    cli._debug["on"] = False


@pytest.fixture
def failing(monkeypatch):
    """Make all commands that use Cassandra raise an error."""

    def make(error):
        def connect(_settings):
            raise error

        monkeypatch.setattr(cassandra, "connect", connect)

    return make


def test_help_names_the_commands(penstock):
    """Help is printed on stdout and lists the commands."""
    code, out, err = penstock("--help")
    assert (code, err) == (0, "")
    for command in ("demo", "run", "verify", "up", "down", "status", "rows", "row", "schema", "source", "check"):
        assert f"\n  {command} " in out


def test_without_a_command_help_is_printed(penstock):
    """`./penstock` alone prints help."""
    _, out, err = penstock()
    assert "Usage: " in out + err


def test_version_prints_the_version(penstock):
    """--version prints the version and does nothing else."""
    code, out, _ = penstock("--version")
    assert (code, out.split()[0]) == (0, "penstock")


@pytest.mark.parametrize(
    "words", [("no-such-command",), ("rows", "--no-such"), ("rows", "--limit", "0"), ("row",)], ids=str
)
def test_a_usage_error_exits_with_2(penstock, words):
    """Unknown commands or options, invalid values and missing arguments exit with 2 and print the usage."""
    code, out, err = penstock(*words)
    assert (code, out) == (2, "")
    assert "Usage: " in err
    assert "Traceback" not in err


def test_an_invalid_id_exits_with_2(penstock):
    """An invalid id is a usage error, without a query."""
    code, _, err = penstock("row", "no-uuid")
    assert code == 2
    hint = "./penstock row 123e4567-e89b-12d3-a456-426614174000, ./penstock rows"
    assert err == f"penstock: invalid id 'no-uuid': Invalid UUID; expected id (uuid)\n  try: {hint}\n"


def test_an_invalid_setting_exits_with_2(penstock, monkeypatch):
    """An invalid variable is named by every command."""
    monkeypatch.setenv("PENSTOCK_KAFKA_PORT", "x")
    code, out, err = penstock("rows")
    assert (code, out) == (2, "")
    assert err.startswith("penstock: PENSTOCK_KAFKA_PORT: ")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CassandraUnreachable("away", hint="start it"), 3),
        (UsageError("no", hint="start it"), 2),
        (RunFailed("lost", hint="start it"), 1),
    ],
    ids=repr,
)
@pytest.mark.parametrize("words", [("rows",), ("rows", "--json"), ("verify",), ("run",), ("row", f"{0:032x}")], ids=str)
def test_an_error_is_a_message_and_an_exit_code(penstock, failing, words, error, code):
    """A PenstockError is printed on stderr as a message with its hint, without a traceback."""
    failing(error)
    assert penstock(*words) == (code, "", f"penstock: {error.message}\n  try: start it\n")


def test_debug_shows_the_traceback(monkeypatch, failing):
    """With --debug the error is raised unchanged."""
    failing(CassandraUnreachable("away"))
    monkeypatch.setattr(sys, "argv", ["penstock", "--debug", "rows"])
    with pytest.raises(CassandraUnreachable):
        cli.main()
    cli._debug["on"] = False


def test_an_unexpected_error_is_one_message_that_names_the_debug_option(monkeypatch, failing, capsys):
    """An unexpected error is printed without a traceback, and names the option that shows it."""
    failing(ZeroDivisionError("by nothing"))
    monkeypatch.setattr(sys, "argv", ["penstock", "rows"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    output = capsys.readouterr().err
    assert ended.value.code == 1
    assert "ZeroDivisionError: by nothing" in output
    assert "--debug" in output
    assert "Traceback" not in output
