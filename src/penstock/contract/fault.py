"""What is wrong with a value or a record: data with a reason, not an exception."""

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from penstock.contract.rules import MAX_VALUE_BYTES
from penstock.contract.violation import Rule, Violation

_EXCEPTION_CHARACTERS = 1000


class Reason(StrEnum):
    """Why a record was dead-lettered. The codes are stable: queues and dashboards store them."""

    VALUE_MISSING = "value_missing"
    KEY_AMBIGUOUS = "key_ambiguous"
    ORDER_UNKNOWN = "order_unknown"
    FRAME_BROKEN = "frame_broken"
    SCHEMA_UNKNOWN = "schema_unknown"
    JSON_MALFORMED = "json_malformed"
    AVRO_MALFORMED = "avro_malformed"
    CONTRACT_BROKEN = "contract_broken"
    VALUE_TOO_LARGE = "value_too_large"
    PROCESSING_ERROR = "processing_error"
    MAPPING_FAILED = "mapping_failed"
    TRANSFORM_FAILED = "transform_failed"


class Stage(StrEnum):
    """The stage at which a record was dead-lettered."""

    PRODUCE = "produce"
    DECODE = "decode"
    TRANSFORM = "transform"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a value or a record. Every stage and every reader reports it, and a dead letter has it."""

    reason: Reason
    message: str
    stage: Stage = Stage.DECODE
    schema_id: int | None = None
    rules: tuple[str, ...] = ()
    """Field and rule of each broken rule: `email:pattern`, `items[].price:range`."""
    cause: str = ""
    """What code raised, and where: `TypeError at users.py, line 93`; empty if none did. Never quotes the record."""

    @property
    def kind(self) -> str:
        """Return what records that fail alike have in common. Never quotes the record."""
        return self.cause or " ".join([self.reason, *self.rules])

    @classmethod
    def of(cls, broken: Sequence[Violation], stage: Stage = Stage.DECODE, schema_id: int | None = None) -> Self:
        """Return the fault of a record that breaks rules of the contract, naming each of them."""
        message = "; ".join(map(str, broken))
        codes = tuple(dict.fromkeys(one.code for one in broken))
        return cls(Reason.CONTRACT_BROKEN, message, stage, schema_id, codes)

    @classmethod
    def too_large(cls, value_bytes: int, stage: Stage = Stage.DECODE) -> Self:
        """Return the fault of a value that is larger than a record may be."""
        message = f"the value has {value_bytes} bytes, a record at most {MAX_VALUE_BYTES}"
        return cls(Reason.VALUE_TOO_LARGE, message, stage, None, (f":{Rule.SIZE}",))

    @classmethod
    def of_exception(cls, error: Exception, stage: Stage = Stage.DECODE) -> Self:
        """Return the fault of a record whose validation or encoding raised: exception type and message, truncated."""
        words = "".join(traceback.format_exception_only(error)).strip()[:_EXCEPTION_CHARACTERS]
        return cls(Reason.PROCESSING_ERROR, words.encode(errors="backslashreplace").decode(), stage)
