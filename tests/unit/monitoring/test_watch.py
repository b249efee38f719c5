"""The loop: what it reports, to whom, and that nothing stops it."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog

from penstock import config
from penstock.config import Settings
from penstock.errors import PenstockError, Unreachable
from penstock.monitoring import watch, webhook
from penstock.monitoring.alerts import AlertChange
from penstock.monitoring.history import History
from penstock.monitoring.snapshot import Snapshot
from penstock.monitoring.watch import Watch

FINE = Snapshot(at_s=1_000_000.0, topic="users_created", services={"kafka": ""})
DOWN = replace(FINE, services={"kafka": "refused"})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return config.read(home=tmp_path / "home", alert_down_s=0, watch_s=1)


class Pipeline:
    """Return one snapshot after another, the last one repeatedly."""

    def __init__(self, *moments: Snapshot) -> None:
        self._moments = list(moments)

    def __call__(self) -> Snapshot:
        return self._moments.pop(0) if len(self._moments) > 1 else self._moments[0]


@pytest.fixture
def watching(settings: Settings) -> Iterator[Callable[..., Watch]]:
    made: list[Watch] = []

    def make(*moments: Snapshot, tell: Any = lambda _: None, settings: Settings = settings) -> Watch:
        made.append(Watch(settings, Pipeline(*moments), tell))
        return made[-1]

    yield make
    for item in made:
        item.close()


def test_each_change_is_reported_once_to_all(settings: Settings, watching: Any) -> None:
    """Log, file and listeners get an alert when it fires and when it is resolved, and not in between."""
    heard: list[AlertChange] = []
    watcher = watching(FINE, DOWN, DOWN, DOWN, FINE, FINE, tell=heard.append)
    with structlog.testing.capture_logs() as logs:
        for _ in range(6):
            watcher.round()
    assert [(change.change, change.subject) for change in heard] == [("firing", "kafka"), ("resolved", "kafka")]
    assert History(settings).read() == heard
    assert [(log["event"], log["log_level"]) for log in logs] == [
        ("alert_firing", "warning"),
        ("alert_resolved", "info"),
    ]
    assert logs[0]["command"] == "./penstock status kafka"


def test_a_restart_reports_nothing_again(settings: Settings, watching: Any) -> None:
    """Active alerts are read back; their resolution is reported, with the next number."""
    watching(DOWN).round()
    assert watching(DOWN).round() == []
    (change,) = watching(FINE).round()
    assert (change.change, change.number) == ("resolved", 2)
    assert History(settings).open() == []


def test_each_round_writes_a_heartbeat(settings: Settings, watching: Any) -> None:
    """The file's age shows whether the loop is running."""
    watcher = watching(FINE)
    watcher.round()
    os.utime(settings.watch_beat, (1, 1))
    watcher.round()
    assert time.time() - settings.watch_beat.stat().st_mtime < 60


def test_a_full_disk_stops_nothing(settings: Settings, watching: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be written is written once there is space again."""
    watcher = watching(DOWN, DOWN, FINE)
    append = History.append

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(History, "append", full)
    with structlog.testing.capture_logs() as logs:
        watcher.round()
        watcher.round()
    assert "alert_history_write_failed" in {log["event"] for log in logs}
    monkeypatch.setattr(History, "append", append)
    watcher.round()
    assert [change.change for change in History(settings).read()] == ["firing", "resolved"]


def test_the_loop_ends_on_request(settings: Settings, watching: Any) -> None:
    """It polls until then, and does not wait for the next round to end."""
    stop, rounds = threading.Event(), []
    slow = settings.model_copy(update={"watch_s": 1000.0})

    def stop_at_first(change: AlertChange) -> None:
        rounds.append(change)
        stop.set()

    watching(DOWN, tell=stop_at_first, settings=slow).run(stop)
    assert len(rounds) == 1


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The requests that a webhook received; it never responds to number 0."""
    taken: list[int] = []
    monkeypatch.setattr(webhook, "build_poster", lambda _: lambda body: taken.append(body["number"]))
    return taken


def test_changes_are_posted_if_a_webhook_is_configured(settings: Settings, watching: Any, hook: list[int]) -> None:
    """Without one nothing is posted; one that is configured later does not get old changes."""
    watcher = watching(DOWN)
    watcher.round()
    watcher.close()
    with_hook = settings.model_copy(update={"alert_webhook_url": config.SecretStr("http://hook")})
    watcher = watching(FINE, settings=with_hook)
    watcher.round()
    assert watcher._webhook
    assert watcher._webhook._delivery
    watcher._webhook._delivery.result(20)
    assert hook == [2]


def test_an_unresponsive_webhook_delays_nothing(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds continue while a post waits for its response."""
    release, posts = threading.Event(), []

    def hangs(body: dict[str, Any]) -> None:
        posts.append(body["number"])
        if not release.wait(30):
            raise Unreachable("never")

    monkeypatch.setattr(webhook, "build_poster", lambda _: hangs)
    with_hook = settings.model_copy(update={"alert_webhook_url": config.SecretStr("http://hook")})
    watcher = Watch(with_hook, Pipeline(DOWN, FINE, DOWN))
    try:
        assert [len(watcher.round()) for _ in range(3)] == [1, 1, 1]
        assert len(posts) <= 1
    finally:
        release.set()
        watcher.close()


def test_a_single_poll_waits_for_nothing_and_writes_nothing(tmp_path: Path) -> None:
    """Current problems are reported however short they are; the data directory is unchanged."""
    patient = config.read(home=tmp_path / "home", alert_down_s=1000)
    assert [alert.subject for alert in watch.find_alerts(patient, DOWN)] == ["kafka"]
    assert watch.find_alerts(patient, FINE) == []
    assert not patient.home.exists()


def test_a_single_poll_knows_the_active_alerts(settings: Settings, watching: Any) -> None:
    """An alert that cannot be evaluated is still active; one that is over is not."""
    lagging = replace(FINE, lag_records=10**6)
    watching(lagging, replace(lagging, at_s=FINE.at_s + 1000)).round()
    watcher = watching(lagging, replace(lagging, at_s=FINE.at_s + 1000))
    watcher.round()
    watcher.round()
    assert [change.name for change in watch.find_alerts(settings, FINE)] == ["lag"]
    assert watch.find_alerts(settings, replace(FINE, lag_records=0)) == []


def test_a_second_watcher_of_one_data_directory_is_rejected(settings: Settings) -> None:
    """With what to do; once the first has ended it may start."""
    with (
        watch.lock_watcher(settings),
        pytest.raises(PenstockError, match="another alert watcher is running") as caught,
        watch.lock_watcher(settings),
    ):
        pass
    assert "./penstock alerts" in caught.value.hint
    with watch.lock_watcher(settings):
        pass
