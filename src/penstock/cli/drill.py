"""drill: deliberate faults under load, each with a verdict."""

import signal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.text import format_table as text_table
from penstock.cli.text import print_json, print_progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.drill.table import Options
    from penstock.drill.target import Target
    from penstock.drill.verdict import Result

Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Drills to run; without: list them.")]
All = Annotated[bool, typer.Option("--all", help="Run all drills except soak and recreate-topic.")]
Records = Annotated[int, typer.Option(min=10, help="Records of load per drill.")]
Backlog = Annotated[int | None, typer.Option(min=1000, help="Records in the backlog of `backlog`.", show_default=False)]
Minutes = Annotated[float, typer.Option(min=0.5, help="Duration of `soak`.")]
Rate = Annotated[float, typer.Option(min=1, help="Records per second in `soak`.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before recreate-topic deletes the topic.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print a JSON list.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(drill)


def drill(
    names: Names = None,
    every: All = False,
    records: Records = 1000,
    backlog: Backlog = None,
    minutes: Minutes = 10.0,
    rate: Rate = 50.0,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Inject faults into the local stack under load, and prove that nothing was lost.

    Starts the stack if necessary. Asks for confirmation before recreate-topic. Exit 1 if a drill does not pass.
    """
    from penstock import config, pipelines
    from penstock.drill import table
    from penstock.drill.target import open_target

    chosen = table.check_names(list(names or ()))
    if not chosen and not every:
        _print_list(table.WHAT, as_json)
        return
    settings = config.load()
    if table.DELETES_TOPIC in chosen and not yes:
        topic = pipelines.of(settings).topic
        typer.confirm(f"Delete the topic {topic} of the local stack, with its records?", abort=True, err=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the fault is removed as on Ctrl-C
    ask = table.Options(records, backlog or (table.BACKLOG_OF_ALL if every else table.BACKLOG_ALONE), minutes, rate)
    target = open_target(settings, print_progress)
    results = [_run_drill(target, name, ask) for name in chosen or table.list_of_all()]
    if as_json:
        print_json(results)
    else:
        _print_results(results)
    raise typer.Exit(0 if all(result.passed for result in results) else 1)


def _run_drill(target: "Target", name: str, ask: "Options") -> "Result":
    import traceback

    from penstock.drill import table
    from penstock.drill.verdict import Facts

    try:
        result = table.run_drill(target, name, ask)
    except Exception as error:  # noqa: BLE001  process edge: a failing drill must not discard the others' results
        print_progress("".join(traceback.format_exception(error)))
        result = Facts(name, failure=f"the drill failed unexpectedly: {type(error).__name__}: {error}").result()
    print_progress(f"{name}: {result.verdict}")
    return result


def _print_list(what: dict[str, str], as_json: bool) -> None:
    if as_json:
        print_json([{"name": name, "what": text} for name, text in what.items()])
    else:
        typer.echo(text_table(("drill", "what it does"), list(what.items())))


def _print_results(results: "list[Result]") -> None:
    heads = ("name", "sent", "stored", "rejected", "missing", "doubled", "recovered_s", "verdict")
    typer.echo(text_table(heads, [[getattr(result, head) for head in heads] for result in results]))
    for result in results:
        for more_heads, lines in _extra_tables(result):
            typer.echo("\n" + text_table(more_heads, lines))


def _extra_tables(result: "Result") -> "Iterator[tuple[tuple[str, ...], list[list[Any]]]]":
    """Yield the additional tables of a backlog or a soak."""
    from penstock.drill.backlog import BacklogResult
    from penstock.drill.soak import SoakResult

    if isinstance(result, BacklogResult):
        lines = [[name, getattr(result, name)] for name in ("batches", "largest_batch", "worked_off_s")]
        yield (result.name, ""), lines + [[f"{name}, peak MiB", peak] for name, peak in result.memory_mib.items()]
    if isinstance(result, SoakResult):
        names = ("memory_mib", "handles", "disk_mib")
        heads = ("service", *(f"{name} at {when}" for name in names for when in ("start", "end")), "verdict")
        values = [
            [getattr(at, name) for name in names for at in (growth.start, growth.end)] for growth in result.processes
        ]
        yield heads, [[g.service, *line, g.verdict] for g, line in zip(result.processes, values, strict=True)]
