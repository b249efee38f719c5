"""The password, and how often it may be guessed."""

import hmac
import time
from collections import OrderedDict, deque

_TRIES, _TRIES_S = 5, 60.0
_PLACES = 10_000


class Password:
    """One password; after five wrong tries in a minute, a door is closed to the address that they came from.

    A door is a way to send it: people and programs do not lock each other out.
    """

    def __init__(self, password: str) -> None:
        self._password = password.encode()
        self._wrong: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()

    @property
    def is_set(self) -> bool:
        """Whether anybody has to know it."""
        return bool(self._password)

    def is_right(self, typed: str, door: str, address: str) -> bool:
        """Whether it is the password; a wrong one counts."""
        if hmac.compare_digest(typed.encode(), self._password):
            return True
        self._wrong.setdefault((door, address), deque(maxlen=_TRIES)).append(time.monotonic())
        while len(self._wrong) > _PLACES:
            self._wrong.popitem(last=False)
        return False

    def is_closed(self, door: str, address: str) -> bool:
        """Whether there were too many wrong ones in the last minute."""
        tries = self._wrong.get((door, address))
        return tries is not None and len(tries) == _TRIES and time.monotonic() - tries[0] < _TRIES_S
