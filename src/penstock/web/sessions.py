"""Viewer sessions, held in memory and identified by a random cookie."""

import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, field

COOKIE = "penstock_session"
AGE_S = 12 * 3600.0
_MOST = 10_000


@dataclass(eq=False)
class Session:
    """The session of one viewer's browser."""

    token: str = field(repr=False)
    address: str
    began_s: float
    signed_in: bool = False
    shows_personal: bool = False
    """Whether personal data is shown unmasked."""
    dark: bool | None = None
    """None follows the browser's preference."""
    ended: bool = False

    @property
    def name(self) -> str:
        """Return the name in the audit log: enough of the token to tell sessions apart, too little to hijack one."""
        return f"{self.token[:6]}@{self.address}"


class Sessions:
    """All sessions. Beyond 10,000, the least recently used ones are ended."""

    def __init__(self) -> None:
        self._by_token: OrderedDict[str, Session] = OrderedDict()

    def find(self, token: str | None) -> Session | None:
        """Return the session of a cookie, or None if there is none or it has expired."""
        session = self._by_token.get(token or "")
        if session is not None and time.monotonic() - session.began_s > AGE_S:
            self.end(session)
            return None
        if session is not None:
            self._by_token.move_to_end(session.token)
        return session

    def begin(self, address: str, *, signed_in: bool = False) -> Session:
        """Create the session of a viewer at `address`."""
        session = Session(secrets.token_urlsafe(32), address, time.monotonic(), signed_in)
        self._by_token[session.token] = session
        while len(self._by_token) > _MOST:
            _, oldest = self._by_token.popitem(last=False)
            oldest.ended = True
        return session

    def end(self, session: Session) -> None:
        """End a session. Its open pages can no longer act."""
        session.ended = True
        self._by_token.pop(session.token, None)
