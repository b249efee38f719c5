"""Dead letters that are too large for their topic: which parts are left out, and what is stored instead."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, Self

from penstock.contract.batch import Reject

_STEPS: tuple[tuple[str, ...], ...] = ((), ("value",), ("value", "headers"), ("value", "headers", "key"))
_NOTHING: dict[str, Any] = {"value": None, "headers": [], "key": None}
_WORDS, _RULES = 200, 5


class LeftOut(NamedTuple):
    """Parts left out of a dead letter, and size and SHA-256 (hex; empty for null) of the record's value."""

    parts: tuple[str, ...]
    """Those of `value`, `headers` and `key` that the record had."""
    value_bytes: int
    value_sha256: str

    @property
    def facts(self) -> dict[str, str]:
        """Return the error headers for it, by name without the prefix."""
        return {
            "left.out": ",".join(self.parts),
            "value.bytes": str(self.value_bytes),
            "value.sha256": self.value_sha256,
        }

    @classmethod
    def of_facts(cls, facts: Mapping[str, str]) -> Self | None:
        """Return what error headers say was left out; None if nothing was. Raises `KeyError`, `ValueError`."""
        parts = tuple(filter(None, facts.get("left.out", "").split(",")))
        return cls(parts, int(facts["value.bytes"]), facts["value.sha256"]) if parts else None


def shrink(reject: Reject) -> Iterator[tuple[Reject, LeftOut]]:
    """Yield a reject whole, then with less and less of its record; in the last, message and rules are truncated too."""
    size_bytes, digest = len(reject.value or b""), sha256(reject.value)
    for step in _STEPS:
        parts = tuple(part for part in step if getattr(reject, part))
        shrunk = replace(reject, **{part: _NOTHING[part] for part in parts})
        if step == _STEPS[-1]:
            fault = reject.fault
            shrunk = replace(shrunk, fault=replace(fault, message=fault.message[:_WORDS], rules=fault.rules[:_RULES]))
        yield shrunk, LeftOut(parts, size_bytes, digest)


def sha256(value: bytes | None) -> str:
    """Return the SHA-256 of a value in hex; empty for null."""
    return "" if value is None else hashlib.sha256(value).hexdigest()
