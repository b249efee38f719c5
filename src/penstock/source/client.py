"""The client for an HTTP API that gives records page by page, as https://randomuser.me/documentation describes."""

import random
import time
from collections.abc import Iterator
from typing import Any, Self

import httpx2

from penstock import __version__
from penstock.config import Settings
from penstock.errors import SourceRefused, SourceUnreachable, WrongSettings, WrongUse, clean_line
from penstock.log import get_logger
from penstock.retry import bounded
from penstock.source.answer import WORDS_MAX_CHARS, check_status, users_of

ANSWER_MAX_BYTES = 64 * 1024 * 1024
PAGES_MAX = 10_000  # the API answers page 1 again for any page beyond
CONNECT_TIMEOUT_MAX_S = 10.0
MAX_WAIT_S = 300.0
WAIT_JITTER_S = 0.5
BACK_OFF_MAX_S = 10.5
BROKEN_OFF = (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.DecodingError)
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "[::1]")

log = get_logger(__name__)


class HttpSource:
    """Records of an HTTP API. Holds no connection: each `fetch` opens its own and closes it at its end."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        attempts: int,
        batch_records: int,
        max_wait_s: float = MAX_WAIT_S,
        hosts: frozenset[str] = frozenset(),
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        """`timeout_s` bounds one answer, `attempts` the requests for it, `max_wait_s` the waits it asks for.

        `hosts` are allowed, empty: any. Raises `WrongSettings` for a bad URL, `WrongUse` for that of another host.
        """
        self._url = _checked(url)
        self._hosts = hosts
        self._check_allowed(self._url)
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._batch_records = batch_records
        self._max_wait_s = max_wait_s
        self._transport = transport

    @classmethod
    def configured(cls, settings: Settings, url: str = "") -> Self:
        """The source of `settings`, at `url` when one is given."""
        return cls(
            url or settings.source_url,
            timeout_s=settings.source_timeout_s,
            attempts=settings.source_attempts,
            batch_records=settings.source_batch_records,
            hosts=_allowed_hosts(settings),
            max_wait_s=settings.source_max_wait_s,
        )

    def fetch(self, asked: int, seed: str, given: int = 0) -> Iterator[list[Any]]:
        """Answers of at most `batch_records` entries, `asked` entries in all; an entry may be anything.

        The first `given` of them are passed over: an earlier call gave them.

        The same seed, `asked` and `batch_records` give the same entries again. `results` is the same on every page
        and the last page is cut here, because pages of different sizes overlap. Raises `WrongUse` at the call,
        `SourceUnreachable` and `SourceRefused` while the answers are read.
        """
        if asked < 1 or not seed:
            raise WrongUse(f"fetch needs at least one record and a seed, not {asked} and {seed!r}")
        results = min(self._batch_records, asked)
        if asked > results * PAGES_MAX:
            raise WrongUse(
                f"{asked} records are more than {PAGES_MAX} pages of {results}",
                hint="set PENSTOCK_SOURCE_BATCH_RECORDS higher",
            )
        return self._pages(asked, results, seed, given)

    def _pages(self, asked: int, results: int, seed: str, given: int) -> Iterator[list[Any]]:
        with self._client() as client:
            for page, first in enumerate(range(0, asked, results), start=1):
                if given < min(first + results, asked):
                    url = self._url.copy_merge_params({"results": results, "page": page, "seed": seed})
                    yield self._page(client, url, results)[max(0, given - first) : asked - first]

    def _page(self, client: httpx2.Client, url: httpx2.URL, results: int) -> list[Any]:
        longest_s = self._attempts * (self._timeout_s + BACK_OFF_MAX_S + WAIT_JITTER_S) + self._max_wait_s
        try:
            for attempt in bounded(
                _Patience(self._max_wait_s).worth_another, attempts=self._attempts, timeout_s=longest_s
            ):
                with attempt:
                    users = self._ask(client, url, results)
        except SourceRefused as error:
            raise self._refused(error) from error
        except httpx2.TransportError as error:
            raise self._unreachable(error) from error
        except httpx2.RequestError as error:  # too many redirects
            raise self._refused(SourceRefused(clean_line(str(error), WORDS_MAX_CHARS))) from error
        return users

    def _ask(self, client: httpx2.Client, url: httpx2.URL, results: int) -> list[Any]:
        started_s = time.monotonic()
        with client.stream("GET", url) as answer:
            body = _read(answer, deadline_s=started_s + self._timeout_s)
        check_status(answer.status_code, answer.reason_phrase, answer.headers, body)
        users = users_of(body, results)
        log.debug("source_answered", users=len(users), bytes=len(body), seconds=round(time.monotonic() - started_s, 3))
        return users

    def _client(self) -> httpx2.Client:
        return httpx2.Client(
            headers={"User-Agent": f"penstock/{__version__}", "Accept": "application/json"},
            timeout=httpx2.Timeout(self._timeout_s, connect=min(self._timeout_s, CONNECT_TIMEOUT_MAX_S)),
            transport=self._transport,
            mounts={f"all://{host}": None for host in LOOPBACK_HOSTS},  # never through a proxy
            follow_redirects=True,
            event_hooks={"request": [self._check_request]},
        )

    def _check_request(self, request: httpx2.Request) -> None:
        """Return when the request, which a redirect may have asked for, may be sent. Raises `WrongUse`."""
        self._check_allowed(request.url)
        is_safe = request.url.host == self._url.host and request.url.scheme in (self._url.scheme, "https")
        if self._url.userinfo and not is_safe:
            raise WrongUse(
                f"{self._place} redirects to {_origin(request.url)}, which is not sent the user and password",
                hint=f"set the source URL to the address that is meant, at {_origin(request.url)}, if it is trusted",
            )

    def _check_allowed(self, url: httpx2.URL) -> None:
        if self._hosts and url.host not in self._hosts:
            raise WrongUse(
                f"the source host {url.host!r} is not allowed: only {', '.join(sorted(self._hosts))}",
                hint=f"add {url.host} to PENSTOCK_SOURCE_HOSTS where the run is carried out, or use another source URL",
            )

    @property
    def _place(self) -> str:
        return str(self._url.copy_with(userinfo=b"", query=None))

    def _refused(self, error: SourceRefused) -> SourceRefused:
        hint = error.hint or "check PENSTOCK_SOURCE_URL"
        return SourceRefused(f"{self._place} {error.message}", hint=hint, **error.facts)

    def _unreachable(self, error: httpx2.TransportError) -> SourceUnreachable:
        words = clean_line(str(error), WORDS_MAX_CHARS) or type(error).__name__
        return SourceUnreachable(
            f"{self._place} did not answer: {words} ({self._attempts} attempts)",
            hint="set PENSTOCK_SOURCE_URL to an API that answers; ./penstock source serve is a stand-in for it",
        )


def _checked(text: str) -> httpx2.URL:
    shown = text.rpartition("@")[2]  # a password stays out of messages
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL as error:
        raise WrongSettings(f"PENSTOCK_SOURCE_URL={shown}: {error}", hint="./penstock config") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise WrongSettings(f"PENSTOCK_SOURCE_URL={shown}: not an http address", hint="./penstock config")
    return url


def _origin(url: httpx2.URL) -> str:
    return str(url.copy_with(userinfo=b"", path="/", query=None, fragment=None))


def _allowed_hosts(settings: Settings) -> frozenset[str]:
    """Return the hosts that may be asked; empty: any. Raises `WrongSettings`."""
    names = [name.strip() for name in settings.source_hosts.split(",") if name.strip()]
    if not names:
        return frozenset()
    return frozenset([*map(_host, names), _checked(settings.source_url).host])


def _host(name: str) -> str:
    try:
        url = httpx2.URL(f"http://{name}/")
    except httpx2.InvalidURL:
        url = httpx2.URL()
    if "*" in name or not url.host or name.lower() not in (url.host, url.raw_host.decode(), f"[{url.host}]"):
        raise WrongSettings(
            f"PENSTOCK_SOURCE_HOSTS: {name!r} is not a host name", hint="PENSTOCK_SOURCE_HOSTS=host,host"
        )
    return url.host


class _Patience:
    """Whether to ask again for one answer; the waits that the API asks for add up to at most `max_wait_s`."""

    def __init__(self, max_wait_s: float) -> None:
        self._left_s = max_wait_s

    def worth_another(self, error: Exception) -> bool | float:
        """Return whether to ask again, or the seconds to wait before: what the API asked for, and a little more."""
        if not isinstance(error, SourceRefused):
            return isinstance(error, httpx2.TransportError)
        asked_s: float = error.facts.get("wait_s", 0.0)
        if not error.facts.get("again") or not asked_s:
            return bool(error.facts.get("again"))
        if not self._left_s:
            return False
        wait_s = min(asked_s, self._left_s)
        self._left_s -= wait_s
        log.info("rate_limited", asked_s=round(asked_s, 1), wait_s=round(wait_s, 1))
        return wait_s + random.uniform(0, WAIT_JITTER_S)  # noqa: S311 - not a secret


def _read(answer: httpx2.Response, deadline_s: float) -> bytes:
    """The body. Raises `SourceRefused` when it is cut or too large, `ReadTimeout` when it lasts past the deadline."""
    body = bytearray()
    try:
        for chunk in answer.iter_bytes():
            body += chunk
            if len(body) > ANSWER_MAX_BYTES:
                raise SourceRefused(
                    f"answered more than {ANSWER_MAX_BYTES} bytes", hint="set PENSTOCK_SOURCE_BATCH_RECORDS lower"
                )
            if time.monotonic() > deadline_s:
                raise httpx2.ReadTimeout("the answer was not complete in time", request=answer.request)
    except BROKEN_OFF as error:
        words = clean_line(str(error), WORDS_MAX_CHARS)
        raise SourceRefused(f"broke off its answer after {len(body)} bytes: {words}", again=True, wait_s=0.0) from error
    return bytes(body)
