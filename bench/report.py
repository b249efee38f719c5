"""What came of a run as Markdown, with its plots beside it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench import plots
from bench.suite import OURS

Found = dict[str, Any]
_KINDS = ("kafka", "cassandra", "registry", "Java", "Python")
_LIMITS = ("limit-read", "limit-write")


def write(found: Found, file: Path) -> None:
    """Write the report to a file, its plots into `images/` beside it."""
    images = file.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    parts = [_head(found["machine"])]
    for name, benchmark in found["benchmarks"].items():
        picture = plots.draw(name, benchmark, images)
        parts.append(_section(name, benchmark, picture.relative_to(file.parent) if picture else None))
    file.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _head(machine: Found) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    place = f"{machine['cores']} cores ({machine['processor']}), {machine['memory_gib']} GiB, {machine['system']}"
    return f"""# Benchmarks

Written by `./penstock bench`, on {place}.
{versions}.

Everything ran on that one machine: contestants, Kafka, Cassandra. Within a benchmark they took turns on the same data,
so figures of one table can be held against each other, and no others. Each is the median of its runs; least and most
stand in brackets. CPU is processor time per record of all processes: Kafka, Cassandra, and the contestant's own.
*penstock against it* is our median divided by the contestant's. A program is measured from the
first records that it tells of, or from its start when it tells of all at once. What each program does, and with which
settings, is in [bench/](../bench/peers)."""


def _section(name: str, benchmark: Found, picture: Path | None) -> str:
    what, how = benchmark["what"], f"`{benchmark['command']}`, {benchmark['date']}, {benchmark['commit']}"
    lines = [f"## {name}", f"{what[0].upper()}{what[1:]} ({how})."]
    if picture:
        lines.append(f"![{name}]({picture})")
    return "\n\n".join([*lines, *_TABLES.get(name, _laps)(benchmark["contestants"])])


def _laps(contestants: Found) -> Iterator[str]:
    yield _table(
        ("", "records/s", "CPU µs/record", "penstock against it: records/s", "CPU", "most memory MiB", "records"),
        [
            (
                one["title"],
                _spread(one, "rows_per_s"),
                _spread(one, "cpu_us"),
                _ratio(name, one, "rows_per_s"),
                _ratio(name, one, "cpu_us"),
                f"{sum(one['median']['rss_mib'][kind] for kind in ('Java', 'Python')):,.0f}",
                f"{one['median']['records']:,.0f}",
            )
            for name, one in contestants.items()
        ],
    )
    yield "Where the CPU time goes, in µs per record:"
    yield _table(
        ("", *_KINDS),
        [
            (one["title"], *(f"{one['median']['cpu_us_per_row'][kind]:.1f}" for kind in _KINDS))
            for one in contestants.values()
        ],
    )
    if {OURS, *_LIMITS} <= contestants.keys():
        least_us = sum(contestants[name]["median"]["cpu_us"] for name in _LIMITS)
        ours_us = contestants[OURS]["median"]["cpu_us"]
        yield (
            f"Reading alone and writing alone add up to {least_us:.1f} µs per record. penstock takes "
            f"{ours_us / least_us:.2f} times that; for what, [stages](#stages) tells."
        )


def _stages(contestants: Found) -> Iterator[str]:
    yield """CPU time in µs per record. Each line does what the lines of its half before it do, and one stage more; but
Python's part of `store` is measured in one process without Spark. What `all of it` takes beyond the lines above is
cassandra-driver's sending and waiting, and Cassandra's own work. What no program could do without are the two limits
of [store](#store)."""
    yield _table(
        ("", *_KINDS, "sum"),
        [
            (one["title"], *(f"{one['median']['cpu_us_per_row'][kind]:.1f}" for kind in _KINDS), _spread(one, "cpu_us"))
            for one in contestants.values()
        ],
    )


def _growth(contestants: Found) -> Iterator[str]:
    yield _table(
        ("", "records/s", "CPU µs/record", "seconds", "memory of the job MiB", "Cassandra on disk MiB"),
        [
            (
                one["title"],
                _spread(one, "rows_per_s"),
                _spread(one, "cpu_us"),
                f"{one['median']['seconds']:.1f}",
                f"{sum(one['median']['rss_mib'][kind] for kind in ('Java', 'Python')):,.0f}",
                f"{one['median']['disk_mib']:,.0f}",
            )
            for one in contestants.values()
        ],
    )


def _latency(contestants: Found) -> Iterator[str]:
    rates = next(iter(contestants.values()))["median"]["by_rate"]
    yield "In ms:"
    yield _table(
        ("", "records/s", "p50", "p95", "p99", "max"),
        [
            (one["title"], rate, *(_spread(one, "by_rate", rate, share) for share in ("p50", "p95", "p99", "max")))
            for rate in rates
            for one in contestants.values()
        ],
    )
    yield "What the job takes when nothing comes:"
    yield _table(
        ("", "share of a core"),
        [(one["title"], f"{one['median']['idle_cores']:.1%}") for one in contestants.values()],
    )


def _start(contestants: Found) -> Iterator[str]:
    ours = contestants[OURS]
    median = ours["median"]
    yield _table(
        ("", ""),
        [
            ("first `demo` of a clean clone, empty caches", f"{median['first_demo_s']:.0f} s"),
            ("what it takes on disk, caches included", f"{median['installed_mib']:,.0f} MiB"),
            ("`up` of everything, warm", f"{_spread(ours, 'up_s')} s"),
            ("`demo`, warm", f"{_spread(ours, 'demo_s')} s"),
            ("memory of the whole stack", f"{_spread(ours, 'rss_mib')} MiB"),
        ],
    )
    yield "Each service, from its own start:"
    yield _table(
        ("", "s"),
        [(name, _spread(ours, "services_s", name)) for name in median["services_s"]],
    )


_TABLES = {"growth": _growth, "latency": _latency, "stages": _stages, "start": _start}


def _spread(one: Found, *path: str) -> str:
    """The median, and the least and the most."""
    middle, least, most = (_at(one[which], path) for which in ("median", "least", "most"))
    return f"{_short(middle)} ({_short(least)} to {_short(most)})"


def _at(found: Any, path: Sequence[str]) -> float:
    for name in path:
        found = found[name]
    return float(found)


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.1f}"


def _ratio(name: str, one: Found, what: str) -> str:
    return "" if name == OURS or what not in one.get("ours_to_it", {}) else f"{one['ours_to_it'][what]:.2f}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
