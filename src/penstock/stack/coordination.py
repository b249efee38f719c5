"""Who coordinates the Kafka that runs. The two ways keep their data apart, so they cannot be swapped under it."""

from dataclasses import replace

from penstock.errors import WrongUse
from penstock.stack.layout import write
from penstock.stack.site import Site
from penstock.stack.supervise import Supervisor


def adopt(here: Site) -> Site:
    """The site as Kafka runs there now; as its settings say when Kafka does not run."""
    live = _live(here)
    if live in {"", here.settings.coordination}:
        return here
    return replace(here, settings=here.settings.model_copy(update={"coordination": live}))


def settle(here: Site) -> Site:
    """As `adopt`, and from now on that is how Kafka runs. Raises `WrongUse` when it runs otherwise than was asked."""
    live, asked = _live(here), here.settings.coordination
    if live and live != asked and "coordination" in here.settings.model_fields_set:
        raise WrongUse(
            f"Kafka runs with {live}, not with {asked}",
            hint=f"./penstock down && ./penstock up --coordination {asked}",
        )
    settled = adopt(here)
    write(here.layout.run / "coordination", settled.settings.coordination)
    return settled


def _live(here: Site) -> str:
    mark = here.layout.run / "coordination"
    kafka = Supervisor(here.layout).processes().get("kafka")
    return mark.read_text(encoding="utf-8") if kafka and kafka.occupied and mark.exists() else ""
