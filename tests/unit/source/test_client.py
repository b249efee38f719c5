import pickle
import time
from collections.abc import Iterator

import httpx2
import msgspec
import pytest
import stamina

from penstock.config import read
from penstock.errors import SourceRefused, SourceUnreachable, UsageError, WrongSettings
from penstock.source import client as client_module
from penstock.source.client import HttpSource
from penstock.source.entries import Unreadable
from penstock.source.hostile import Hostility
from penstock.source.serve import open_listener
from penstock.source.standin import generate_users, load_captured_users, make_app, read_query

GOOD = {"results": [{"n": n} for n in range(10)]}


def listed(batches) -> list:
    return [user for batch in batches for user in batch]


def pages(request: httpx2.Request) -> httpx2.Response:
    """An API whose records are numbers."""
    page, results = int(request.url.params["page"]), int(request.url.params["results"])
    return httpx2.Response(200, json={"results": list(range((page - 1) * results, page * results))})


class Script:
    """An API that returns scripted responses and repeats the last one."""

    def __init__(self, *lines) -> None:
        self.lines = list(lines)
        self.requests: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        line = self.lines[min(len(self.requests), len(self.lines) - 1)]
        self.requests.append(request)
        if isinstance(line, Exception):
            raise line
        return line() if callable(line) else httpx2.Response(200, json=line)


class Stream(httpx2.SyncByteStream):
    """A body of chunks. Exceptions among them are raised."""

    def __init__(self, *chunks) -> None:
        self.chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self.chunks:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk


def streamed(*chunks, **headers):
    return lambda: httpx2.Response(200, stream=Stream(*chunks), headers=headers)


def status(code: int, **kwargs):
    return lambda: httpx2.Response(code, **kwargs)


# pages


@pytest.mark.parametrize(
    ("asked", "sizes"), [(1, [1]), (9, [9]), (10, [10]), (11, [10, 1]), (20, [10, 10]), (25, [10, 10, 5])]
)
def test_exactly_the_requested_records_are_fetched(source_of, asked, sizes):
    """Pages have at most one batch, and together exactly the requested records, without duplicates."""
    batches = list(source_of(pages).fetch(asked, "s"))
    assert [len(batch) for batch in batches] == sizes
    assert listed(batches) == list(range(asked))


def test_every_page_has_the_same_size_and_seed(source_of):
    """`results` and `seed` are the same for every page, and pages count from 1."""
    script = Script(GOOD)
    list(source_of(script).fetch(25, "a seed/&"))
    sent = [dict(request.url.params) for request in script.requests]
    assert sent == [{"results": "10", "page": page, "seed": "a seed/&"} for page in ("1", "2", "3")]


@pytest.mark.parametrize(
    ("given", "pages", "counts"), [(10, ["2", "3"], [10, 5]), (13, ["2", "3"], [7, 5]), (25, [], [])]
)
def test_a_fetch_resumes_after_the_records_it_has(source_of, given, pages, counts):
    """A fetch can resume after any number of records: at a page boundary, within a page, or at the end."""
    script = Script(GOOD)
    answers = list(source_of(script).fetch(25, "s", given))
    assert [request.url.params["page"] for request in script.requests] == pages
    assert [len(answer) for answer in answers] == counts


def test_a_small_request_asks_for_no_more(source_of):
    """Fewer records than a batch are requested with that number."""
    script = Script(GOOD)
    list(source_of(script).fetch(4, "s"))
    assert script.requests[0].url.params["results"] == "4"


def test_query_parameters_of_the_url_are_kept():
    """Query parameters of the URL are kept."""
    script = Script(GOOD)
    source = HttpSource(
        "http://api.test/?nat=gb", timeout_s=5, attempts=1, batch_records=10, transport=httpx2.MockTransport(script)
    )
    list(source.fetch(1, "s"))
    assert dict(script.requests[0].url.params) == {"nat": "gb", "results": "1", "page": "1", "seed": "s"}


def test_the_client_sends_its_user_agent(source_of):
    """The client sends its User-Agent."""
    script = Script(GOOD)
    list(source_of(script).fetch(1, "s"))
    assert script.requests[0].headers["User-Agent"].startswith("penstock/")


