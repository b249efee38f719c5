"""Commands in errors, alerts and pages can be typed, and are worded in one module."""

import ast
import inspect
import itertools
import re
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer

from penstock import remedies
from penstock.cli import app
from penstock.config import PREFIX, Settings
from penstock.stack import catalog
from tests.conftest import ROOT
from tests.unit.stack.conftest import create_environment

Advise = Callable[..., str]
SOURCES = ROOT / "src" / "penstock"
BELOW_THE_CLI = [
    path
    for path in sorted(SOURCES.rglob("*.py"))
    if SOURCES / "cli" not in path.parents and path != SOURCES / "remedies.py"
]
FUNCTIONS: dict[str, Advise] = {
    name: function
    for name, function in inspect.getmembers(remedies, inspect.isfunction)
    if function.__module__ == remedies.__name__ and not name.startswith("_")
}
SAMPLES = {
    "services": ["kafka", "spark-job"],
    "service": ["kafka", "registry", "cassandra"],
    "coordination": ["kraft", "zookeeper"],
    "follow": [True],
    "records": [500],
    "to": ["earliest", "latest"],
    "record_id": ["7c0a9b4e-0000-4000-8000-000000000001", "an id; of $(words)"],
    "others": ["2026-01-31T12:00:00.000Z"],
    "reason": ["mapping_failed"],
    "resolved": [True],
    "position": ["0:17"],
    "set_field": ["email"],
    "name": ["email"],
}
"""Arguments by parameter: a new parameter needs some."""
FRAGMENTS = {"assign_field", "redrive_one", "serve_on_another_port"}
"""They advise an option of the command that was just used, and name no command."""
_COMMAND = re.compile(r"\./penstock((?: (?:'[^']*'|(?!&&)[^\s,;']+))*)")


def vary_arguments(function: Advise) -> Iterator[tuple[list[Any], dict[str, Any]]]:
    """Yield the arguments of every call that the samples allow, with and without optional ones."""
    parameters = inspect.signature(function).parameters.values()
    choices = [
        [(parameter, sample) for sample in SAMPLES[parameter.name]]
        + ([] if parameter.default is parameter.empty and parameter.kind != parameter.VAR_POSITIONAL else [None])
        for parameter in parameters
    ]
    for choice in itertools.product(*choices):
        chosen = [given for given in choice if given is not None]
        positional = [sample for parameter, sample in chosen if parameter.kind != parameter.KEYWORD_ONLY]
        yield positional, {given.name: sample for given, sample in chosen if given.kind == given.KEYWORD_ONLY}


def advise_all(name: str) -> list[str]:
    return [FUNCTIONS[name](*positional, **named) for positional, named in vary_arguments(FUNCTIONS[name])]


def find_commands(text: str) -> list[list[str]]:
    """Return the arguments of each command in a text, as a shell splits them."""
    return [shlex.split(words) for words in _COMMAND.findall(text)]


def without_callbacks(command: Any) -> Any:
    command.callback = lambda **_: None
    for child in getattr(command, "commands", {}).values():
        without_callbacks(child)
    return command


COMMAND_LINE = without_callbacks(typer.main.get_command(app))
"""The real command line, which parses everything and runs nothing."""


def exit_code_of(arguments: list[str]) -> object:
    with pytest.raises(SystemExit) as ended:
        COMMAND_LINE.main(args=arguments, prog_name=remedies.PROGRAM)
    return ended.value.code


@pytest.mark.parametrize("name", sorted(FUNCTIONS.keys() - FRAGMENTS))
def test_every_advised_command_is_accepted(name: str) -> None:
    """Each text names at least one command, and the command line accepts each with its options and arguments."""
    for text in advise_all(name):
        commands = find_commands(text)
        assert commands, text
        assert [arguments for arguments in commands if exit_code_of(arguments) != 0] == [], text


