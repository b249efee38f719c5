"""Metrics for Prometheus, derived from the last poll. A scrape sends no request to any service.

Unknown values, because a service is unavailable or the last poll is too old, are omitted, never zero. docs/metrics.md
lists all metrics.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import Literal, NamedTuple

from fastapi import FastAPI
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from starlette.requests import Request
from starlette.responses import Response

from penstock import __version__
from penstock.contract.latency import BOUNDS_MS, Histogram
from penstock.monitoring.alerts import RULES
from penstock.monitoring.monitor import PipelineState
from penstock.monitoring.snapshot import Snapshot
from penstock.pipelines import Pipeline
from penstock.reconcile.verify import EXCUSED
from penstock.web.app_context import AppContext
from penstock.web.metrics_poller import MetricsPoller
from penstock.web.readiness import LATE_S

Samples = Iterable[tuple[tuple[str, ...], float | None]]
"""Values of the labels, and the value."""


class MetricsInput(NamedTuple):
    """The input from which values are read."""

    pipeline: Pipeline
    state: PipelineState
    now: Snapshot
    polled: MetricsPoller


class MetricDescription(NamedTuple):
    """The description of a metric."""

    kind: str
    meaning: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Metric:
    """A metric: its name, its meaning, and how it is read. `labels` are in the order of the samples."""

    name: str
    kind: Literal["counter", "gauge"]
    meaning: str
    read: Callable[[MetricsInput], Samples]
    labels: tuple[str, ...] = ()

    def family(self, seen: MetricsInput) -> Family:
        """Return the current samples, without unknown values."""
        make = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        family = make(self.name, self.meaning, labels=self.labels)
        for values, value in self.read(seen):
            if value is not None:
                family.add_metric(values, value)
        return family


def _sample_value(read: Callable[[MetricsInput], float | None]) -> Callable[[MetricsInput], Samples]:
    return lambda seen: [((), read(seen))]


def _sample_runs(name: str) -> Callable[[MetricsInput], Samples]:
    return _sample_value(lambda seen: seen.state.run_totals.get(name))


def _label_by_topic(seen: MetricsInput, records: float | None, letters: float | None) -> Samples:
    return [((seen.pipeline.topic,), records), ((seen.pipeline.dead_letter_topic,), letters)]


def _iter_lags(seen: MetricsInput) -> Samples:
    for partition in seen.now.partitions:
        yield (str(partition.partition),), partition.lag_records


def _iter_alert_counts(seen: MetricsInput) -> Samples:
    for name, rule in RULES.items():
        yield (name, rule.severity), sum(alert.name == name for alert in seen.state.alerts)


def _sample_receipt(name: str) -> Callable[[MetricsInput], Samples]:
    return _sample_value(lambda seen: None if seen.state.receipt is None else seen.state.receipt.get(name))


def _iter_excused(seen: MetricsInput) -> Samples:
    receipt = seen.state.receipt or {}
    return (((name,), receipt[name]) for name in EXCUSED if name in receipt)


def _given_s(seen: MetricsInput) -> float | None:
    receipt = seen.state.receipt
    return None if receipt is None else datetime.fromisoformat(str(receipt["at"])).timestamp()


def _list_phase_durations(seen: MetricsInput) -> Samples:
    batch = seen.polled.batch
    return [((phase,), ms / 1000) for phase, ms in sorted(batch.durations_ms.items())] if batch else []


BUILD = "penstock_build_info"
LAST_POLL = "penstock_look_timestamp_seconds"
LATENCY = "penstock_latency_seconds"
ALWAYS = {
    BUILD: MetricDescription("gauge", "Always 1. The label is the version of penstock.", ("version",)),
    LAST_POLL: MetricDescription(
        "gauge",
        "Time of the last poll of the pipeline. While it is older than 15 s, all other pipeline metrics are omitted.",
    ),
    LATENCY: MetricDescription(
        "histogram",
        "Latency from a record's Kafka timestamp to the acknowledgement of its row, for rows stored since the control"
        " center started. Buckets only, without a sum.",
    ),
}
"""Metrics that are read in other ways than the rest."""
METRICS = (
    Metric(
        "penstock_fetched_records_total", "counter", "Records that runs fetched from the API.", _sample_runs("fetched")
    ),
    Metric(
        "penstock_produced_records_total",
        "counter",
        "Records of runs that Kafka acknowledged.",
        _sample_runs("produced"),
    ),
    Metric("penstock_produced_bytes_total", "counter", "Bytes of the values of these records.", _sample_runs("bytes")),
    Metric(
        "penstock_refused_records_total",
        "counter",
        "Records that runs rejected at the source.",
        _sample_runs("refused"),
    ),
    Metric(
        "penstock_kafka_records_total",
        "counter",
        "Records appended to the topic since its creation: the sum of its end offsets.",
        lambda seen: _label_by_topic(seen, seen.now.counts.kafka, seen.now.counts.rejected),
        ("topic",),
    ),
    Metric(
        "penstock_kafka_held_records",
        "gauge",
        "Offsets that the topic currently holds.",
        lambda seen: _label_by_topic(seen, seen.now.topic_records, seen.now.dead_letter_records),
        ("topic",),
    ),
    Metric(
        "penstock_kafka_held_bytes",
        "gauge",
        "Size of the topic on the brokers' disks, compressed, counting all replicas. Unavailable with SASL.",
        lambda seen: [((name,), count) for name, count in seen.polled.held_bytes.items()],
        ("topic",),
    ),
    Metric(
        "penstock_read_records_total",
        "counter",
        "Records that the stream has processed: the sum of the offsets that the ledger reaches.",
        _sample_value(lambda seen: seen.now.counts.read),
    ),
    Metric(
        "penstock_stored_records_total",
        "counter",
        "Rows that Cassandra acknowledged, as counted by the ledger.",
        _sample_value(lambda seen: seen.now.counts.stored),
    ),
    Metric(
        "penstock_rejected_records_total",
        "counter",
        "Dead letters since the control center's first scrape, duplicates included.",
        lambda seen: [((reason,), count) for reason, count in seen.polled.dead_letters.counts.records.items()],
        ("reason",),
    ),
    Metric(
        "penstock_rejected_bytes_total",
        "counter",
        "Bytes of the values of these dead letters.",
        lambda seen: [((reason,), count) for reason, count in seen.polled.dead_letters.counts.value_bytes.items()],
        ("reason",),
    ),
    Metric(
        "penstock_lag_records",
        "gauge",
        "Lag of the stream: records that it has not processed yet.",
        _iter_lags,
        ("partition",),
    ),
    Metric(
        "penstock_batch_seconds",
        "gauge",
        "Duration of the newest micro-batch by Spark phase. triggerExecution is the total.",
        _list_phase_durations,
        ("phase",),
    ),
    Metric(
        "penstock_batch_records",
        "gauge",
        "Records in the newest micro-batch.",
        _sample_value(lambda seen: None if seen.polled.batch is None else seen.polled.batch.rows),
    ),
    Metric(
        "penstock_batch_timestamp_seconds",
        "gauge",
        "Start time of the newest micro-batch.",
        _sample_value(lambda seen: None if seen.polled.batch is None else seen.polled.batch.began_at.timestamp()),
    ),
    Metric(
        "penstock_stream_stuck",
        "gauge",
        "1 if the stream is stuck on a batch that keeps failing, else 0.",
        _sample_value(lambda seen: float(bool(seen.state.stuck))),
    ),
    Metric(
        "penstock_stuck_since_timestamp_seconds",
        "gauge",
        "Time of the first failure of the batch on which the stream is stuck.",
        lambda seen: [((), batch.first_at.timestamp()) for batch in seen.state.stuck[:1]],
    ),
    Metric(
        "penstock_service_up",
        "gauge",
        "1 if the service responded to the last poll, else 0.",
        lambda seen: [((name,), float(not error)) for name, error in seen.now.services.items()],
        ("service",),
    ),
    Metric(
        "penstock_receipt_balanced",
        "gauge",
        "1 if the last receipt has no missing records and no differences between its sources, else 0.",
        _sample_receipt("balanced"),
    ),
    Metric(
        "penstock_receipt_missing_records", "gauge", "Missing records in the last receipt.", _sample_receipt("missing")
    ),
    Metric(
        "penstock_receipt_excused_records",
        "gauge",
        "Absent records in the last receipt, excused by a TTL, compaction, a pruned dead-letter topic, or an operator.",
        _iter_excused,
        ("excuse",),
    ),
    Metric(
        "penstock_receipt_timestamp_seconds",
        "gauge",
        "Creation time of the last receipt.",
        _sample_value(_given_s),
    ),
    Metric(
        "penstock_alerts_firing", "gauge", "Active alerts with this name.", _iter_alert_counts, ("name", "severity")
    ),
)


class Collector:
    """Collects every metric of an `AppContext`, read again at each scrape."""

    def __init__(self, context: AppContext) -> None:
        self._context = context
        self._poller = MetricsPoller(context)

    def describe(self) -> Iterator[Family]:
        """Return nothing, so that the registry does not collect metrics before the first scrape."""
        return iter(())

    def collect(self) -> Iterator[Family]:
        """Yield the metric families. If the last poll is too old, yield only its time."""
        yield _build_gauge(BUILD, 1, version=__version__)
        state = self._context.state
        if state.now is None:
            return
        yield _build_gauge(LAST_POLL, state.now.at_s)
        if time.time() - state.now.at_s > LATE_S:
            return
        self._poller.schedule_poll(state.now)
        seen = MetricsInput(self._context.pipeline, state, state.now, self._poller)
        yield from (metric.family(seen) for metric in METRICS)
        yield HistogramMetricFamily(LATENCY, ALWAYS[LATENCY].meaning, buckets=_accumulate_buckets(state.latencies))


def _build_gauge(name: str, value: float, **labels: str) -> Family:
    family = GaugeMetricFamily(name, ALWAYS[name].meaning, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family


def _accumulate_buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Return cumulative counts by upper bound in seconds. The last bucket has no bound."""
    bounds = [*(str(bound / 1000) for bound in BOUNDS_MS[:-1]), "+Inf"]
    return list(zip(bounds, accumulate(float(histogram.get(bound, 0)) for bound in BOUNDS_MS), strict=True))


