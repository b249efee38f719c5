"""Partitions added to a topic under load: keys move to new partitions, whose offsets start at 0."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import msgspec

from penstock.broker import topics
from penstock.drill import load, record_checks
from penstock.drill.plan import Drill, LogEvidence
from penstock.drill.target import Target
from penstock.retry import wait_until

NAME = "add-partitions"
UPDATES = 400
MORE = 2
_STORED_S = 120.0


@contextmanager
def add_partitions(target: Target) -> Iterator[None]:
    """Add partitions between two versions of the same users, once the first version is stored.

    Two thirds of the users move, to smaller offsets than before. A job that ordered by offset alone would keep their
    first version, and the second would be counted as missing.
    """
    direct = load.Direct(target, NAME)
    users = list(islice(direct.users, UPDATES))
    delivered = direct.send_at((user, 0) for user in users)
    stored = load.ranges_of(delivered)
    wait_until(
        lambda: record_checks.check_stored(target.settings, stored), timeout_s=_STORED_S, what="the first version"
    )
    partitions = topics.add_partitions(target.settings, target.pipeline.topic, MORE)
    target.say(f"{target.pipeline.topic} has {partitions} partitions")
    changed = (msgspec.structs.replace(user, nationality="XX") for user in users)
    load.Direct(target, NAME).send_at((user, 0) for user in changed)
    yield


DRILLS = (
    Drill(
        NAME,
        f"the topic gets {MORE} more partitions between two versions of the same users, permanently",
        add_partitions,
        evidence=(LogEvidence("spark-job.log", r"layout_found"),),
    ),
)
