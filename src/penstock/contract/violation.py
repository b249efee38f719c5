"""A rule that a field breaks: data with a stable name."""

from dataclasses import dataclass
from enum import StrEnum


class Rule(StrEnum):
    """Kind of a rule. The names are stable: queues and dashboards store them."""

    REQUIRED = "required"
    TYPE = "type"
    LENGTH = "length"
    PATTERN = "pattern"
    CHARACTER = "character"
    RANGE = "range"
    FORMAT = "format"
    DATE = "date"
    SIZE = "size"
    ENUM = "enum"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that a field breaks; `field` is empty for the record as a whole."""

    field: str
    rule: Rule
    message: str

    @property
    def code(self) -> str:
        """Return field and rule: `email:pattern`."""
        return f"{self.field}:{self.rule}"

    def __str__(self) -> str:
        return f"{self.field or 'record'}: {self.message}"