def test_a_page_is_requested_only_when_it_is_consumed(source_of):
    """A page is requested only when it is consumed."""
    script = Script(GOOD)
    batches = source_of(script).fetch(30, "s")
    next(batches)
    assert len(script.requests) == 1


@pytest.mark.parametrize(("asked", "seed"), [(0, "s"), (-1, "s"), (5, ""), (100_001, "s")])
def test_invalid_arguments_are_rejected_before_any_request(source_of, asked, seed):
    """No records, no seed, or too many pages are rejected at the call."""
    script = Script(GOOD)
    with pytest.raises(UsageError):
        source_of(script).fetch(asked, seed)
    assert script.requests == []


@pytest.mark.parametrize(
    "url", ["", "randomuser.me/api", "ftp://randomuser.me", "http://", "http://[::1", "http://x:y/"]
)
def test_a_url_that_is_not_http_is_rejected(url):
    """A URL that is not HTTP is an invalid setting."""
    with pytest.raises(WrongSettings, match="PENSTOCK_SOURCE_URL"):
        HttpSource(url, timeout_s=1, attempts=1, batch_records=1)


def test_a_source_can_be_created_from_settings():
    """Optionally with another URL."""
    settings = read(source_url="http://a.test/api/", source_batch_records=7, source_max_wait_s=42)
    assert HttpSource.configured(settings)._address == "http://a.test/api/"
    assert HttpSource.configured(settings)._max_wait_s == 42
    assert HttpSource.configured(settings, "http://b.test/")._address == "http://b.test/"


# hosts


@pytest.mark.parametrize(
    ("hosts", "url"),
    [
        ("", "http://anywhere.test/"),
        ("b.test", "http://b.test:8080/x"),
        (" B.TEST , c.test,", "http://b.test/"),
        ("c.test", ""),
        ("127.0.0.1", "http://127.0.0.1:1/"),
        ("[::1]", "http://[::1]:8000/"),
        ("bücher.test", "http://xn--bcher-kva.test/"),
    ],
)
def test_allowed_hosts_are_requested(hosts, url):
    """Allowed hosts match on any port. The host of PENSTOCK_SOURCE_URL is always allowed."""
    settings = read(source_url="http://a.test/api/", source_hosts=hosts)
    assert HttpSource.configured(settings, url)._address == (url or "http://a.test/api/")


@pytest.mark.parametrize(
    "url", ["http://evil.test/", "http://b.test@evil.test/", "http://b.test.evil.test/", "http://[::1]/"]
)
def test_a_host_that_is_not_allowed_is_rejected(url):
    """A host that is not allowed is rejected before anything is sent, with the setting to change."""
    settings = read(source_url="http://a.test/api/", source_hosts="b.test")
    with pytest.raises(UsageError, match=r"is not allowed \(allowed: a\.test, b\.test\)") as failed:
        HttpSource.configured(settings, url)
    assert failed.value.hint.startswith("add ")
    assert "PENSTOCK_SOURCE_HOSTS" in failed.value.hint


@pytest.mark.parametrize("hosts", ["b.test:8080", "http://b.test", "b.test/x", "u@b.test", "b test", "*"])
def test_a_list_of_hosts_contains_only_host_names(hosts):
    """Other entries are rejected: they would match nothing, or too much."""
    with pytest.raises(WrongSettings, match=r"PENSTOCK_SOURCE_HOSTS: .* is not a host name"):
        HttpSource.configured(read(source_hosts=hosts))


def redirected(to: str, **arguments) -> list[httpx2.URL]:
    """Fetch from a source that redirects once and return the requested URLs."""
    script = Script(status(302, headers={"Location": to}), GOOD)
    url = arguments.pop("url", "http://api.test/api/")
    source = HttpSource(
        url, timeout_s=5, attempts=3, batch_records=10, transport=httpx2.MockTransport(script), **arguments
    )
    list(source.fetch(10, "s"))
    return [request.url for request in script.requests]


WITH_PASSWORD = "http://me:secret@api.test/api/"


