"""Dead letters that their topic does not take whole: what is left out of them, and what is said of it instead."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, Self

from penstock.contract.reject import Reject

_STEPS: tuple[tuple[str, ...], ...] = ((), ("value",), ("value", "headers"), ("value", "headers", "key"))
_NOTHING: dict[str, Any] = {"value": None, "headers": [], "key": None}
_WORDS, _RULES = 200, 5


class LeftOut(NamedTuple):
    """What was left out of a dead letter, and size and SHA-256 (hex; empty for null) of the record's value."""

    parts: tuple[str, ...]
    """Of `value`, `headers` and `key` those that the record had."""
    value_bytes: int
    value_sha256: str

    @property
    def facts(self) -> dict[str, str]:
        """Return what the error headers say of it, by name without the prefix."""
        return {
            "left.out": ",".join(self.parts),
            "value.bytes": str(self.value_bytes),
            "value.sha256": self.value_sha256,
        }

    @classmethod
    def of_facts(cls, facts: Mapping[str, str]) -> Self | None:
        """Return what error headers say; None when nothing was left out. Raises `KeyError`, `ValueError`."""
        parts = tuple(filter(None, facts.get("left.out", "").split(",")))
        return cls(parts, int(facts["value.bytes"]), facts["value.sha256"]) if parts else None


def shrink(reject: Reject) -> Iterator[tuple[Reject, LeftOut]]:
    """Return a reject whole, and then with less and less of its record; of the last one the words are cut too."""
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
