"""Client for a paged HTTP API of records, as documented at https://randomuser.me/documentation."""

import random
import time
from collections.abc import Iterator
from typing import Any, Self

import httpx2
import msgspec

from penstock import __version__, remedies
from penstock.config import Settings
from penstock.contract.json_numbers import ReadNumber
from penstock.errors import SourceRefused, SourceUnreachable, UsageError, WrongSettings, clean_line
from penstock.log import get_logger
from penstock.retry import retry_attempts
from penstock.source.answer import MESSAGE_MAX_CHARS, check_status, parse_users

RESPONSE_MAX_BYTES = 64 * 1024 * 1024
PAGES_MAX = 10_000  # for any page beyond, the API returns page 1
CONNECT_TIMEOUT_MAX_S = 10.0
MAX_WAIT_S = 300.0
WAIT_JITTER_S = 0.5
BACK_OFF_MAX_S = 10.5
ABORTED = (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.DecodingError)
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "[::1]")

log = get_logger(__name__)


class HttpSource:
    """An HTTP API of records. Keeps no connection open: each `fetch` opens and closes its own."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        attempts: int,
        batch_records: int,
        max_wait_s: float = MAX_WAIT_S,
        hosts: frozenset[str] = frozenset(),
        read_number: ReadNumber | None = None,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        """Validate the URL and configure the limits per response.

        `timeout_s` limits one request, `attempts` the requests for one response, `max_wait_s` the waits that the API
        requests. `hosts` are the allowed hosts, empty for any. `read_number` reads numbers that are not integers, None
        as floats. Raises `WrongSettings` for an invalid URL, `UsageError` if its host is not allowed.
        """
        self._url = _parse_url(url)
        self._hosts = hosts
        self._check_allowed(self._url)
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._batch_records = batch_records
        self._max_wait_s = max_wait_s
        self._decode = msgspec.json.Decoder(float_hook=read_number).decode
        self._transport = transport

    @classmethod
    def configured(cls, settings: Settings, url: str = "", read_number: ReadNumber | None = None) -> Self:
        """Create the source from settings, optionally with another `url` or another reader of numbers."""
        return cls(
            url or settings.source_url,
            timeout_s=settings.source_timeout_s,
            attempts=settings.source_attempts,
            batch_records=settings.source_batch_records,
            hosts=_allowed_hosts(settings),
            max_wait_s=settings.source_max_wait_s,
            read_number=read_number,
        )

    def fetch(self, records: int, seed: str, skip: int = 0) -> Iterator[list[Any]]:
        """Fetch `records` entries in pages of at most `batch_records`, skipping the first `skip` entries.

        Entries may be any JSON value. The same seed, `records` and `batch_records` return the same entries again.
        `results` is the same on every page and the last page is truncated here, because pages of different sizes
        overlap. Raises `UsageError` at the call, `SourceUnreachable` and `SourceRefused` during iteration.
        """
        if records < 1 or not seed:
            raise UsageError(f"cannot fetch {records} records with seed {seed!r}: expected at least 1 and a seed")
        results = min(self._batch_records, records)
        if records > results * PAGES_MAX:
            raise UsageError(
                f"{records} records exceed {PAGES_MAX} pages of {results}",
                hint="set PENSTOCK_SOURCE_BATCH_RECORDS higher",
            )
        return self._fetch_pages(records, results, seed, skip)

    def _fetch_pages(self, records: int, results: int, seed: str, skip: int) -> Iterator[list[Any]]:
        with self._create_client() as client:
            for page, first in enumerate(range(0, records, results), start=1):
                if skip < min(first + results, records):
                    url = self._url.copy_merge_params({"results": results, "page": page, "seed": seed})
                    yield self._fetch_page(client, url, results)[max(0, skip - first) : records - first]

    def _fetch_page(self, client: httpx2.Client, url: httpx2.URL, results: int) -> list[Any]:
        timeout_s = self._attempts * (self._timeout_s + BACK_OFF_MAX_S + WAIT_JITTER_S) + self._max_wait_s
        try:
            for attempt in retry_attempts(
                _RetryPolicy(self._max_wait_s).should_retry, attempts=self._attempts, timeout_s=timeout_s
            ):
                with attempt:
                    users = self._request_users(client, url, results)
        except SourceRefused as error:
            raise self._add_address(error) from error
        except httpx2.TransportError as error:
            raise self._translate_error(error) from error
        except httpx2.RequestError as error:  # too many redirects
            raise self._add_address(SourceRefused(clean_line(str(error), MESSAGE_MAX_CHARS))) from error
        return users

    def _request_users(self, client: httpx2.Client, url: httpx2.URL, results: int) -> list[Any]:
        started_s = time.monotonic()
        with client.stream("GET", url) as response:
            body = _read_body(response, deadline_s=started_s + self._timeout_s)
        check_status(response.status_code, response.reason_phrase, response.headers, body)
        users = parse_users(body, results, self._decode)
        log.debug("source_responded", users=len(users), bytes=len(body), seconds=round(time.monotonic() - started_s, 3))
        return users

    def _create_client(self) -> httpx2.Client:
        return httpx2.Client(
            headers={"User-Agent": f"penstock/{__version__}", "Accept": "application/json"},
            timeout=httpx2.Timeout(self._timeout_s, connect=min(self._timeout_s, CONNECT_TIMEOUT_MAX_S)),
            transport=self._transport,
            mounts={f"all://{host}": None for host in LOOPBACK_HOSTS},  # never through a proxy
            follow_redirects=True,
            event_hooks={"request": [self._check_request]},
        )

    def _check_request(self, request: httpx2.Request) -> None:
        """Raise `UsageError` unless the request, possibly the target of a redirect, may be sent."""
        self._check_allowed(request.url)
        is_safe = request.url.host == self._url.host and request.url.scheme in (self._url.scheme, "https")
        if self._url.userinfo and not is_safe:
            raise UsageError(
                f"{self._address} redirects to {_to_origin(request.url)}, to which user and password are not sent",
                hint=f"if {_to_origin(request.url)} is trusted, set the source URL to the address there",
            )

    def _check_allowed(self, url: httpx2.URL) -> None:
        if self._hosts and url.host not in self._hosts:
            raise UsageError(
                f"the source host {url.host!r} is not allowed (allowed: {', '.join(sorted(self._hosts))})",
                hint=f"add {url.host} to PENSTOCK_SOURCE_HOSTS in the run's environment, or use another source URL",
            )

    @property
    def _address(self) -> str:
        return str(self._url.copy_with(userinfo=b"", query=None))

    def _add_address(self, error: SourceRefused) -> SourceRefused:
        hint = error.hint or "check PENSTOCK_SOURCE_URL"
        return SourceRefused(f"{self._address} {error.message}", hint=hint, **error.facts)

    def _translate_error(self, error: httpx2.TransportError) -> SourceUnreachable:
        details = clean_line(str(error), MESSAGE_MAX_CHARS) or type(error).__name__
        return SourceUnreachable(
            f"{self._address} did not respond: {details} ({self._attempts} attempts)",
            hint=f"set PENSTOCK_SOURCE_URL to a reachable API; {remedies.serve_source()} runs a stand-in",
        )


def _parse_url(text: str) -> httpx2.URL:
    shown = text.rpartition("@")[2]  # keeps a password out of messages
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL as error:
        raise WrongSettings(f"PENSTOCK_SOURCE_URL={shown}: {error}", hint=remedies.show_settings()) from error
    if url.scheme not in ("http", "https") or not url.host:
        raise WrongSettings(f"PENSTOCK_SOURCE_URL={shown}: not an HTTP URL", hint=remedies.show_settings())
    return url


def _to_origin(url: httpx2.URL) -> str:
    return str(url.copy_with(userinfo=b"", path="/", query=None, fragment=None))


def _allowed_hosts(settings: Settings) -> frozenset[str]:
    """Return the allowed hosts, empty for any. Raises `WrongSettings`."""
    names = [name.strip() for name in settings.source_hosts.split(",") if name.strip()]
    if not names:
        return frozenset()
    return frozenset([*map(_parse_host, names), _parse_url(settings.source_url).host])


def _parse_host(name: str) -> str:
    try:
        url = httpx2.URL(f"http://{name}/")
    except httpx2.InvalidURL:
        url = httpx2.URL()
    if "*" in name or not url.host or name.lower() not in (url.host, url.raw_host.decode(), f"[{url.host}]"):
        raise WrongSettings(
            f"PENSTOCK_SOURCE_HOSTS: {name!r} is not a host name", hint="PENSTOCK_SOURCE_HOSTS=host,host"
        )
    return url.host


class _RetryPolicy:
    """Retry policy for one response. The waits requested by the API add up to at most `max_wait_s`."""

    def __init__(self, max_wait_s: float) -> None:
        self._remaining_s = max_wait_s

    def should_retry(self, error: Exception) -> bool | float:
        """Return whether to retry, or the seconds to wait before: the wait requested by the API plus jitter."""
        if not isinstance(error, SourceRefused):
            return isinstance(error, httpx2.TransportError)
        requested_s: float = error.facts.get("wait_s", 0.0)
        if not error.facts.get("again") or not requested_s:
            return bool(error.facts.get("again"))
        if not self._remaining_s:
            return False
        wait_s = min(requested_s, self._remaining_s)
        self._remaining_s -= wait_s
        log.info("rate_limited", requested_s=round(requested_s, 1), wait_s=round(wait_s, 1))
        return wait_s + random.uniform(0, WAIT_JITTER_S)  # noqa: S311 - not a secret


def _read_body(response: httpx2.Response, deadline_s: float) -> bytes:
    """Read the body. Raises `SourceRefused` if it is truncated or too large, `ReadTimeout` past the deadline."""
    body = bytearray()
    try:
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > RESPONSE_MAX_BYTES:
                raise SourceRefused(
                    f"returned more than {RESPONSE_MAX_BYTES} bytes", hint="set PENSTOCK_SOURCE_BATCH_RECORDS lower"
                )
            if time.monotonic() > deadline_s:
                raise httpx2.ReadTimeout("the response was not complete in time", request=response.request)
    except ABORTED as error:
        details = clean_line(str(error), MESSAGE_MAX_CHARS)
        raise SourceRefused(
            f"aborted the response after {len(body)} bytes: {details}", again=True, wait_s=0.0
        ) from error
    return bytes(body)
