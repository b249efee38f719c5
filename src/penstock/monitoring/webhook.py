"""The webhook: each change of an alert is posted, in order, until it is accepted. The URL is a secret."""

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from penstock.config import Settings
from penstock.errors import Unreachable
from penstock.files import write_atomically
from penstock.log import get_logger
from penstock.monitoring.alerts import AlertChange
from penstock.retry import retry_attempts

log = get_logger(__name__)

TIMEOUT_S = 5.0
ATTEMPTS = 3
MOST_PENDING = 1000

Post = Callable[[dict[str, Any]], None]
"""Returns once the webhook has accepted the body, else raises `Unreachable`, which does not reveal the URL."""


def build_poster(settings: Settings) -> Post:
    """Return a function that posts to the webhook in the settings."""
    client = httpx2.Client(timeout=TIMEOUT_S)

    def post(body: dict[str, Any]) -> None:
        try:
            answer = client.post(settings.alert_webhook_url.get_secret_value(), json=body)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise Unreachable(f"no response from the webhook: {type(error).__name__}") from None
        if not answer.is_success:
            raise Unreachable(f"the webhook responded with HTTP {answer.status_code}")

    return post


def build_payload(change: AlertChange) -> dict[str, Any]:
    """Return the body to post: the change, and `text`, which chat services display."""
    text = f"{change.change}: {change.name} {change.subject}: {change.message} ({change.command})"
    return {**msgspec.to_builtins(change), "text": text}


class Webhook:
    """Posts changes in its own thread, so that an unavailable webhook blocks nothing.

    Delivery: at least once, in order. The number of the last accepted change is kept in the file `path`, so a restart
    continues from there. At most a thousand changes are pending; further changes are posted after the next start.
    """

    def __init__(self, post: Post, path: Path, history: Iterable[AlertChange]) -> None:
        changes = list(history)
        self._post, self._path = post, path
        self._accepted = _read_number(path, default=max((change.number for change in changes), default=0))
        self._pending = deque(change for change in changes if change.number > self._accepted)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="webhook")
        self._delivery: Future[None] | None = None
        self._is_unavailable = self._is_closing = False
        self._save_number()

    def send(self, changes: Iterable[AlertChange]) -> None:
        """Queue `changes`, and start posting unless a delivery is in progress. Returns at once."""
        room = MOST_PENDING - len(self._pending)
        self._pending.extend(list(changes)[:room])
        if self._pending and (self._delivery is None or self._delivery.done()):
            self._delivery = self._pool.submit(self._deliver_pending)

    def _deliver_pending(self) -> None:
        while self._pending and not self._is_closing:
            try:
                self._post_change(self._pending[0])
            except Unreachable as error:
                if not self._is_unavailable:
                    log.warning("webhook_unavailable", error=error.message, pending=len(self._pending))
                self._is_unavailable = True
                return
            if self._is_unavailable:
                log.info("webhook_recovered", pending=len(self._pending))
            self._is_unavailable = False
            self._accepted = self._pending.popleft().number
            self._save_number()

    def _post_change(self, change: AlertChange) -> None:
        for attempt in retry_attempts(Unreachable, attempts=ATTEMPTS, timeout_s=ATTEMPTS * TIMEOUT_S):
            with attempt:
                self._post(build_payload(change))

    def _save_number(self) -> None:
        try:
            write_atomically(self._path, str(self._accepted))
        except OSError as error:
            log.warning("webhook_position_write_failed", error=str(error))

    def close(self) -> None:
        """Wait for the change that is being posted; later changes are posted after the next start."""
        self._is_closing = True
        self._pool.shutdown(wait=True)


def _read_number(path: Path, default: int) -> int:
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return default
