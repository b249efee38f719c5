"""Effective settings, and the masking of secrets in any text that is shown."""

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
class EffectiveSetting:
    """An effective setting. `variable` is its environment variable, `value` its value as text with secrets hidden."""

    variable: str
    value: str
    is_default: bool
    description: str


def list_effective_settings(settings: Settings) -> list[EffectiveSetting]:
    """Return every setting in the order of the documentation."""
    known = settings.model_dump()
    return [
        EffectiveSetting(
            variable=PREFIX + name.upper(),
            value=_format_value(getattr(settings, name)),
            is_default=getattr(settings, name) == _resolve_default(field, known),
            description=field.description or "",
        )
        for name, field in type(settings).model_fields.items()
    ]


def _resolve_default(field: FieldInfo, known: dict[str, Any]) -> Any:
    default = field.get_default(call_default_factory=True, validated_data=known)
    return default.absolute() if isinstance(default, Path) else default


def _format_value(value: Any) -> str:
    if isinstance(value, SecretStr):
        return HIDDEN if value.get_secret_value() else ""
    return "" if value is None else without_userinfo(str(value))


class Secrets:
    """Hides the effective secrets, plain or URL-encoded, in any text."""

    def __init__(self, values: Iterable[str]) -> None:
        forms = {form for value in values if value for form in (value, quote(value, safe=""))}
        longest_first = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if forms else None

    def hide(self, text: str) -> str:
        """Replace each secret, and the user and password in URLs, with ******."""
        text = without_userinfo(text)
        return text if self._pattern is None else self._pattern.sub(HIDDEN, text)


def collect_secrets(settings: Settings) -> Secrets:
    """Return the secrets among the settings, and those that the local stack generated for this data directory.

    Documented defaults are excluded: Airflow's password `airflow` is not secret, and hiding it would garble many names.
    """
    secrets = []
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, SecretStr) and value != field.default:
            secrets.append(value.get_secret_value())
        elif isinstance(value, str) and "://" in value:
            secrets += filter(None, [_extract_password(value)])
    return Secrets([*secrets, *_read_credentials(settings)])


def _extract_password(url: str) -> str | None:
    try:
        return urlsplit(url).password
    except ValueError:
        return None


def _read_credentials(settings: Settings) -> list[str]:
    path = layout.resolve_layout(settings).credentials
    try:
        credentials: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return list(credentials.values())
