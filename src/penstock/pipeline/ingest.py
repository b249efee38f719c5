"""Stages 1-3: the API's responses become acknowledged records in the topic. Run by the Airflow task.

Delivery: at least once. A run is identified by its id. Each response is staged on disk before it is sent and until the
run succeeds, so that a retried run sends the same records and no others, and they result in the same rows. The id also
seeds the API, for what was not fetched yet.
"""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from penstock import remedies
from penstock.broker import headers, topics
from penstock.broker.kafka import create_producer
from penstock.broker.registry import Registry
from penstock.codec.encode import build_serializer
from penstock.config import Settings
from penstock.contract.batch import Reject
from penstock.contract.fault import Fault, Reason, Stage
from penstock.contract.json_numbers import encode_json
from penstock.dead_letters.failed_entries import FailedEntries
from penstock.dead_letters.topic import send_dead_letters
from penstock.errors import DeliveryFailed, SourceRefused, SourceUnreachable, TooManyFailed, UsageError, WrongSettings
from penstock.log import get_logger
from penstock.pipelines import Pipeline
from penstock.pipelines.identity import describe_parts, identify_pipeline
from penstock.pipelines.mapping import Mapper
from penstock.produce import delivery_log
from penstock.produce.delivery_log import DeliveryLog
from penstock.produce.send import Delivered, Headers, Sender
from penstock.source.client import HttpSource
from penstock.source.entries import Unreadable
from penstock.source.landing import Staging

log = get_logger(__name__)

_NESTED = frozenset({dict, list})
LANDED_S = 24 * 3600.0
"""How long responses are kept: a task may be retried after everything was acknowledged."""


@dataclass(frozen=True)
class RunOrder:
    """The request for a run: `records`, or as many as `seconds` at `rate` per second make.

    `rate` (records per second) also limits the speed of sending. `clock_offset_s` is added to Kafka's timestamps, as a
    wrong clock would do. `pipeline` holds the parts of the `Identity` that the run is ordered for; None for any.
    """

    run_id: str
    records: int | None = None
    seconds: float | None = None
    rate: float | None = None
    source_url: str | None = None
    clock_offset_s: float | None = None
    pipeline: dict[str, Any] | None = None

    @property
    def asked(self) -> int:
        """Return the number of requested records. Raises `UsageError` if the order does not determine it."""
        if self.records is not None and self.seconds is None:
            asked = self.records
        elif self.records is None and self.seconds is not None and self.rate:
            asked = round(self.seconds * self.rate)
        else:
            raise UsageError("a run needs either `records`, or `seconds` and `rate`")
        if asked < 1:
            raise UsageError(f"a run needs at least 1 record, not {asked}")
        return asked


@dataclass(frozen=True)
class Summary:
    """The result of a run. `produced`: acknowledged by the topic; `refused`: acknowledged by the dead-letter topic."""

    run_id: str
    asked: int
    fetched: int
    produced: int
    refused: int
    bytes: int
    seconds: float
    fetch_seconds: float
    started_at: str
    finished_at: str
    topic: str
    topic_id: str
    schema_id: int
    offsets: dict[str, list[int]]
    """First and last offset by partition."""

    def as_dict(self) -> dict[str, Any]:
        """Return the summary for Airflow's XCom: JSON values only, because XCom wraps all others."""
        return asdict(self)


def run(settings: Settings, pipeline: Pipeline, order: RunOrder) -> Summary:
    """Fetch what `order` asks for, send it, and wait for every acknowledgement.

    Raises `WrongSettings` if it is ordered for another pipeline; `TooManyFailed` if too many entries became dead
    letters, which a retry would not change; `DeliveryFailed` if fewer records were acknowledged than requested;
    `SourceRefused`, `SchemaRefused` or an `Unreachable` if records could not be fetched or sent.
    """
    check_pipeline(settings, pipeline, order.pipeline or {})
    return _Run(settings, pipeline, order).carry_out()


