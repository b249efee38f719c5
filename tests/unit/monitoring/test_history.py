"""The file of alert changes."""

from pathlib import Path

import msgspec
import pytest

from penstock import config
from penstock.config import Settings
from penstock.monitoring.alerts import AlertChange
from penstock.monitoring.history import History


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return config.read(home=tmp_path)


def change(number: int, what: str = "firing", subject: str = "kafka") -> AlertChange:
    return AlertChange(
        "service_down",
        "critical",
        subject,
        "refused",
        "./penstock status",
        number=number,
        at="2025-01-01T00:00:00.000+00:00",
        change=what,  # type: ignore[arg-type]
        since="2025-01-01T00:00:00.000+00:00",
    )


def test_without_a_file_nothing_is_active(settings: Settings) -> None:
    """Reading creates no file, and neither does writing nothing."""
    history = History(settings)
    history.append([])
    assert (history.read(), history.open(), history.path.exists()) == ([], [], False)


def test_a_written_change_is_read_by_the_next_process(settings: Settings) -> None:
    """One line per change, with stable keys; an open alert fired last and was not resolved."""
    changes = [change(1), change(2, subject="cassandra"), change(3, "resolved"), change(4, subject="registry")]
    for item in changes:
        History(settings).append([item])
    lines = History(settings).path.read_bytes().splitlines()
    assert [set(msgspec.json.decode(line)) for line in lines] == [
        {"name", "severity", "subject", "message", "command", "number", "at", "change", "since"}
        | {"format", "penstock"}
    ] * 4
    assert History(settings).read() == changes
    assert [alert.subject for alert in History(settings).open()] == ["cassandra", "registry"]


def test_a_truncated_line_is_skipped(settings: Settings) -> None:
    """A killed writer leaves half a line: it affects neither what is before nor what comes after."""
    history = History(settings)
    history.append([change(1)])
    with history.path.open("ab") as file:
        file.write(b'{"name": "service_d')
    history.append([change(2, subject="cassandra")])
    assert [item.number for item in history.read()] == [1, 2]


def test_the_files_are_bounded_and_no_open_alert_is_lost(settings: Settings) -> None:
    """However often others come and go, an active alert is known, and changes are read once."""
    history = History(settings, max_bytes=2000)
    history.append([change(1, subject="fires-all-along")])
    for number in range(2, 200):
        history.append([change(number, "resolved" if number % 2 else "firing")])
    assert "fires-all-along" in [alert.subject for alert in history.open()]
    files = list(history.path.parent.iterdir())
    assert len(files) == 2
    assert sum(file.stat().st_size for file in files) <= 4000
    numbers = [item.number for item in history.read()]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 199
