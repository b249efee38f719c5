"""The watch, which polls for alerts."""

import time

from penstock import __name__ as package
from penstock import remedies
from penstock.config import Settings
from penstock.errors import Unreachable
from penstock.stack.environment import StackEnvironment
from penstock.stack.service import Service

_SLACK_S = 1.0


def build_services(environment: StackEnvironment) -> list[Service]:
    """Return the watch. It needs no other service, because it reports unavailable ones."""
    return [
        Service(
            name="watch",
            title="Alert watcher",
            version="-",
            command=(environment.python, "-m", f"{package}.cli", "watch"),
            env={**environment.child_env(), "MALLOC_ARENA_MAX": "2"},
            directory=environment.repository,
            probe=probe_watch,
            memory_mib=65,
            hint=remedies.show_logs("watch"),
        )
    ]


def probe_watch(settings: Settings, started_s: float) -> None:
    """Check that the watch has polled since its start, and recently."""
    try:
        heartbeat_s = settings.watch_beat.stat().st_mtime
    except FileNotFoundError:
        raise Unreachable("the watch has not polled yet") from None
    if heartbeat_s < started_s - _SLACK_S:
        raise Unreachable("the watch has not polled since its start")
    if time.time() - heartbeat_s > settings.watch_beat_s:
        raise Unreachable(f"the watch has not polled for {time.time() - heartbeat_s:.0f} s")