def check_pipeline(settings: Settings, pipeline: Pipeline, expected: dict[str, Any]) -> None:
    """Check that the pipeline is the one that a run is ordered for. Raises `WrongSettings` naming both."""
    own = identify_pipeline(settings, pipeline)
    if names := own.differences(expected):
        raise WrongSettings(
            f"nothing was fetched: the run was triggered for {describe_parts(expected, names)}, but Airflow runs "
            f"PENSTOCK_PIPELINE={settings.pipeline} with {describe_parts(own.as_dict(), names)}",
            hint="give both the same PENSTOCK_PIPELINE: where the run is triggered, or with "
            f"{remedies.restart('airflow-scheduler', 'spark-job')} "
            "(Docker Compose: in .env, then docker compose up -d)",
        )


class _Run:
    """One run: its clients and its counts."""

    def __init__(self, settings: Settings, pipeline: Pipeline, order: RunOrder) -> None:
        self._settings = settings
        self._pipeline = pipeline
        self._order = order
        self._asked = order.asked
        self._staging = Staging(settings.home / "data" / "landing", order.run_id, pipeline.number_reader)
        self._staging.forget_others(LANDED_S)
        self._rejects: list[Reject] = []
        self._failed = FailedEntries(settings.source_max_failed_share)
        self._fetched = 0
        self._fetch_s = 0.0

    def carry_out(self) -> Summary:
        started, started_at = time.monotonic(), datetime.now(UTC)
        settings, pipeline = self._settings, self._pipeline
        topics.ensure_pipeline_topics(settings, pipeline)
        schema_id = Registry(settings).register(pipeline.subject, pipeline.record, settings.wire_format)
        topic_id = topics.fetch_topic_id(settings, pipeline.topic)
        client = create_producer(settings)
        mapper = Mapper(pipeline, build_serializer(pipeline.record, settings.wire_format, schema_id))
        try:
            with (
                self._open_delivery_log(topic_id) as written,
                Sender(client, pipeline.topic, settings.kafka_timeout_s, written) as sender,
            ):
                self._send_records(sender, mapper, written)
        except (TooManyFailed, SourceRefused, SourceUnreachable):
            send_dead_letters(client, pipeline.dead_letter_topic, self._rejects)
            raise
        refused = send_dead_letters(client, pipeline.dead_letter_topic, self._rejects)
        summary = self._build_summary(sender.delivered, refused, schema_id, topic_id, started, started_at)
        return self._finish_run(summary)

    def _open_delivery_log(self, topic_id: str) -> DeliveryLog:
        """Open the delivery log of this attempt, and delete the logs of attempts older than Kafka's retention."""
        folder = delivery_log.folder_of(self._settings)
        delivery_log.delete_expired(folder, older_than_s=self._settings.kafka_retention_hours * 3600)
        return DeliveryLog(folder, self._order.run_id, self._pipeline.topic, topic_id)

    def _send_records(self, sender: Sender, mapper: Mapper, log_file: DeliveryLog) -> None:
        """Send every record with the fetch time of its response, and make dead letters of failed entries."""
        pace = _Pace(self._order.rate)
        sent = 0
        for response_number, (response, fetched_ms) in enumerate(self._fetch_responses()):
            log_file.fetched(self._fetched)
            record_headers = self._build_headers(fetched_ms)
            for index, entry in enumerate(response):
                pace.wait()
                outgoing = _build_decode_error(entry) if isinstance(entry, Unreadable) else mapper.outgoing(entry)
                if isinstance(outgoing, Fault):
                    original = self._staging.read_entry(response_number, index)
                    self._reject_entry(sent + index, original, outgoing, record_headers)
                else:
                    sender.send(*outgoing, record_headers, self._timestamp_ms())
            sent += len(response)
            self._failed.check(sent)
            log_file.flush()
        self._failed.check(sent, at_end=True)

    def _build_headers(self, fetched_ms: int) -> Headers:
        """Return the headers for records of a response fetched at that time."""
        return [(headers.RUN, self._order.run_id.encode()), (headers.FETCHED, b"%d" % fetched_ms)]

    def _timestamp_ms(self) -> int:
        """Return the timestamp of a record sent now. 0 leaves it to the producer."""
        offset_s = self._order.clock_offset_s
        return round((time.time() + offset_s) * 1000) if offset_s else 0

    def _finish_run(self, summary: Summary) -> Summary:
        log.info("run_finished", **{name: value for name, value in summary.as_dict().items() if name != "offsets"})
        acknowledged = summary.produced + summary.refused
        if acknowledged < summary.asked:
            raise DeliveryFailed(f"{acknowledged} of {summary.asked} requested records were acknowledged")
        return summary

    def _fetch_responses(self) -> Iterator[tuple[list[Any], int]]:
        """Yield every response, staged on disk first, with its fetch time in ms since the epoch."""
        for response, fetched_ms in self._staging.read_responses():
            self._fetched += len(response)
            log.info("staged_response_replayed", records=len(response), fetched=self._fetched, asked=self._asked)
            yield response, fetched_ms
        secret = self._pipeline.secret
        for fetched in self._fetch_remaining(given=self._fetched):
            drop_fields(secret, fetched)
            response = [entry.without(secret) if isinstance(entry, Unreadable) else entry for entry in fetched]
            self._staging.write_response(response)
            self._fetched += len(response)
            log.info("response_fetched", records=len(response), fetched=self._fetched, asked=self._asked)
            yield response, time.time_ns() // 1_000_000

    def _fetch_remaining(self, given: int) -> Iterator[list[Any]]:
        """Yield the remaining responses of the API, and measure the time that fetching takes."""
        source = HttpSource.configured(self._settings, self._order.source_url or "", self._pipeline.number_reader)
        responses = source.fetch(self._asked, seed_of(self._order.run_id), given)
        while True:
            began = time.monotonic()
            response = next(responses, None)
            self._fetch_s += time.monotonic() - began
            if response is None:
                return
            yield response

    def _reject_entry(self, number: int, entry: Any, fault: Fault, record_headers: Headers) -> None:
        """Make a dead letter of an entry. Its offset is its number in the run, so that identical entries stay distinct.

        Raises `TooManyFailed`.
        """
        log.warning("record_rejected", reason=str(fault.reason), rules=fault.rules, cause=fault.cause)
        reject = Reject(
            fault=fault,
            topic=self._pipeline.topic,
            partition=-1,
            offset=number,
            key=None,
            value=entry.value if isinstance(entry, Unreadable) else encode_json(entry),
            headers=[*record_headers],
        )
        self._rejects.append(reject)
        self._failed.add(number, fault)

    def _build_summary(
        self, delivered: Delivered, refused: int, schema_id: int, topic_id: str, started: float, started_at: datetime
    ) -> Summary:
        return Summary(
            run_id=self._order.run_id,
            asked=self._asked,
            fetched=self._fetched,
            produced=delivered.records,
            refused=refused,
            bytes=delivered.value_bytes,
            seconds=round(time.monotonic() - started, 3),
            fetch_seconds=round(self._fetch_s, 3),
            started_at=started_at.isoformat(timespec="milliseconds"),
            finished_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            topic=self._pipeline.topic,
            topic_id=topic_id,
            schema_id=schema_id,
            offsets={str(partition): list(span) for partition, span in sorted(delivered.offsets.items())},
        )


