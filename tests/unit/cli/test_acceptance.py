"""verify accept and verify accepted on the command line."""

import json
from contextlib import nullcontext
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from penstock.cli import app
from penstock.errors import UsageError
from penstock.reconcile import acceptance
from penstock.reconcile.verify import Difference
from penstock.sink import cassandra
from penstock.sink.accepted import Accepted

MISSING = Difference("missing", 0, 5, "a", "it is nowhere")


class Calls:
    """Everything that the commands call."""

    def __init__(self) -> None:
        self.selected: list[acceptance.DifferenceSelection] = []
        self.accepted: list[tuple] = []
        self.known: list[Accepted] = []

    def find(self, _settings, _session, selection):
        self.selected.append(selection)
        return [MISSING] * 30

    def accept(self, _settings, _session, differences, who, reason):
        self.accepted.append((len(differences), bool(who), reason))


@pytest.fixture
def calls(monkeypatch):
    calls = Calls()
    monkeypatch.setattr(cassandra, "open_session", lambda _settings: nullcontext())
    monkeypatch.setattr(acceptance, "find_differences", calls.find)
    monkeypatch.setattr(acceptance, "accept_differences", calls.accept)
    monkeypatch.setattr(acceptance, "list_accepted", lambda *_: calls.known)
    return calls


def run(*words: str, answer: str = ""):
    return CliRunner().invoke(app, ["verify", *words], input=answer)


def test_accept_asks_and_accepts(calls):
    """The selection is shown, as far as it fits a screen; then the user has to confirm."""
    words = ("accept", "--kind", "missing", "--partition", "0", "--from", "5", "--to", "6", "--reason", "a drill")
    assert run(*words, answer="n\n").exit_code == 1
    assert calls.accepted == []
    result = run(*words, answer="y\n")
    assert result.exit_code == 0
    assert "and 10 more" in result.stderr
    assert calls.selected[-1] == acceptance.DifferenceSelection(["missing"], (), 0, 5, 6)
    assert calls.accepted == [(30, True, "a drill")]


def test_accept_does_not_ask_in_scripts(calls):
    """With --yes; --json prints what was accepted."""
    result = run("accept", "--id", "a", "--reason", "x", "--yes", "--json")
    assert [entry["offset"] for entry in json.loads(result.stdout)] == [5] * 30
    assert calls.accepted


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--reason", "x"), "no selection"),
        (("--partition", "0", "--from", "5", "--reason", "x"), "no selection"),
        (("--kind", "missing"), "--reason is required"),
        (("--kind", "missing", "--reason", " "), "--reason is required"),
        (("--kind", "gone", "--reason", "x"), "unknown kind: gone"),
    ],
    ids=str,
)
def test_accept_requires_a_selection_and_a_reason(calls, words, why):
    """Nothing is accepted by accident."""
    result = run("accept", *words, "--yes")
    assert isinstance(result.exception, UsageError)
    assert why in str(result.exception)
    assert calls.selected == calls.accepted == []


def test_accepted_lists_acceptances(calls):
    """When, by whom and why; as a table or as JSON."""
    assert "no accepted differences" in run("accepted").stderr
    calls.known = [Accepted("missing", 0, 5, "a", "it is nowhere", "a drill", "ann", datetime(2026, 1, 1, tzinfo=UTC))]
    assert "a drill" in run("accepted").stdout
    assert json.loads(run("accepted", "--json").stdout)[0]["who"] == "ann"
