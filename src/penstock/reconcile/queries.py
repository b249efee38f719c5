"""The statements of `reconciliation.sql`, by section, in file order."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

_STATEMENT = re.compile(r"CREATE (TABLE|VIEW) (\w+) (?:AS\n)?(.*)", re.DOTALL)
_SECTION = re.compile(r"^-- Section: (\w+)$", re.MULTILINE)
_COMMENT = re.compile(r"^--.*\n?", re.MULTILINE)


@dataclass(frozen=True)
class Statement:
    """A table or view. `body` is a query, or for an input its list of columns, in parentheses."""

    name: str
    is_view: bool
    body: str

    @property
    def columns(self) -> Mapping[str, str]:
        """Return the SQL types of an input's columns by name; empty for a query."""
        if not self.body.startswith("("):
            return {}
        return dict(re.findall(r"(\w+) (INT|BIGINT|STRING|BOOLEAN)", self.body))

    @property
    def sql(self) -> str:
        """Return the statement that creates it."""
        kind = "VIEW" if self.is_view else "TABLE"
        return f"CREATE {kind} {self.name} {self.body if self.columns else f'AS {self.body}'}"


@cache
def sections() -> Mapping[str, tuple[Statement, ...]]:
    """Return the statements of each section."""
    text = resources.files("penstock.reconcile").joinpath("reconciliation.sql").read_text(encoding="utf-8")
    _, *parts = _SECTION.split(text)
    return {name: _parse_statements(body) for name, body in zip(parts[::2], parts[1::2], strict=True)}


def _parse_statements(text: str) -> tuple[Statement, ...]:
    matches = (_STATEMENT.fullmatch(statement.strip()) for statement in _COMMENT.sub("", text).split(";\n"))
    return tuple(Statement(match[2], match[1] == "VIEW", match[3]) for match in matches if match)


def inputs() -> Mapping[str, Mapping[str, str]]:
    """Return the columns of each input, with their types."""
    return {statement.name: statement.columns for statement in sections()["inputs"]}
