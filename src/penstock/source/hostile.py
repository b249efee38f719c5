"""Trouble on purpose: which requests the stand-in answers badly, and which users it damages. No I/O."""

import copy
import random
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Trouble(Enum):
    """What is wrong with an answer."""

    NONE = "answered as it should be"
    THROTTLED = "429 with Retry-After"
    OVERLOADED = "503"
    SLOW = "answered after some seconds"
    CUT = "fewer bytes than Content-Length says"
    TRUNCATED = "JSON that ends in the middle"
    ERROR = "200 with an error field"


TROUBLES = tuple(trouble for trouble in Trouble if trouble is not Trouble.NONE)

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
    """How much goes wrong: `rate` is the share of answers in trouble, and the share of users that are damaged."""

    rate: float = 0.0
    seed: str = "hostile"
    slow_s: float = 3.0

    def trouble(self, request: int) -> Trouble:
        """What goes wrong with the answer to the `request`th request; the same for the same seed."""
        rng = self._rng("request", request)
        return rng.choice(TROUBLES) if rng.random() < self.rate else Trouble.NONE

    def touched(self, user: dict[str, Any], place: str) -> dict[str, Any]:
        """`user`, or a copy of it with a field missing or mistyped; the same at every request for the same place."""
        if not self.rate:
            return user
        rng = self._rng("user", place)
        return _damaged(user, rng) if rng.random() < self.rate else user

    def _rng(self, *place: object) -> random.Random:
        return random.Random(":".join([self.seed, *map(str, place)]))  # noqa: S311 - made to be repeatable


def _damaged(user: dict[str, Any], rng: random.Random) -> dict[str, Any]:
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
