"""One finding of `doctor`, and how findings are shown; the standard library alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Check:
    """One finding; `hint` is what to type when it is not `ok`."""

    name: str
    ok: bool
    detail: str
    hint: str = ""


def render(checks: Sequence[Check]) -> str:
    """Return a line per finding, then what to type for each that failed."""
    width = max(len(check.name) for check in checks)
    lines = [f"{'ok' if check.ok else 'FAILED':6}  {check.name:{width}}  {check.detail}" for check in checks]
    lines += [f"\n{check.name}: {check.detail}\n  try: {check.hint}" for check in checks if not check.ok]
    return "\n".join(lines)
