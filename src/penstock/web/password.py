"""The password, and the limit on guessing it."""

import hmac
import time
from collections import OrderedDict, deque

_TRIES, _TRIES_S = 5, 60.0
_MOST_ADDRESSES = 10_000


class Password:
    """The password, with rate limiting: five wrong attempts within a minute lock out the client address.

    Attempts are counted per `auth_method` (the sign-in form or the API), so that people and programs behind one address
    do not lock each other out.
    """

    def __init__(self, password: str) -> None:
        self._password = password.encode()
        self._attempts: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()

    @property
    def is_set(self) -> bool:
        """Return whether a password is required."""
        return bool(self._password)

    def verify(self, typed: str, auth_method: str, address: str) -> bool:
        """Return whether `typed` is the password. A wrong one counts as an attempt."""
        if hmac.compare_digest(typed.encode(), self._password):
            return True
        self._attempts.setdefault((auth_method, address), deque(maxlen=_TRIES)).append(time.monotonic())
        while len(self._attempts) > _MOST_ADDRESSES:
            self._attempts.popitem(last=False)
        return False

    def is_locked_out(self, auth_method: str, address: str) -> bool:
        """Return whether the address is locked out: too many wrong attempts in the last minute."""
        attempts = self._attempts.get((auth_method, address))
        return attempts is not None and len(attempts) == _TRIES and time.monotonic() - attempts[0] < _TRIES_S
