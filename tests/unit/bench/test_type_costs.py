from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

import pytest
from msgspec import Meta

from bench import report, suite, type_costs
from bench.measure import BenchFailed, Contestant
from bench.type_costs import SAMPLES, Sample, build_contestants, measure_type
from penstock.contract.fields import fields
from penstock.contract.kinds import Form
from tests.unit.records import Everything, Scalars


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_each_type_is_decoded_and_encoded(sample):
    """Its figures are CPU times per value; few calls may take no measurable time."""
    figures = measure_type(sample, 1000)
    assert list(figures) == ["json_ns", "avro_ns", "cql_ns"]
    assert figures["cql_ns"] >= 0


def test_each_kind_of_field_has_a_sample():
    """Of all that a field can have."""
    measured = {fields(type_costs._build_record(sample, 1))[1].kind.cql for sample in SAMPLES.values()}
    kinds = {field.kind.cql for field in (*fields(Everything), *fields(Scalars))}
    assert kinds <= measured
    forms = {fields(type_costs._build_record(sample, 1))[1].shape for sample in SAMPLES.values()}
    assert {shape.form for shape in forms if shape is not None} == set(Form)


def test_the_cost_of_the_record_itself_is_not_counted(monkeypatch):
    """The difference is divided by the number of fields."""
    costs_ns = iter([1000.0, 200.0, 3000.0, 600.0, 7.0])
    monkeypatch.setattr(type_costs, "_time_calls", lambda *_: next(costs_ns))
    assert measure_type(Sample(int, 5), 1000) == {"json_ns": 40.0, "avro_ns": 120.0, "cql_ns": 7.0}


def test_a_sample_that_breaks_a_rule_is_an_error():
    """The cost of a dead letter is another one."""
    with pytest.raises(BenchFailed, match="Expected `int`"):
        measure_type(Sample(Annotated[int, Meta(ge=5)], 3), 1000)
    with pytest.raises(BenchFailed, match="64 bits"):
        measure_type(Sample(timedelta, timedelta.max), 1000)


def test_the_time_of_a_call_is_the_least_of_several_rounds(monkeypatch):
    """Other work on the machine only ever adds to it."""
    clock = iter([0, 500, 1000, 1100, 2000, 2700, 3000, 3400, 4000, 4900])
    monkeypatch.setattr(type_costs, "process_time_ns", lambda: next(clock))
    calls = []
    assert type_costs._time_calls(calls.append, "x", 50) == 10.0
    assert len(calls) == 50


@dataclass
class Stopped:
    """A target whose stack cannot be started."""

    def start(self):
        raise AssertionError("the stack was started")


def test_the_benchmark_of_types_needs_no_stack_and_has_a_table(monkeypatch, tmp_path):
    """It is measured in this process; the report has a row for each type."""
    contestants = [
        Contestant(contestant.name, contestant.title, lambda: {"json_ns": 41.4, "avro_ns": 873.0, "cql_ns": 31.0})
        for contestant in build_contestants(1000)
    ]
    monkeypatch.setattr(type_costs, "build_contestants", lambda _values: contestants)
    (benchmark,) = suite.select_benchmarks(["types"])
    results = suite.run_benchmark(Stopped(), benchmark, 1000, 2, lambda _: None)
    assert list(results["contestants"]) == list(SAMPLES)
    report.write_report({"machine": suite.describe_machine(), "benchmarks": {"types": results}}, tmp_path / "report.md")
    text = (tmp_path / "report.md").read_text()
    assert "| UUID | 41.4 (41.4 to 41.4) | 873 (873 to 873) | 31.0 (31.0 to 31.0) |" in text
    assert not list((tmp_path / "images").iterdir())