_PAGE = """# Metrics

`GET /metrics` of the [control center](control-center.md), in Prometheus's text format or as OpenMetrics, whichever is
requested. A scrape sends no request to any service: it returns the results of the last poll, a few seconds old.

Values that are unknown because a service is unavailable are omitted, never zero: use `absent()`. Counters restart from
zero when the control center restarts (`fetched`, `produced`, `refused`, `rejected`, the latencies) or the topic is
recreated (`kafka`, `read`, `stored`); `rate` and `increase` allow for that. The counts of a run are added when it ends.
The metrics `process_...` describe the control center's own process.

"""


def render_page() -> str:
    """Return docs/metrics.md, the list of all metrics."""
    rows = [(name, metric.kind, metric.labels, metric.meaning) for name, metric in ALWAYS.items()]
    rows += [(metric.name, metric.kind, metric.labels, metric.meaning) for metric in METRICS]
    lines = [f"| `{name}` | {kind} | {', '.join(labels)} | {meaning} |" for name, kind, labels, meaning in rows]
    return _PAGE + "\n".join(["| name | kind | labels | meaning |", "|---|---|---|---|", *lines]) + "\n"


def register(app: FastAPI, context: AppContext) -> None:
    """Serve /metrics in the requested format."""
    registry = CollectorRegistry()
    registry.register(Collector(context))
    ProcessCollector(registry=registry)

    @app.get("/metrics", include_in_schema=False)
    def metrics(request: Request) -> Response:
        """Return the current value of every metric."""
        encode, kind = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"Content-Type": kind})
