"""Draw the plots of a report as SVG."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

Results = dict[str, Any]
_KINDS = {"kafka": "#8a8a8a", "cassandra": "#4c78a8", "registry": "#bab0ac", "Java": "#f58518", "Python": "#54a24b"}
_SHARES = ("p50", "p95", "p99")


def draw_plot(name: str, benchmark: Results, folder: Path) -> Path | None:
    """Draw the plot of a benchmark and return its file, or None if the benchmark has no plot."""
    paint = _PAINTERS.get(name)
    if paint is None:
        return None
    mpl.rcParams.update({"svg.hashsalt": "penstock", "svg.fonttype": "none", "font.size": 9})
    figure = paint(benchmark["contestants"])
    file = folder / f"bench-{name}.svg"
    figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    return file


def _plot_cost(contestants: Results) -> Figure:
    """Draw bars of CPU time per record, by process."""
    figure = Figure(figsize=(8, 0.5 * len(contestants) + 1))
    axes = figure.subplots()
    titles = [contestant["title"] for contestant in contestants.values()]
    left = [0.0] * len(titles)
    for kind, color in _KINDS.items():
        widths = [contestant["median"]["cpu_us_per_row"][kind] for contestant in contestants.values()]
        axes.barh(titles, widths, left=left, color=color, label=kind)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    for index, contestant in enumerate(contestants.values()):
        axes.text(left[index], index, f"  {contestant['median']['rows_per_s']:,.0f} records/s", va="center")
    axes.invert_yaxis()
    axes.set_xlim(0, max(left) * 1.25)
    axes.set_xlabel("CPU µs per record; less is better")
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(_KINDS))
    return figure


def _plot_growth(contestants: Results) -> Figure:
    """Draw bars of the cost per user record. Larger records are left out: 40 KB would dwarf the rest."""
    return _plot_cost({name: contestant for name, contestant in contestants.items() if not name.startswith("size-")})


def _plot_latency(contestants: Results) -> Figure:
    """Draw bars of p50, p95 and p99, grouped by rate."""
    rates = list(next(iter(contestants.values()))["median"]["by_rate"])
    figure = Figure(figsize=(8, 2.8))
    for axes, share in zip(figure.subplots(1, len(_SHARES), sharey=True), _SHARES, strict=True):
        width = 0.8 / len(contestants)
        for index, contestant in enumerate(contestants.values()):
            heights = [contestant["median"]["by_rate"][rate][share] for rate in rates]
            axes.bar(
                [position + index * width for position in range(len(rates))], heights, width, label=contestant["title"]
            )
        axes.set_xticks([position + 0.4 - width / 2 for position in range(len(rates))], [f"{rate}/s" for rate in rates])
        axes.set_title(share)
    figure.axes[0].set_ylabel("ms; less is better")
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(), frameon=False, loc="lower center", bbox_to_anchor=(0.5, -0.25)
    )
    return figure


_PAINTERS = {
    "ingest": _plot_cost,
    "store": _plot_cost,
    "latency": _plot_latency,
    "endtoend": _plot_cost,
    "stages": _plot_cost,
    "growth": _plot_growth,
}
