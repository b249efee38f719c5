"""The state of the streaming job, cached for all pages and the API."""

from dataclasses import dataclass

from penstock.errors import PenstockError
from penstock.monitoring.snapshot import PartitionProgress
from penstock.process.checkpoint import folder_of
from penstock.web.app_context import AppContext
from penstock.web.query_cache import QueryCache
from penstock.web.stream import application, query
from penstock.web.stream.application import Application, Master, Pages
from penstock.web.stream.query import QueryStatus, StreamFacts

JOB = "spark-job"
MOST_BATCHES = 500


@dataclass(frozen=True)
class Spark:
    """The Spark application and its master. Null while unavailable, with the reason in `error`."""

    application: Application | None
    master: Master | None
    error: str


@dataclass(frozen=True)
class StreamState:
    """State of the stream. `partitions` holds the offset up to which each is stored, `lag` the lag in records.

    `pages` are the URLs of Spark's UIs, null unless Spark belongs to the local stack.
    """

    query: QueryStatus
    spark: Spark
    partitions: list[PartitionProgress]
    lag: int | None
    pages: Pages | None


class Streaming:
    """The stream of the configured pipeline. Thread-safe."""

    def __init__(self, context: AppContext) -> None:
        self._context = context
        self._checkpoint = folder_of(context.settings, context.pipeline.topic)
        self.pages = application.ui_urls(context.settings)
        self.facts = QueryCache(self._read_facts, for_s=1.5)
        """Cached read of what Cassandra knows about the query. Raises `CassandraUnreachable`."""
        self._spark = QueryCache(self._ask_spark, for_s=4.0)
        self._process = QueryCache(self._ask_process, for_s=2.5)

    def _read_facts(self) -> StreamFacts:
        context = self._context
        return query.read_facts(
            context.settings, context.keyspace, context.pipeline.topic, context.cassandra, MOST_BATCHES
        )

    def read_state(self) -> StreamState:
        """Return the current state. Unavailable services are reported in it, not raised."""
        now = self._context.state.now
        return StreamState(
            query=self._read_query_status(),
            spark=self._spark(),
            partitions=now.partitions if now else [],
            lag=now.lag_records if now else None,
            pages=self.pages,
        )

    def _read_query_status(self) -> QueryStatus:
        try:
            read = self.facts()
        except PenstockError as error:
            return QueryStatus(
                "unknown", f"Cassandra, which stores the job's state, is unavailable: {error.message}", ""
            )
        is_owned = read.holder is not None and not read.holder.is_dead
        return query.describe_query(read, self._checkpoint, "" if is_owned else self._process())

    def _ask_process(self) -> str:
        return next((service.state for service in self._context.host.list_services() if service.name == JOB), "")

    def _ask_spark(self) -> Spark:
        if self.pages is None:
            return Spark(None, None, "Spark does not run in the local stack: see its own UI for the application")
        errors: list[str] = []
        job: Application | None = None
        master: Master | None = None
        try:
            job = application.fetch_application(self._context.http, self.pages.job)
        except PenstockError as error:
            errors.append(error.message)
        try:
            master = application.fetch_master(self._context.http, self.pages.master)
        except PenstockError as error:
            errors.append(error.message)
        return Spark(job, master, "; ".join(errors))

    def clear_caches(self) -> None:
        """Drop all cached responses. Call it after an action."""
        for cache in (self.facts, self._spark, self._process):
            cache.clear_cache()
