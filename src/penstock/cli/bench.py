"""bench: benchmark the pipeline against alternatives on this machine."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.text import format_table as text_table
from penstock.cli.text import print_json, print_progress

if TYPE_CHECKING:
    from bench.target import Target

Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Benchmarks to run; default: all.")]
_RECORDS = "Records per benchmark; each has its own default. Small numbers include startup in the measurement."
Records = Annotated[int | None, typer.Option(min=1000, help=_RECORDS, show_default=False)]
Repeat = Annotated[int | None, typer.Option(min=1, help="Runs of each contestant; default: 3.", show_default=False)]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write all results to this file.", show_default=False)]
Report = Annotated[Path | None, typer.Option(help="Write a Markdown report with plots.", show_default=False)]
Listed = Annotated[bool, typer.Option("--list", help="List the benchmarks without running them.")]
Quick = Annotated[bool, typer.Option("--quick", help="Compare the working tree with a revision, in 5 minutes.")]
Against = Annotated[str, typer.Option(help="Git revision for --quick.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(bench)


def bench(
    names: Names = None,
    records: Records = None,
    repeat: Repeat = None,
    json_file: JsonFile = None,
    report: Report = None,
    listed: Listed = False,
    quick: Quick = False,
    against: Against = "HEAD",
) -> None:
    """Benchmark the pipeline against its peers and the limits of this machine.

    Contestants alternate on a separate local stack. Nothing else should run at the same time. An existing --json file
    keeps its other benchmarks, and --report includes all that it contains. With --quick, exit 1 if the working tree
    uses more CPU time per record than the revision.
    """
    from penstock.stack.layout import REPOSITORY

    sys.path.insert(0, str(REPOSITORY))
    from bench import suite

    if listed:
        benchmarks = [(benchmark.name, benchmark.what) for benchmark in suite.select_benchmarks(())]
        typer.echo(text_table(("benchmark", "what it measures"), benchmarks))
        return
    chosen = suite.select_benchmarks(list(names or ()))
    target = _create_target()
    try:
        if quick:
            _compare_revision(target, against, records, repeat)
        else:
            _run_benchmarks(target, chosen, records, repeat, json_file, report)
    finally:
        target.stop()


def _create_target() -> "Target":
    from bench.target import create_target
    from penstock import config

    return create_target(
        config.load(), lambda service, stage, detail="": print_progress(f"{service} {stage} {detail}".rstrip())
    )


def _run_benchmarks(
    target: "Target",
    chosen: list[Any],
    records: int | None,
    repeat: int | None,
    json_file: Path | None,
    report: Path | None,
) -> None:
    """Run the benchmarks. After each, results are merged into the JSON file and the report."""
    import json

    from bench import suite

    figures = suite.load_results(json_file)
    for benchmark in chosen:
        figures["benchmarks"][benchmark.name] = suite.run_benchmark(
            target, benchmark, records, repeat or suite.REPEAT, print_progress
        )
        if json_file:
            json_file.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        if report:
            from bench import report as reports

            reports.write_report(figures, report)
    if not json_file:
        print_json(figures)


def _compare_revision(target: "Target", revision: str, records: int | None, repeat: int | None) -> None:
    from bench import quick

    comparison = quick.compare_revision(target, revision, records, repeat, print_progress)
    typer.echo(
        text_table(
            ("tree", "CPU us/record", "records/s"),
            [
                ("working tree", f"{comparison.this_cpu_us:.1f}", f"{comparison.this_rows_per_s:,.0f}"),
                (revision, f"{comparison.that_cpu_us:.1f}", f"{comparison.that_rows_per_s:,.0f}"),
            ],
        )
    )
    rounds = ", ".join(f"{ratio:.3f}" for ratio in comparison.rounds)
    typer.echo(f"\n{comparison.verdict}: {comparison.ratio:.3f} of the CPU time of {revision} (rounds: {rounds})")
    raise typer.Exit(1 if comparison.verdict == "slower" else 0)
