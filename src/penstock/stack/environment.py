"""Environment of the services: this machine and one data directory."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from penstock.config import Settings
from penstock.stack import credentials, java
from penstock.stack.java import Java
from penstock.stack.layout import REPOSITORY, Layout, resolve_layout


@dataclass(frozen=True)
class StackEnvironment:
    """Settings, paths, Java, Python and secrets of one data directory on this machine."""

    settings: Settings
    layout: Layout
    java: Java
    java21: Java
    secrets: Mapping[str, str] = field(repr=False)
    python: str = sys.executable
    repository: Path = REPOSITORY

    def child_env(self) -> dict[str, str]:
        """Return the settings as environment variables for a child process. Contains secrets.

        The source is the stand-in API unless PENSTOCK_SOURCE_URL is set.
        """
        environment = {**self.settings.environment(), "PYTHONUNBUFFERED": "1"}
        if "source_url" not in self.settings.model_fields_set:
            environment["PENSTOCK_SOURCE_URL"] = f"http://127.0.0.1:{self.settings.source_port}/api/"
        return environment


def read_environment(settings: Settings) -> StackEnvironment:
    """Return the environment for the settings. Generates secrets that do not exist yet."""
    layout = resolve_layout(settings)
    default = java.choose_java(os.environ)
    java21 = default if default.major == 21 else java.choose_java({}, (21,))
    return StackEnvironment(settings, layout, default, java21, credentials.load_secrets(layout))
