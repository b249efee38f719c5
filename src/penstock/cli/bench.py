"""bench: the pipeline beside what people would use instead, measured on this machine."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.text import print_json, talk
from penstock.cli.text import table as text_table

if TYPE_CHECKING:
    from bench.ground import Ground

Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Benchmarks; none: all of them.")]
_RECORDS = "Records of each benchmark; else each has its own. With few of them, start-up is measured too."
Records = Annotated[int | None, typer.Option(min=1000, help=_RECORDS, show_default=False)]
Repeat = Annotated[
    int | None, typer.Option(min=1, help="How often each contestant runs; 3 unless told.", show_default=False)
]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Keep all figures in this file.", show_default=False)]
Report = Annotated[Path | None, typer.Option(help="Write a report, Markdown with plots.", show_default=False)]
Listed = Annotated[bool, typer.Option("--list", help="Show the benchmarks, and run none.")]
Quick = Annotated[bool, typer.Option("--quick", help="Compare the working tree with a revision, in 5 minutes.")]
Against = Annotated[str, typer.Option(help="The git revision of --quick.")]


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
    """Measure the pipeline beside its peers and the limits of this machine.

    Contestants take turns, on a local stack of their own; nothing else should be at work meanwhile. A file of --json
    that is there keeps its other benchmarks, and --report tells of all that it holds then. With --quick, exit 1 when
    the working tree costs more processor time per record than the revision.
    """
    from penstock.stack.layout import REPOSITORY

    sys.path.insert(0, str(REPOSITORY))
    from bench import suite

    if listed:
        typer.echo(text_table(("benchmark", "what it measures"), [(one.name, one.what) for one in suite.known(())]))
        return
    chosen = suite.known(list(names or ()))
    ground = _ground()
    try:
        if quick:
            _compare(ground, against, records, repeat)
        else:
            _hold(ground, chosen, records, repeat, json_file, report)
    finally:
        ground.down()


def _ground() -> "Ground":
    from bench import ground
    from penstock import config

    return ground.of(config.load(), lambda service, stage, detail="": talk(f"{service} {stage} {detail}".rstrip()))


def _hold(
    ground: "Ground",
    chosen: list[Any],
    records: int | None,
    repeat: int | None,
    json_file: Path | None,
    report: Path | None,
) -> None:
    """Each benchmark; what is known is written after each, beside what the file of figures holds already."""
    import json

    from bench import suite

    found = suite.begun(json_file)
    for one in chosen:
        found["benchmarks"][one.name] = suite.hold(ground, one, records, repeat or suite.REPEAT, talk)
        if json_file:
            json_file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        if report:
            from bench import report as reports

            reports.write(found, report)
    if not json_file:
        print_json(found)


def _compare(ground: "Ground", revision: str, records: int | None, repeat: int | None) -> None:
    from bench import quick

    found = quick.compare(ground, revision, records, repeat, talk)
    typer.echo(
        text_table(
            ("tree", "CPU us/record", "records/s"),
            [
                ("working tree", f"{found.this_cpu_us:.1f}", f"{found.this_rows_per_s:,.0f}"),
                (revision, f"{found.that_cpu_us:.1f}", f"{found.that_rows_per_s:,.0f}"),
            ],
        )
    )
    rounds = ", ".join(f"{one:.3f}" for one in found.rounds)
    typer.echo(f"\n{found.verdict}: {found.ratio:.3f} of the CPU time of {revision} (rounds: {rounds})")
    raise typer.Exit(1 if found.verdict == "slower" else 0)
