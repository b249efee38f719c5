"""Every unit test runs without the settings, the caches and the log configuration of any other."""

import functools
import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import msgspec
import pytest
import structlog

from penstock import config
from tests.unit.fakes import Clock

CAPTURED = Path(__file__).parents[1] / "data" / "randomuser-1.4.json"

hypothesis.settings.register_profile("penstock", deadline=None, max_examples=50, print_blob=True)
hypothesis.settings.register_profile("quick", hypothesis.settings.get_profile("penstock"), max_examples=16)
hypothesis.settings.load_profile("penstock")

structlog.dev.ConsoleRenderer.get_active().exception_formatter = structlog.dev.plain_traceback
"""As in production. The default lays out and colours the source and the variables of each frame."""

gc.disable()


def pytest_collection_finish() -> None:
    """Exclude modules and tests, which live as long as the process, from garbage collection."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith(config.PREFIX)]:
        monkeypatch.delenv(name)
    config.load.cache_clear()
    yield
    config.load.cache_clear()
    structlog.reset_defaults()


@functools.cache
def _read_defaults() -> config.Settings:
    return config.read(home=Path("unused"))


@pytest.fixture
def settings(tmp_path: Path) -> config.Settings:
    """The defaults, read once, in a folder that no stack uses."""
    return _read_defaults().model_copy(update={"home": tmp_path / "home"})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Stands for time.monotonic and time.sleep."""
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock.monotonic)
    monkeypatch.setattr("time.sleep", clock.sleep)
    return clock


@pytest.fixture(scope="session")
def captured_users() -> list[dict[str, Any]]:
    """The users of a real response of the API, which must not be changed: `changed` returns a copy."""
    return msgspec.json.decode(CAPTURED.read_bytes())["results"]


@pytest.fixture
def entry(captured_users: list[dict[str, Any]]) -> dict[str, Any]:
    """A copy of one user of the API, to be changed."""
    return msgspec.json.decode(msgspec.json.encode(captured_users[0]))


@pytest.fixture
def changed(captured_users: list[dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Return a factory of copies of an API user in which the field at a dotted path is changed, or removed."""

    def change(path: str, *value: Any) -> dict[str, Any]:
        user = msgspec.json.decode(msgspec.json.encode(captured_users[0]))
        *parents, last = path.split(".")
        place = user
        for name in parents:
            place = place[name]
        del place[last]
        if value:
            place[last] = value[0]
        return user

    return change
