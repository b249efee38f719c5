"""A topic that is given more partitions while records are under way: keys move to where offsets begin at 0."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import msgspec

from penstock.broker import topics
from penstock.drill import load, proof
from penstock.drill.ground import Ground
from penstock.drill.plan import Drill, Evidence
from penstock.retry import wait_until

NAME = "add-partitions"
UPDATES = 400
MORE = 2
_STORED_S = 120.0


@contextmanager
def added_partitions(ground: Ground) -> Iterator[None]:
    """Add partitions between two versions of the same users; the first version is stored by then.

    Two thirds of the users move, to smaller offsets than before: a job that ordered by offsets alone would keep the
    first version of these, and the second would be missing.
    """
    direct = load.Direct(ground, NAME)
    users = list(islice(direct.users, UPDATES))
    sent = direct.send_at((user, 0) for user in users)
    stored = load.spans_of(sent)
    wait_until(lambda: proof.check_stored(ground.settings, stored), timeout_s=_STORED_S, what="the first version")
    partitions = topics.add_partitions(ground.settings, ground.pipeline.topic, MORE)
    ground.say(f"{ground.pipeline.topic} has {partitions} partitions")
    changed = (msgspec.structs.replace(user, nationality="XX") for user in users)
    load.Direct(ground, NAME).send_at((user, 0) for user in changed)
    yield


DRILLS = (
    Drill(
        NAME,
        f"the topic gets {MORE} more partitions between two versions of the same users, and keeps them",
        added_partitions,
        evidence=(Evidence("spark-job.log", r"layout_found"),),
    ),
)
