"""What is posted, in which order, how often, and what is never exposed."""

from pathlib import Path
from typing import Any

import httpx2
import pytest
import stamina
import structlog

from penstock import config
from penstock.errors import Unreachable, WrongSettings
from penstock.monitoring import webhook
from penstock.monitoring.alerts import AlertChange
from penstock.monitoring.webhook import Webhook, build_payload, build_poster
from tests.unit.monitoring.test_history import change

SECRET = "https://hooks.example.com/services/T000/very-secret"


class FakePost:
    """A webhook that is unavailable at times; it records what it accepted."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.tried = 0
        self.away = False

    def __call__(self, body: dict[str, Any]) -> None:
        self.tried += 1
        if self.away:
            raise Unreachable("the webhook responded with HTTP 503")
        self.taken.append(body["number"])


@pytest.fixture
def post() -> FakePost:
    return FakePost()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "data" / "alerts.webhook"


def delivered(hook: Webhook, changes: list[AlertChange]) -> None:
    """Send, and wait until the delivery has ended."""
    with stamina.set_testing(True, attempts=3, cap=True):
        hook.send(changes)
        if hook._delivery:
            hook._delivery.result(20)


def test_the_payload_is_the_change_and_a_text(post: FakePost) -> None:
    """Programs read the keys, chat services show the text."""
    body = build_payload(change(1))
    assert (body["name"], body["subject"], body["change"], body["number"]) == ("service_down", "kafka", "firing", 1)
    assert body["text"] == "firing: service_down kafka: refused (./penstock status)"


def test_changes_are_posted_once_and_in_order(post: FakePost, place: Path) -> None:
    """What was accepted is not posted again, by this process or the next one."""
    hook = Webhook(post, place, [])
    delivered(hook, [change(1), change(2)])
    delivered(hook, [change(3)])
    hook.close()
    after = Webhook(post, place, [change(1), change(2), change(3)])
    delivered(after, [])
    after.close()
    assert post.taken == [1, 2, 3]


def test_an_unavailable_webhook_gets_everything_later(post: FakePost, place: Path) -> None:
    """Three attempts per round, for the first change only; once it is back all are posted in order."""
    hook, post.away = Webhook(post, place, []), True
    delivered(hook, [change(1)])
    delivered(hook, [change(2)])
    assert (post.taken, post.tried) == ([], 6)
    post.away = False
    delivered(hook, [])
    hook.close()
    assert post.taken == [1, 2]


def test_a_restart_posts_what_was_not_accepted(post: FakePost, place: Path) -> None:
    """The history has it; changes from before the webhook was configured are not posted."""
    post.away = True
    hook = Webhook(post, place, [change(1)])
    delivered(hook, [change(2)])
    hook.close()
    post.away = False
    after = Webhook(post, place, [change(1), change(2)])
    delivered(after, [change(3)])
    after.close()
    assert post.taken == [2, 3]


def test_an_unavailable_webhook_is_logged_once(post: FakePost, place: Path) -> None:
    """The log stays readable if a webhook is unavailable for a day."""
    hook, post.away = Webhook(post, place, []), True
    with structlog.testing.capture_logs() as logs:
        delivered(hook, [change(1)])
        delivered(hook, [])
        post.away = False
        delivered(hook, [])
    hook.close()
    assert [log["event"] for log in logs if "webhook" in log["event"]] == ["webhook_unavailable", "webhook_recovered"]


@pytest.mark.parametrize(
    "answer",
    [
        httpx2.ConnectError(f"no route to {SECRET}"),
        httpx2.ReadTimeout(SECRET),
        httpx2.Response(404),
        httpx2.Response(503),
    ],
    ids=repr,
)
def test_the_address_is_never_exposed(
    answer: Any, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever fails, neither log, output nor error contains the webhook's address."""

    def handle(request: httpx2.Request) -> httpx2.Response:
        assert str(request.url) == SECRET
        if isinstance(answer, Exception):
            raise answer
        return answer

    client = httpx2.Client(transport=httpx2.MockTransport(handle))
    monkeypatch.setattr(webhook.httpx2, "Client", lambda **_: client)
    hook = Webhook(build_poster(config.read(alert_webhook_url=SECRET)), place, [])
    with structlog.testing.capture_logs() as logs:
        delivered(hook, [change(1)])
    hook.close()
    output = "".join([str(logs), *capsys.readouterr(), place.read_text()])
    assert "webhook_unavailable" in output
    assert "very-secret" not in output


def test_an_invalid_address_is_a_usage_error() -> None:
    """It is reported at startup, without the configured value."""
    with pytest.raises(WrongSettings, match="PENSTOCK_ALERT_WEBHOOK_URL") as caught:
        config.read(alert_webhook_url="hooks.example.com/very-secret")
    assert "very-secret" not in str(caught.value)


def test_the_address_is_hidden_in_settings() -> None:
    """`./penstock config` prints settings."""
    assert SECRET not in str(dict(config.read(alert_webhook_url=SECRET)))
