"""Alert rules over a snapshot of the pipeline, and which alerts are firing. Pure: no I/O.

A rule returns its findings, or None if it cannot tell now, because the service to query is unavailable: then its alerts
stay unchanged. A finding becomes an alert once it has persisted for as long as the rule requires.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from penstock import remedies
from penstock.config import Settings
from penstock.monitoring.snapshot import Snapshot

REJECTED_WINDOW_S = 300.0
REJECTED_LEAST_RECORDS = 10
_JOB = remedies.show_status("spark-job")

Severity = Literal["warning", "critical"]
Key = tuple[str, str]
"""Name and subject, which identify an alert."""


@dataclass(frozen=True)
class Alert:
    """A problem with `subject`. `command` shows details."""

    name: str
    severity: Severity
    subject: str
    message: str
    command: str

    @property
    def key(self) -> Key:
        """Return the name and subject that identify the alert."""
        return self.name, self.subject


class Finding(NamedTuple):
    """A problem with `subject`. It becomes an alert once it has persisted for `after_s`."""

    subject: str
    message: str
    command: str
    after_s: float = 0.0


Find = Callable[[Snapshot, Settings], list[Finding] | None]


class AlertRule(NamedTuple):
    """The severity of an alert, and the function that finds it."""

    severity: Severity
    find: Find


def _find_lag(now: Snapshot, settings: Settings) -> list[Finding] | None:
    if now.lag_records is None:
        return None
    if now.lag_records <= settings.alert_lag_records:
        return []
    message = (
        f"lag above {settings.alert_lag_records} records for {settings.alert_lag_s:g} s or longer; "
        f"now {now.lag_records} records"
    )
    return [Finding(now.topic, message, _JOB, settings.alert_lag_s)]


def _find_rejected(now: Snapshot, settings: Settings) -> list[Finding] | None:
    if now.growth is None:
        return None
    received, rejected, over_s = now.growth
    records = max(received, rejected)  # records rejected at the source never reach the topic
    if records < REJECTED_LEAST_RECORDS:
        return [] if over_s >= REJECTED_WINDOW_S else None
    if rejected <= settings.alert_rejected_share * records:
        return []
    message = (
        f"{rejected} of {records} records were rejected in {over_s / 60:.1f} minutes, "
        f"more than {settings.alert_rejected_share:.1%}"
    )
    return [Finding(now.topic, message, remedies.list_dead_letters())]


def _no_data(now: Snapshot, settings: Settings) -> list[Finding] | None:
    if now.topic_records is None or (now.topic_records and now.newest_record_s is None):
        return None
    hours, command = settings.alert_no_data_hours, remedies.show_logs("airflow-scheduler")
    if now.newest_record_s is None:
        return [Finding(now.topic, f"no record for {hours:g} hours: the topic is empty", command, hours * 3600)]
    age_hours = (now.at_s - now.newest_record_s) / 3600
    if age_hours <= hours:
        return []
    return [Finding(now.topic, f"no record for {age_hours:.1f} hours, more than {hours:g}", command)]


def _service_down(now: Snapshot, settings: Settings) -> list[Finding]:
    return [
        Finding(name, f"{name} is unavailable: {error}", remedies.show_status(name), settings.alert_down_s)
        for name, error in now.services.items()
        if error
    ]


def _not_balanced(now: Snapshot, _settings: Settings) -> list[Finding] | None:
    if now.receipt is None:
        return None
    missing = f"{now.receipt.missing} records are missing" if now.receipt.missing else "its sources disagree"
    message = f"the last receipt is not balanced: {missing}"
    return [] if now.receipt.balanced else [Finding(now.topic, message, remedies.verify())]


def _topic_recreated(now: Snapshot, settings: Settings) -> list[Finding] | None:
    if now.change is None:
        return None
    message = f"{now.topic} was deleted and recreated, and the Spark job does not read the new topic: {now.change}"
    command = remedies.reset_checkpoint()
    return [Finding(now.topic, message, command, settings.alert_down_s)] if now.change else []


def _field_nulls(now: Snapshot, _settings: Settings) -> list[Finding] | None:
    if now.receipt is None:
        return None
    message = "; ".join(now.receipt.warnings)
    return [Finding(now.topic, message, remedies.verify())] if message else []


def _find_stuck(now: Snapshot, _settings: Settings) -> list[Finding] | None:
    if now.stuck is None:
        return None
    message = "; ".join(batch.notice for batch in now.stuck)
    return [Finding(now.topic, message, _JOB)] if message else []


RULES: Mapping[str, AlertRule] = {
    "stuck": AlertRule("critical", _find_stuck),
    "lag": AlertRule("warning", _find_lag),
    "rejected": AlertRule("warning", _find_rejected),
    "no_data": AlertRule("warning", _no_data),
    "service_down": AlertRule("critical", _service_down),
    "not_balanced": AlertRule("critical", _not_balanced),
    "field_nulls": AlertRule("warning", _field_nulls),
    "topic_recreated": AlertRule("critical", _topic_recreated),
}
"""Rules by alert name. Names are stable."""


What = Literal["firing", "resolved"]


@dataclass(frozen=True)
class AlertChange(Alert):
    """A change of an alert: it began to fire, or was resolved. `number` counts changes; times are ISO 8601, UTC."""

    number: int
    at: str
    change: What
    since: str


class Board:
    """Tracks which alerts are firing, from one snapshot to the next."""

    def __init__(self, fired: Iterable[AlertChange] = (), number: int = 0) -> None:
        """Continue with the alerts that `fired` before a restart, and with the number of the last change."""
        self._open = {change.key: change for change in fired}
        self._since_s: dict[Key, float] = {}
        self._number = number

    @property
    def open(self) -> list[AlertChange]:
        """Return the firing alerts, as of when each began to fire."""
        return list(self._open.values())

    def take(self, now: Snapshot, settings: Settings, *, patient: bool = True) -> list[AlertChange]:
        """Return the changes due to this snapshot. Unless `patient`, findings fire at once."""
        changes: list[AlertChange] = []
        for name, rule in RULES.items():
            findings = rule.find(now, settings)
            if findings is not None:
                changes += self._resolve_alerts(name, {finding.subject for finding in findings}, now)
                changes += self._fire_alerts(name, rule.severity, findings, now, patient)
        return changes

    def _fire_alerts(
        self, name: str, severity: Severity, findings: Iterable[Finding], now: Snapshot, patient: bool
    ) -> Iterator[AlertChange]:
        for finding in findings:
            alert = Alert(name, severity, finding.subject, finding.message, finding.command)
            since_s = self._since_s.setdefault(alert.key, now.at_s)
            if alert.key not in self._open and (not patient or now.at_s - since_s >= finding.after_s):
                self._open[alert.key] = self._build_change("firing", _format_time(since_s), alert, now)
                yield self._open[alert.key]

    def _resolve_alerts(self, name: str, wrong: set[str], now: Snapshot) -> Iterator[AlertChange]:
        """Yield the alerts that are resolved now, and forget all subjects that are no longer wrong."""
        for key in [key for key in {**self._since_s, **self._open} if key[0] == name and key[1] not in wrong]:
            self._since_s.pop(key, None)
            if key in self._open:
                ended = self._open.pop(key)
                yield self._build_change("resolved", ended.since, ended, now)

    def _build_change(self, change: What, since: str, alert: Alert, now: Snapshot) -> AlertChange:
        self._number += 1
        return AlertChange(
            alert.name,
            alert.severity,
            alert.subject,
            alert.message,
            alert.command,
            number=self._number,
            at=_format_time(now.at_s),
            change=change,
            since=since,
        )


def _format_time(moment_s: float) -> str:
    return datetime.fromtimestamp(moment_s, tz=UTC).isoformat(timespec="milliseconds")