@pytest.mark.parametrize(
    "to", ["http://evil.test/", "//evil.test/api/", "https://sub.api.test/", "http://me:secret@evil.test/"]
)
def test_a_password_is_not_sent_to_another_host_by_a_redirect(to):
    """A redirect to another host with credentials fails at once, without showing the password."""
    with pytest.raises(UsageError, match=r"redirects to .*to which user and password are not sent") as failed:
        redirected(to, url=WITH_PASSWORD)
    assert "secret" not in str(failed.value)


def test_a_password_is_not_sent_in_clear_by_a_redirect():
    """Credentials are not sent on a redirect from HTTPS to HTTP."""
    with pytest.raises(UsageError, match=r"redirects to http://api\.test/"):
        redirected("http://api.test/", url="https://me:secret@api.test/")


@pytest.mark.parametrize("to", ["/v2/", "http://api.test/v2/", "https://api.test/"])
def test_a_password_is_sent_by_a_redirect_within_its_host(to):
    """Credentials are sent on a redirect to another path or to HTTPS of the same host."""
    assert len(redirected(to, url=WITH_PASSWORD)) == 2


def test_allowed_hosts_apply_to_redirects():
    """Allowed hosts also apply to redirects."""
    hosts = frozenset({"api.test", "b.test"})
    assert redirected("http://b.test/", hosts=hosts)[1].host == "b.test"
    with pytest.raises(UsageError, match=r"'evil\.test' is not allowed"):
        redirected("http://evil.test/", hosts=hosts)


# retries

AGAIN = {
    "408": status(408),
    "429": status(429, json={"error": "ease up"}),
    "500": status(500),
    "502": status(502, text="<html>"),
    "503": status(503),
    "504": status(504),
    "no connection": httpx2.ConnectError("refused"),
    "no answer": httpx2.ReadTimeout("too late"),
    "connection closed": httpx2.RemoteProtocolError("closed"),
    "cut body": streamed(b'{"results": [', httpx2.RemoteProtocolError("peer closed connection")),
    "connection lost": streamed(b'{"results": [', httpx2.ReadError("reset")),
    "broken encoding": streamed(b"not gzip", **{"Content-Encoding": "gzip"}),
    "truncated JSON": streamed(b'{"results": [{"n": 1}'),
    "not an object": [1, 2],
    "no results": {"info": {}},
    "results not a list": {"results": {"n": 1}},
    "fewer than asked": {"results": GOOD["results"][:9]},
    "error with status 200": {"error": "Uh oh"},
}


@pytest.mark.parametrize("trouble", AGAIN.values(), ids=AGAIN)
def test_transient_failures_are_retried(source_of, trouble):
    """Transient failures are retried with the same parameters until a valid response."""
    script = Script(trouble, trouble, GOOD)
    assert listed(source_of(script).fetch(10, "s")) == GOOD["results"]
    assert len(script.requests) == 3
    assert len({str(request.url) for request in script.requests}) == 1


UNREACHABLE = {"no connection", "no answer", "connection closed"}


@pytest.mark.parametrize("name", [name for name in AGAIN if name not in UNREACHABLE])
def test_invalid_responses_fail_after_the_last_attempt(source_of, name):
    """An API with only invalid responses fails after the last attempt: exit 1."""
    script = Script(AGAIN[name])
    with pytest.raises(SourceRefused) as caught:
        list(source_of(script).fetch(10, "s"))
    assert len(script.requests) == 3
    assert caught.value.exit_code == 1
    assert caught.value.message.startswith("http://api.test/api/ ")


@pytest.mark.parametrize("name", sorted(UNREACHABLE))
def test_unreachable_after_the_last_attempt(source_of, name):
    """An API without responses is unreachable: exit 3, and the hint names the setting."""
    script = Script(AGAIN[name])
    with pytest.raises(SourceUnreachable, match="PENSTOCK_SOURCE_URL") as caught:
        list(source_of(script).fetch(10, "s"))
    assert len(script.requests) == 3
    assert caught.value.exit_code == 3


