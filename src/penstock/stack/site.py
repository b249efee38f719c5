"""What a service needs to know about this machine and this home."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from penstock.config import Settings
from penstock.stack import credentials, java
from penstock.stack.java import Java
from penstock.stack.layout import REPOSITORY, Layout, of


@dataclass(frozen=True)
class Site:
    """One home on one machine: settings, folders, Java, Python, secrets."""

    settings: Settings
    layout: Layout
    java: Java
    java21: Java
    secrets: Mapping[str, str] = field(repr=False)
    python: str = sys.executable
    repository: Path = REPOSITORY

    def child_environment(self) -> dict[str, str]:
        """The settings as a child sees them: the source is the stand-in unless another was set. Holds secrets."""
        environment = {**self.settings.environment(), "PYTHONUNBUFFERED": "1"}
        if "source_url" not in self.settings.model_fields_set:
            environment["PENSTOCK_SOURCE_URL"] = f"http://127.0.0.1:{self.settings.source_port}/api/"
        return environment


def read(settings: Settings) -> Site:
    """The site of the settings in force; makes the home's secrets when there are none yet."""
    layout = of(settings)
    found = java.choose(os.environ)
    newer = found if found.major == 21 else java.choose({}, (21,))
    return Site(settings, layout, found, newer, credentials.load(layout))
