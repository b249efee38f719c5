"""Deliberate faults of the stand-in API: failed responses and damaged users. No I/O."""

import copy
import random
from dataclasses import dataclass
from enum import Enum
from typing import Any


class ResponseFault(Enum):
    """A fault of a response."""

    NONE = "normal response"
    THROTTLED = "429 with Retry-After"
    OVERLOADED = "503"
    SLOW = "response after some seconds"
    CUT = "fewer bytes than Content-Length"
    TRUNCATED = "truncated JSON"
    ERROR = "200 with an error field"


RESPONSE_FAULTS = tuple(trouble for trouble in ResponseFault if trouble is not ResponseFault.NONE)

MISTYPED: dict[tuple[str, ...], Any] = {
    ("gender",): 1,
    ("name", "first"): None,
    ("name", "last"): ["last"],
    ("location", "street"): "1 Long Lane",  # as the API's versions before 1.3 had it
    ("location", "city"): 7,
    ("location", "country"): None,
    ("location", "postcode"): {"code": 12345},
    ("email",): False,
    ("login", "uuid"): 0,
    ("login", "username"): {},
    ("dob", "date"): 315532800,
    ("registered", "date"): None,
    ("phone",): 5551234,
    ("picture", "large"): [],
    ("nat",): None,
}


@dataclass(frozen=True)
class Hostility:
    """Configuration of faults. `rate` is the share of faulty responses and of damaged users."""

    rate: float = 0.0
    seed: str = "hostile"
    slow_s: float = 3.0

    def choose_fault(self, request: int) -> ResponseFault:
        """Return the fault of the response to the `request`th request, deterministic per seed."""
        rng = self._create_rng("request", request)
        return rng.choice(RESPONSE_FAULTS) if rng.random() < self.rate else ResponseFault.NONE

    def damage_user(self, user: dict[str, Any], position: str) -> dict[str, Any]:
        """Return the user, or a copy with a missing or mistyped field, deterministic per `position`."""
        if not self.rate:
            return user
        rng = self._create_rng("user", position)
        return _damage_user(user, rng) if rng.random() < self.rate else user

    def _create_rng(self, *parts: object) -> random.Random:
        return random.Random(":".join([self.seed, *map(str, parts)]))  # noqa: S311 - must be reproducible


def _damage_user(user: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    damaged = copy.deepcopy(user)
    *parents, field = path = rng.choice(list(MISTYPED))
    part = damaged
    for parent in parents:
        part = part[parent]
    if rng.random() < 0.5:
        del part[field]
    else:
        part[field] = copy.deepcopy(MISTYPED[path])
    return damaged
