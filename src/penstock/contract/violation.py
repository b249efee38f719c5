"""A rule that a field breaks: data with a stable name."""

import json
import re
from dataclasses import dataclass
from enum import StrEnum

MAX_VIOLATIONS = 20
"""Maximum number of broken rules that are named for a field whose value is composite."""
_KEY_CHARACTERS = 100
_PLACE = re.compile(r'\[(?:\d+|"(?:[^"\\]|\\.)*")\]')


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
    """A rule that a field breaks; `field` is empty for the record as a whole.

    Within a composite value, it is a path: `items[3].price`, `labels["a b"]`.
    """

    field: str
    rule: Rule
    message: str

    @property
    def code(self) -> str:
        """Return field and rule: `email:pattern`. Of a path, it has no places: `items[].price:range`."""
        return f"{remove_places(self.field)}:{self.rule}"

    def within(self, place: str) -> "Violation":
        """Return the same in a value that is at a place of another."""
        return Violation(f"{place}{self.field}", self.rule, self.message)

    def __str__(self) -> str:
        return f"{self.field or 'record'}: {self.message}"


def remove_places(path: str) -> str:
    """Return a path as codes have it, the same for every item and key: `items[].price` of `items[3].price`."""
    return _PLACE.sub("[]", path)


def format_place(place: object, personal: bool = False) -> str:
    """Return the place of an item in a path: a number, or the key of a dict, left out if it may be personal."""
    if isinstance(place, int):
        return f"[{place}]"
    is_told = isinstance(place, str) and not personal
    return f"[{json.dumps(str(place)[:_KEY_CHARACTERS], ensure_ascii=False)}]" if is_told else "[]"
