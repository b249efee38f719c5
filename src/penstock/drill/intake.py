"""Input faults: the producer's clock, the API."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import msgspec

from penstock import __name__ as package
from penstock.config import LOOPBACK
from penstock.drill import load
from penstock.drill.plan import Drill, LogEvidence
from penstock.drill.target import Target, find_free_port
from penstock.retry import wait_until
from penstock.stack import probes

DAY_S = 86_400
UPDATES = 200
HOSTILE = 0.1
_START_S = 60.0


@contextmanager
def set_clock_back(_target: Target) -> Iterator[dict[str, Any]]:
    """Set the run's clock back by one day."""
    yield {"clock_offset_s": -DAY_S}


@contextmanager
def send_older_updates(target: Target) -> Iterator[None]:
    """Send users, then send changed versions of them with timestamps a day older.

    The second version is newer by Kafka's order. If the first one won, the second would be counted as missing.
    """
    direct, now_ms = load.Direct(target, "clock-back"), load.now_ms()
    users = list(islice(direct.users, UPDATES))
    changed = [msgspec.structs.replace(user, nationality="XX") for user in users]
    direct.send_at([(user, now_ms) for user in users])
    direct.send_at([(user, now_ms - DAY_S * 1000) for user in changed])
    yield


@contextmanager
def run_hostile_source(target: Target) -> Iterator[dict[str, Any]]:
    """Run a stand-in API for the drill in which one in ten responses and users is invalid."""
    port = find_free_port()
    seed = str(random.randrange(10**6))  # noqa: S311 - reported, so that the faults can be reproduced
    command = [sys.executable, "-m", f"{package}.cli", "source", "serve", "--port", str(port)]
    target.say(f"a hostile source, seed {seed}")
    with target.layout.log("drill-source").open("ab") as output:
        source = subprocess.Popen(
            [*command, "--hostile", str(HOSTILE), "--seed", seed], env=os.environ, stdout=output, stderr=output
        )
    try:
        address = f"http://{LOOPBACK}:{port}/api/"
        wait_until(lambda: probes.probe_url(address), timeout_s=_START_S, what="the hostile source")
        yield {"source_url": address}
    finally:
        source.terminate()
        source.wait(_START_S)


DRILLS = (
    Drill(
        "clock-back",
        "the producer's clock is one day back; updates with older times still win by Kafka's order",
        send_older_updates,
        parameters=set_clock_back,
    ),
    Drill(
        "hostile-source",
        "10 % of the API's responses and users are invalid",
        parameters=run_hostile_source,
        evidence=(LogEvidence("airflow/**/*.log", "record_rejected"),),
        rejects=True,
    ),
)
