"""The watch, which looks for alerts all the time."""

import time

from penstock import __name__ as package
from penstock.config import Settings
from penstock.errors import Unreachable
from penstock.stack.service import Service
from penstock.stack.site import Site

_SLACK_S = 1.0


def services(site: Site) -> list[Service]:
    """The watch. It needs no other service: one that is away is what it is there for."""
    return [
        Service(
            name="watch",
            title="Watch for alerts",
            version="-",
            command=(site.python, "-m", f"{package}.cli", "watch"),
            env={**site.child_environment(), "MALLOC_ARENA_MAX": "2"},
            directory=site.repository,
            probe=looks,
            memory_mib=65,
            hint="./penstock logs watch",
        )
    ]


def looks(settings: Settings, started_s: float) -> None:
    """The watch has looked since it was started, and lately."""
    try:
        beat_s = settings.watch_beat.stat().st_mtime
    except FileNotFoundError:
        raise Unreachable("the watch has not looked yet") from None
    if beat_s < started_s - _SLACK_S:
        raise Unreachable("the watch has not looked since it was started")
    if time.time() - beat_s > settings.watch_beat_s:
        raise Unreachable(f"the watch has not looked for {time.time() - beat_s:.0f} s")
