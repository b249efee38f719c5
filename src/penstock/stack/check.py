"""Results of `doctor`'s checks and their text form. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Check:
    """Result of one check. `hint` is the command that helps if it is not `ok`."""

    name: str
    ok: bool
    detail: str
    hint: str = ""


def format_checks(checks: Sequence[Check]) -> str:
    """Return one line per check, then the hint of each failed check."""
    width = max(len(check.name) for check in checks)
    lines = [f"{'ok' if check.ok else 'FAILED':6}  {check.name:{width}}  {check.detail}" for check in checks]
    lines += [f"\n{check.name}: {check.detail}\n  try: {check.hint}" for check in checks if not check.ok]
    return "\n".join(lines)