def test_a_closed_port_is_unreachable(unused_port):
    """A closed port is unreachable."""
    source = HttpSource(f"http://127.0.0.1:{unused_port}/", timeout_s=5, attempts=2, batch_records=1)
    with pytest.raises(SourceUnreachable):
        list(source.fetch(1, "s"))


@pytest.fixture
def unused_port():
    with open_listener(0) as listener:
        port = listener.getsockname()[1]
    return port


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410])
def test_other_client_errors_are_not_retried(source_of, code):
    """The message quotes the API."""
    script = Script(status(code, json={"error": "no such thing"}))
    with pytest.raises(SourceRefused, match="no such thing") as caught:
        list(source_of(script).fetch(10, "s"))
    assert len(script.requests) == 1
    assert caught.value.status == code


def test_the_apis_error_is_reported_after_the_last_attempt(source_of):
    """The error in a response with status 200 is reported after the last attempt."""
    with pytest.raises(SourceRefused, match="Uh oh, something has gone wrong"):
        list(source_of(Script({"error": "Uh oh, something has gone wrong."})).fetch(10, "s"))


def test_endless_redirects_fail(source_of):
    """Endless redirects fail."""
    script = Script(status(302, headers={"Location": "/api/"}))
    with pytest.raises(SourceRefused, match="redirect"):
        list(source_of(script).fetch(1, "s"))


def test_redirects_are_followed(source_of):
    """Redirects are followed."""
    script = Script(status(301, headers={"Location": "http://new.test/api/"}), GOOD)
    assert len(listed(source_of(script).fetch(10, "s"))) == 10


def test_a_response_that_is_too_large_is_aborted(source_of, monkeypatch):
    """A response over the size limit is aborted at once. The message names the setting to lower."""
    monkeypatch.setattr(client_module, "RESPONSE_MAX_BYTES", 1000)
    unread = AssertionError("read on")
    script = Script(streamed(b"x" * 600, b"x" * 600, unread))
    with pytest.raises(SourceRefused, match="PENSTOCK_SOURCE_BATCH_RECORDS"):
        list(source_of(script).fetch(10, "s"))
    assert len(script.requests) == 1


def test_a_slow_response_times_out(source_of, monkeypatch):
    """A response that is still arriving after the timeout counts as a timeout."""
    clock_s = iter(range(0, 10_000, 3))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock_s))
    with pytest.raises(SourceUnreachable, match="not complete in time"):
        list(source_of(Script(streamed(b"{", b" ", b" ", b" ")), attempts=1).fetch(10, "s"))


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """Record the waits between attempts instead of sleeping."""
    recorded: list[float] = []
    monkeypatch.setattr(time, "sleep", recorded.append)
    with stamina.set_testing(False):
        yield recorded


def test_waits_grow_without_retry_after(source_of, waits):
    """Without Retry-After the waits grow with backoff and jitter."""
    with pytest.raises(SourceRefused):
        list(source_of(Script(status(503)), attempts=6).fetch(10, "s"))
    assert len(waits) == 5
    assert all(0.2 * 2**n <= wait_s <= 0.2 * 2**n + 0.5 for n, wait_s in enumerate(waits))
    assert len(set(waits)) == 5


@pytest.mark.parametrize("code", [429, 503])
def test_retry_after_is_respected(source_of, waits, code):
    """The wait is the API's Retry-After plus jitter."""
    script = Script(status(code, headers={"Retry-After": "5"}), GOOD)
    list(source_of(script).fetch(10, "s"))
    assert 5 <= waits[0] <= 5.5


def test_retry_after_is_bounded(source_of, waits):
    """A Retry-After over the longest configured wait is shortened to it."""
    script = Script(status(429, headers={"Retry-After": "3600"}), GOOD)
    list(source_of(script, max_wait_s=90).fetch(10, "s"))
    assert 90 <= waits[0] <= 90.5