def _build_decode_error(entry: Unreadable) -> Fault:
    return Fault(Reason.JSON_MALFORMED, entry.message, Stage.PRODUCE)


def drop_fields(names: frozenset[str], entry: Any) -> None:
    """Remove the fields with these names from a decoded entry, at any depth."""
    if not names:
        return
    pending: list[Any] = [[entry]]
    while pending:
        container = pending.pop()
        if type(container) is dict:
            if not names.isdisjoint(container):
                for name in names & container.keys():
                    del container[name]
            container = container.values()
        for value in container:
            if type(value) in _NESTED:  # twice as fast as putting every value on the list
                pending.append(value)


def seed_of(run_id: str) -> str:
    """Return the API seed of a run: the same for the same run, 25 characters, ending in a letter.

    The random user API concatenates seed and page number, so seeds that end in digits would share pages.
    """
    return hashlib.sha256(run_id.encode()).hexdigest()[:24] + "s"


class _Pace:
    """Spaces records evenly at `rate` per second; None for as fast as possible."""

    def __init__(self, rate: float | None) -> None:
        self._gap_s = 1 / rate if rate else 0.0
        self._next_s = time.monotonic()

    def wait(self) -> None:
        """Wait until the next record is due."""
        if self._gap_s:
            time.sleep(max(0.0, self._next_s - time.monotonic()))
            self._next_s += self._gap_s
