"""Render benchmark results as Markdown, with plots."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench import plots
from bench.suite import OURS

Results = dict[str, Any]
_KINDS = ("kafka", "cassandra", "registry", "Java", "Python")
_LIMITS = ("limit-read", "limit-write")


def write_report(results: Results, file: Path) -> None:
    """Write the report to a file, and its plots to `images/` next to it."""
    images = file.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    parts = [_render_head(results["machine"])]
    for name, benchmark in results["benchmarks"].items():
        picture = plots.draw_plot(name, benchmark, images)
        parts.append(_render_section(name, benchmark, picture.relative_to(file.parent) if picture else None))
    file.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _render_head(machine: Results) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    hardware = f"{machine['cores']} cores ({machine['processor']}), {machine['memory_gib']} GiB, {machine['system']}"
    return f"""# Benchmarks

Written by `./penstock bench`, on {hardware}.
{versions}.

Contestants, Kafka and Cassandra all ran on this one machine. Within a benchmark, the contestants took turns on the same
data, so compare only figures of the same table. Each figure is the median of its runs, with minimum and maximum in
brackets. CPU is the CPU time per record of all processes: Kafka, Cassandra, and the contestant's own.
*penstock / contestant* is penstock's median divided by the contestant's. A program is measured from the first records
that it reports, or from its start if it reports all of them at once. [bench/](../bench/peers) has the programs and
their settings."""


def _render_section(name: str, benchmark: Results, picture: Path | None) -> str:
    what, how = benchmark["what"], f"`{benchmark['command']}`, {benchmark['date']}, {benchmark['commit']}"
    lines = [f"## {name}", f"{what[0].upper()}{what[1:]} ({how})."]
    if picture:
        lines.append(f"![{name}]({picture})")
    return "\n\n".join([*lines, *_TABLES.get(name, _render_measurements)(benchmark["contestants"])])


def _render_measurements(contestants: Results) -> Iterator[str]:
    yield _table(
        ("", "records/s", "CPU µs/record", "penstock / contestant: records/s", "CPU", "peak memory MiB", "records"),
        [
            (
                result["title"],
                _format_spread(result, "rows_per_s"),
                _format_spread(result, "cpu_us"),
                _format_ratio(name, result, "rows_per_s"),
                _format_ratio(name, result, "cpu_us"),
                f"{sum(result['median']['rss_mib'][kind] for kind in ('Java', 'Python')):,.0f}",
                f"{result['median']['records']:,.0f}",
            )
            for name, result in contestants.items()
        ],
    )
    yield "Where the CPU time goes, in µs per record:"
    yield _table(
        ("", *_KINDS),
        [
            (result["title"], *(f"{result['median']['cpu_us_per_row'][kind]:.1f}" for kind in _KINDS))
            for result in contestants.values()
        ],
    )
    if {OURS, *_LIMITS} <= contestants.keys():
        least_us = sum(contestants[name]["median"]["cpu_us"] for name in _LIMITS)
        ours_us = contestants[OURS]["median"]["cpu_us"]
        yield (
            f"Reading alone and writing alone add up to {least_us:.1f} µs per record. penstock takes "
            f"{ours_us / least_us:.2f} times that; [stages](#stages) shows where it goes."
        )


def _render_stages(contestants: Results) -> Iterator[str]:
    yield """CPU time in µs per record. Each row runs the stages of the rows above it in its half (`ingest` or `store`),
plus one. Python's part of `store` is measured in one process without Spark. The rest of `everything` is the sending
and waiting of cassandra-driver, and Cassandra's own work. The two limits of [store](#store) are the minimum for any
program."""
    yield _table(
        ("", *_KINDS, "sum"),
        [
            (
                result["title"],
                *(f"{result['median']['cpu_us_per_row'][kind]:.1f}" for kind in _KINDS),
                _format_spread(result, "cpu_us"),
            )
            for result in contestants.values()
        ],
    )


def _render_growth(contestants: Results) -> Iterator[str]:
    yield _table(
        ("", "records/s", "CPU µs/record", "seconds", "job memory MiB", "Cassandra disk MiB"),
        [
            (
                result["title"],
                _format_spread(result, "rows_per_s"),
                _format_spread(result, "cpu_us"),
                f"{result['median']['seconds']:.1f}",
                f"{sum(result['median']['rss_mib'][kind] for kind in ('Java', 'Python')):,.0f}",
                f"{result['median']['disk_mib']:,.0f}",
            )
            for result in contestants.values()
        ],
    )


def _render_latency(contestants: Results) -> Iterator[str]:
    rates = next(iter(contestants.values()))["median"]["by_rate"]
    yield "In ms:"
    yield _table(
        ("", "records/s", "p50", "p95", "p99", "max"),
        [
            (
                result["title"],
                rate,
                *(_format_spread(result, "by_rate", rate, share) for share in ("p50", "p95", "p99", "max")),
            )
            for rate in rates
            for result in contestants.values()
        ],
    )
    yield "CPU usage of the idle job:"
    yield _table(
        ("", "share of a core"),
        [(result["title"], f"{result['median']['idle_cores']:.1%}") for result in contestants.values()],
    )


def _render_types(contestants: Results) -> Iterator[str]:
    yield """CPU time in ns per value, in one process. JSON and Avro: decode and check a field of that type; the record
itself is not counted. CQL: encode the value for Cassandra."""
    yield _table(
        ("", "JSON", "Avro", "CQL"),
        [
            (result["title"], *(_format_spread(result, f"{form}_ns") for form in ("json", "avro", "cql")))
            for result in contestants.values()
        ],
    )


def _render_start(contestants: Results) -> Iterator[str]:
    ours = contestants[OURS]
    median = ours["median"]
    yield _table(
        ("", ""),
        [
            ("first `demo` in a clean clone, empty caches", f"{median['first_demo_s']:.0f} s"),
            ("disk usage, including caches", f"{median['installed_mib']:,.0f} MiB"),
            ("`up` of everything, warm", f"{_format_spread(ours, 'up_s')} s"),
            ("`demo`, warm", f"{_format_spread(ours, 'demo_s')} s"),
            ("memory of the whole stack", f"{_format_spread(ours, 'rss_mib')} MiB"),
        ],
    )
    yield "Startup time of each service, measured from its own start:"
    yield _table(
        ("", "s"),
        [(name, _format_spread(ours, "services_s", name)) for name in median["services_s"]],
    )


_TABLES = {
    "growth": _render_growth,
    "latency": _render_latency,
    "stages": _render_stages,
    "start": _render_start,
    "types": _render_types,
}


def _format_spread(result: Results, *path: str) -> str:
    """Format a figure as median (min to max)."""
    median, least, most = (_get(result[which], path) for which in ("median", "least", "most"))
    return f"{_format_number(median)} ({_format_number(least)} to {_format_number(most)})"


def _get(figures: Any, path: Sequence[str]) -> float:
    for name in path:
        figures = figures[name]
    return float(figures)


def _format_number(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.1f}"


def _format_ratio(name: str, result: Results, figure: str) -> str:
    return "" if name == OURS or figure not in result.get("ours_to_it", {}) else f"{result['ours_to_it'][figure]:.2f}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
