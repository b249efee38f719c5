"""The settings as they are in force, and their secrets hidden: in the table of settings, and wherever text is shown."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from penstock.config import PREFIX, Settings
from penstock.errors import HIDDEN, without_userinfo
from penstock.stack import layout


@dataclass(frozen=True)
class Setting:
    """A setting: its variable, its value as text with secrets hidden, and whether it is the default."""

    variable: str
    value: str
    is_default: bool
    description: str


def in_force(settings: Settings) -> list[Setting]:
    """Every setting, in the order of the documentation."""
    known = settings.model_dump()
    return [
        Setting(
            variable=PREFIX + name.upper(),
            value=_shown(getattr(settings, name)),
            is_default=getattr(settings, name) == _default(field, known),
            description=field.description or "",
        )
        for name, field in type(settings).model_fields.items()
    ]


def _default(field: FieldInfo, known: dict[str, Any]) -> Any:
    found = field.get_default(call_default_factory=True, validated_data=known)
    return found.absolute() if isinstance(found, Path) else found


def _shown(value: Any) -> str:
    if isinstance(value, SecretStr):
        return HIDDEN if value.get_secret_value() else ""
    return "" if value is None else without_userinfo(str(value))


class Secrets:
    """Hides the secrets in force wherever they stand in a text."""

    def __init__(self, values: Iterable[str]) -> None:
        found = {form for value in values if value for form in (value, quote(value, safe=""))}
        longest_first = sorted(found, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if found else None

    def hide(self, text: str) -> str:
        """The text with ****** for each secret, and for user and password in a URL."""
        text = without_userinfo(text)
        return text if self._pattern is None else self._pattern.sub(HIDDEN, text)


def secrets_of(settings: Settings) -> Secrets:
    """The secrets among the settings, and those that the local stack made for this home.

    One that is the documented default, as Airflow's password `airflow` is, is no secret, and stands in many a name.
    """
    found = []
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, SecretStr) and value != field.default:
            found.append(value.get_secret_value())
        elif isinstance(value, str) and "://" in value:
            found += filter(None, [_password(value)])
    return Secrets([*found, *_made(settings)])


def _password(url: str) -> str | None:
    try:
        return urlsplit(url).password
    except ValueError:
        return None


def _made(settings: Settings) -> list[str]:
    path = layout.of(settings).credentials
    try:
        made: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return list(made.values())
