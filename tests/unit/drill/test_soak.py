"""A soak's verdict."""

from types import SimpleNamespace
from typing import Any

import pytest

from penstock.drill import soak
from penstock.drill.growth import ServiceUsage
from penstock.drill.verdict import PASSED


def make_run(handles: int) -> Any:
    """The result of a soak in which all records arrived, and Kafka ended with this many open files."""

    def go(self: soak.Soak) -> None:
        facts = self.facts
        facts.asked = facts.ids = facts.sent = facts.stored = 600
        facts.run_state = "success"
        self.samples["kafka"] = [ServiceUsage(400, 100, 50)] * 3 + [ServiceUsage(400, handles, 50)] * 3
        self.samples["source"] = [ServiceUsage(80, 10, 0)] * 6

    return go


@pytest.mark.parametrize(("handles", "verdict"), [(170, PASSED), (171, "kafka: open files 171, at most 170 expected")])
def test_growth_is_the_verdict(monkeypatch: pytest.MonkeyPatch, handles: int, verdict: str) -> None:
    """Each service is reported at the start and at the end; one that grew fails the soak."""
    monkeypatch.setattr(soak.Soak, "go", make_run(handles))
    ground: Any = SimpleNamespace()
    result = soak.run_soak(ground, minutes=1, rate=10)
    assert result.verdict == verdict
    assert [(process.service, process.end.handles) for process in result.processes] == [
        ("kafka", handles),
        ("source", 10),
    ]


def test_a_long_soak_is_several_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow ends a task after an hour: no run lasts longer than ten minutes, all together as long as requested."""
    ground: Any = SimpleNamespace()
    long = soak.Soak(ground, minutes=95, rate=10)
    assert (long._runs, long._run_s) == (10, 570)
    assert soak.Soak(ground, minutes=2, rate=10)._run_s == 120
