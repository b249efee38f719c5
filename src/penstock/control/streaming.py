"""The stream as page and API show it: asked for once for all who look."""

from dataclasses import dataclass

from penstock.control.desk import Desk
from penstock.control.shared import Shared
from penstock.errors import PenstockError
from penstock.observe import application, query
from penstock.observe.application import Application, Master, Pages
from penstock.observe.flow import Partition
from penstock.observe.query import Found, Query
from penstock.process.checkpoint import folder_of

JOB = "spark-job"
MOST_BATCHES = 500


@dataclass(frozen=True)
class Spark:
    """The application and its master; None with the reason in `error` while they do not answer."""

    application: Application | None
    master: Master | None
    error: str


@dataclass(frozen=True)
class State:
    """How the stream does: `partitions` tells up to which offset its records are stored, `lag` how many wait.

    `pages` are the addresses of Spark's own pages; None when they are not the local stack's.
    """

    query: Query
    spark: Spark
    partitions: list[Partition]
    lag: int | None
    pages: Pages | None


class Streaming:
    """The stream of the desk's pipeline; its methods may be called from any thread."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._checkpoint = folder_of(desk.settings, desk.pipeline.topic)
        self.pages = application.pages(desk.settings)
        self.found = Shared(self._read, for_s=1.5)
        """What Cassandra says. Raises `CassandraUnreachable`."""
        self._spark = Shared(self._ask_spark, for_s=4.0)
        self._process = Shared(self._ask_process, for_s=2.5)

    def _read(self) -> Found:
        desk = self._desk
        return query.read(desk.settings, desk.keyspace, desk.pipeline.topic, desk.cassandra, MOST_BATCHES)

    def state(self) -> State:
        """How it does now; what is away is told as such."""
        now = self._desk.view.now
        return State(
            query=self._query(),
            spark=self._spark(),
            partitions=now.partitions if now else [],
            lag=now.lag if now else None,
            pages=self.pages,
        )

    def _query(self) -> Query:
        try:
            found = self.found()
        except PenstockError as error:
            return Query("unknown", f"Cassandra, which knows the job that reads, is away: {error.message}", "")
        owned = found.holder is not None and not found.holder.is_dead
        return query.tell(found, self._checkpoint, "" if owned else self._process())

    def _ask_process(self) -> str:
        return next((one.state for one in self._desk.host.services() if one.name == JOB), "")

    def _ask_spark(self) -> Spark:
        if self.pages is None:
            return Spark(None, None, "Spark is not the local stack's: its own pages tell how the application does")
        errors: list[str] = []
        job: Application | None = None
        master: Master | None = None
        try:
            job = application.application(self._desk.http, self.pages.job)
        except PenstockError as error:
            errors.append(error.message)
        try:
            master = application.master(self._desk.http, self.pages.master)
        except PenstockError as error:
            errors.append(error.message)
        return Spark(job, master, "; ".join(errors))

    def look_again(self) -> None:
        """Ask everything anew the next time: something was done."""
        for one in (self.found, self._spark, self._process):
            one.forget()