@pytest.mark.parametrize(
    "wrong",
    [
        "nonsense",
        "dlq",
        "dlq nonsense",
        "dlq export",
        "dlq show 0:17 0:18",
        "verify nonsense",
        "status --nonsense",
        "up kafka --coordination raft",
        "checkpoint reset",
        "checkpoint reset --to nowhere",
        "run --records many",
    ],
)
def test_an_invalid_command_is_not_accepted(wrong: str) -> None:
    """An unknown command, option or choice, a missing and an extra argument are each a usage error."""
    assert find_commands(f"{remedies.PROGRAM} {wrong}, or something else") == [wrong.split()]
    assert exit_code_of(wrong.split()) == 2


@pytest.mark.parametrize(
    ("fragment", "command"),
    [
        (remedies.assign_field("email"), "dlq redrive"),
        (remedies.redrive_one().removeprefix("the same with one ") + " 0:17", "dlq redrive"),
        (
            remedies.serve_on_another_port().removeprefix("set PENSTOCK_SOURCE_PORT, or use another ") + " 8",
            "source serve",
        ),
    ],
)
def test_every_advised_option_is_accepted(fragment: str, command: str) -> None:
    """Options that are advised without their command belong to it."""
    assert fragment.startswith("--")
    assert exit_code_of([*command.split(), *fragment.split()]) == 0


def test_data_in_commands_is_quoted() -> None:
    """A shell passes an id on unchanged, whatever it contains: no part of it is run."""
    hostile = "x'; $(touch y) `z` \"&& rm"
    assert shlex.split(remedies.trace_record(hostile)) == [remedies.PROGRAM, "trace", hostile]


def test_every_advised_setting_exists() -> None:
    """Each variable is a field of the settings."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    advised = set(re.findall(r"PENSTOCK_[A-Z_]+", " ".join(text for name in FUNCTIONS for text in advise_all(name))))
    assert len(advised) > 3
    assert advised <= known


def find_calls(source: str) -> Iterator[tuple[str, list[object]]]:
    """Yield the name and the literal arguments of each call of a remedy."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="remedies"), attr=name), args=arguments):
                yield name, [argument.value for argument in arguments if isinstance(argument, ast.Constant)]


CALLS = [call for path in BELOW_THE_CLI for call in find_calls(path.read_text())]


def test_every_remedy_is_used() -> None:
    """Here or within another remedy."""
    own = ast.parse((SOURCES / "remedies.py").read_text())
    within = {node.func.id for node in ast.walk(own) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert FUNCTIONS.keys() - {name for name, _ in CALLS} - within == set()


def test_every_advised_service_exists(settings: Settings) -> None:
    """A service that a call names literally is one of the local stack, with either coordination of Kafka."""
    of_services = {"start", "stop", "restart", "show_status", "show_logs", "check_address"}
    named = {service for name, arguments in CALLS if name in of_services for service in arguments}
    assert len(named) > 5
    for coordination in ("kraft", "zookeeper"):
        environment = create_environment(settings.model_copy(update={"coordination": coordination}))
        named -= catalog.build_services(environment).keys()
    assert named == set()


def strings_with_a_command(source: str) -> list[int]:
    """Return the lines of string constants that name a command, without docstrings."""
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, documented) and has_docstring(node)
    }
    return sorted(
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and remedies.PROGRAM in node.value
        and id(node) not in docstrings
    )


def has_docstring(node: Any) -> bool:
    return ast.get_docstring(node, clean=False) is not None


def test_no_module_below_the_command_line_words_a_command() -> None:
    """It calls `remedies`, which is checked above."""
    planted = (
        '"""./penstock a"""\ndef f(x):\n    """./penstock b"""\n    return f"try {x}: ./penstock c"\ny = "./penstock d"'
    )
    assert strings_with_a_command(planted) == [4, 5]
    assert len(BELOW_THE_CLI) > 150
    assert {str(path): lines for path in BELOW_THE_CLI if (lines := strings_with_a_command(path.read_text()))} == {}
