"""A record that was set aside: data with a reason, not an exception."""

from dataclasses import dataclass
from enum import StrEnum

Headers = list[tuple[str, bytes | None]]


class Reason(StrEnum):
    """Why a record was set aside. The codes are stable: queues and dashboards hold them."""

    VALUE_MISSING = "value_missing"
    FRAME_BROKEN = "frame_broken"
    SCHEMA_UNKNOWN = "schema_unknown"
    JSON_MALFORMED = "json_malformed"
    AVRO_MALFORMED = "avro_malformed"
    CONTRACT_BROKEN = "contract_broken"


class Stage(StrEnum):
    """Where it was set aside."""

    PRODUCE = "produce"
    DECODE = "decode"
    TRANSFORM = "transform"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a value."""

    reason: Reason
    message: str
    stage: Stage = Stage.DECODE
    schema_id: int | None = None


@dataclass(frozen=True, slots=True)
class Reject:
    """A record as it came, byte for byte, with what is wrong with it.

    `partition` and `offset` say where in `topic` it lies; -1 when it never got there.
    """

    fault: Fault
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