def test_the_waits_for_one_response_are_bounded_in_total(source_of, waits):
    """Repeated waits add up to at most the longest configured wait. The hint names the setting."""
    script = Script(status(429, headers={"Retry-After": "40"}))
    with pytest.raises(SourceRefused, match="PENSTOCK_SOURCE_MAX_WAIT_S") as caught:
        list(source_of(script, attempts=50, max_wait_s=100).fetch(10, "s"))
    assert [round(wait_s // 10) for wait_s in waits] == [4, 4, 2]
    assert len(script.requests) == 4
    assert caught.value.status == 429


def test_without_an_allowed_wait_retry_after_is_an_error(source_of, waits):
    """With a longest wait of 0, a response with Retry-After is not retried."""
    script = Script(status(429, headers={"Retry-After": "1"}))
    with pytest.raises(SourceRefused):
        list(source_of(script, max_wait_s=0).fetch(10, "s"))
    assert (waits, len(script.requests)) == ([], 1)


def test_a_403_with_a_rate_limit_is_retried(source_of, waits):
    """A 403 with an exhausted rate limit, as GitHub sends it, is retried after its reset."""
    reset = str(int(time.time()) + 20)
    limit = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset}
    script = Script(status(403, headers=limit, json={"message": "API rate limit exceeded"}), GOOD)
    assert listed(source_of(script).fetch(10, "s")) == GOOD["results"]
    assert 18 <= waits[0] <= 20.5


def test_a_page_with_a_bad_entry_is_returned(source_of):
    """A page with an invalid entry is not retried: the entry is unreadable, in its place."""
    body = b'\xef\xbb\xbf{"error": null, "results": [1, NaN, 3]}'
    script = Script(streamed(body))
    assert listed(source_of(script).fetch(3, "s")) == [1, Unreadable(b"NaN", "NaN is not a JSON number"), 3]
    assert len(script.requests) == 1


def test_errors_can_be_pickled(source_of):
    """A source error can be pickled with its facts."""
    with pytest.raises(SourceRefused) as caught:
        list(source_of(Script(status(503, headers={"Retry-After": "5"}))).fetch(10, "s"))
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.wait_s) == (str(caught.value), 5)


def test_passwords_do_not_appear_in_messages():
    """A password in the URL does not appear in messages."""
    script = httpx2.MockTransport(Script(status(503)))
    source = HttpSource("http://me:secret@api.test/", timeout_s=5, attempts=1, batch_records=1, transport=script)
    with pytest.raises(SourceRefused) as caught:
        list(source.fetch(1, "s"))
    assert "secret" not in str(caught.value)


def test_loopback_is_never_proxied(monkeypatch, served, captured_file):
    """Proxies of the environment are not used for loopback, where the stand-in runs."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    url = served(make_app(load_captured_users(captured_file)))
    assert len(listed(HttpSource(url, timeout_s=5, attempts=1, batch_records=10).fetch(10, "s"))) == 10


# with the stand-in


def test_the_same_seed_returns_the_same_users(served):
    """Another seed returns others, and no user twice."""
    source = HttpSource(served(make_app()), timeout_s=20, attempts=1, batch_records=20)
    users = listed(source.fetch(50, "first"))
    assert listed(source.fetch(50, "first")) == users
    assert len({user["login"]["uuid"] for user in [*users, *listed(source.fetch(50, "two"))]}) == 100


def test_a_captured_response_is_fetched_unchanged(served, captured_file):
    """In pages of any size."""
    captured = msgspec.json.decode(captured_file.read_bytes())["results"]
    url = served(make_app(load_captured_users(captured_file)))
    for batch_records in (7, 30, 500):
        source = HttpSource(url, timeout_s=20, attempts=1, batch_records=batch_records)
        assert listed(source.fetch(30, "s")) == captured


def test_a_hostile_stand_in_loses_no_users(served):
    """With faults in half of all responses, exactly the requested users are fetched, including damaged ones."""
    hostility = Hostility(rate=0.5, seed="t", slow_s=0.001)
    source = HttpSource(served(make_app(hostility=hostility)), timeout_s=20, attempts=50, batch_records=10)
    calm = generate_users(read_query({"results": "200", "seed": "s"}))
    expected = [hostility.damage_user(user, f"s:{place}") for place, user in enumerate(calm)]
    assert listed(source.fetch(200, "s")) == expected
    assert expected != calm
