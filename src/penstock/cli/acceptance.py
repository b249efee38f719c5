"""verify accept, verify accepted: differences that an operator accepts."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from penstock.cli.text import format_table, print_json, print_progress

group = typer.Typer()
_SHOWN = 20


def register(app: typer.Typer, verify: Callable[..., None]) -> None:
    """Add `verify`, and the commands below it."""
    group.callback(invoke_without_command=True)(verify)
    app.add_typer(group, name="verify")


@group.command()
def accept(
    kind: Annotated[list[str] | None, typer.Option(metavar="KIND", help="Select by kind; repeatable.")] = None,
    record_id: Annotated[list[str] | None, typer.Option("--id", metavar="ID", help="Select by id; repeatable.")] = None,
    partition: Annotated[int | None, typer.Option(min=0, help="Select by partition.")] = None,
    first: Annotated[int | None, typer.Option("--from", min=0, metavar="OFFSET", help="First offset.")] = None,
    end: Annotated[int | None, typer.Option("--to", min=0, metavar="OFFSET", help="End offset, exclusive.")] = None,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Reason; stored with user and time.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Accept current differences, so that later receipts count them separately. Asks for confirmation.

    Only the selected differences are accepted. A later difference in the same offset range is reported again.
    """
    from penstock import config
    from penstock.config import current_user
    from penstock.errors import UsageError
    from penstock.reconcile import acceptance
    from penstock.sink.cassandra import connected

    if unknown := set(kind or ()) - set(acceptance.KINDS):
        raise UsageError(f"unknown kind: {', '.join(sorted(unknown))}", hint=f"one of {', '.join(acceptance.KINDS)}")
    if not reason.strip():
        raise UsageError("--reason is required", hint="--reason TEXT")
    if not (kind or record_id) and None in (partition, first, end):
        raise UsageError(
            "no selection: expected --kind, --id, or --partition with --from and --to", hint="./penstock verify"
        )
    settings = config.load()
    selection = acceptance.DifferenceSelection(kind or (), record_id or (), partition, first, end)
    with connected(settings) as session:
        selected = acceptance.find_differences(settings, session, selection)
        _ask_confirmation(selected, yes=yes)
        acceptance.accept_differences(settings, session, selected, current_user(), reason)
    if as_json:
        print_json(selected)
    else:
        print_progress(f"accepted {len(selected)} differences; for a new receipt: ./penstock verify")


def _ask_confirmation(selected: list[Any], *, yes: bool) -> None:
    if yes:
        return
    heads = ("kind", "partition", "offset", "id", "why")
    print_progress(
        format_table(heads, [[getattr(difference, head) for head in heads] for difference in selected[:_SHOWN]])
    )
    if len(selected) > _SHOWN:
        print_progress(f"and {len(selected) - _SHOWN} more")
    typer.confirm(f"Accept {len(selected)} differences? Later receipts will not list them.", abort=True, err=True)


@group.command()
def accepted(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List accepted differences, with time, user and reason."""
    from penstock import config
    from penstock.reconcile.acceptance import list_accepted
    from penstock.sink.cassandra import connected

    settings = config.load()
    with connected(settings) as session:
        entries = list_accepted(settings, session)
    if as_json:
        print_json(entries)
    elif entries:
        heads = ("at", "who", "kind", "partition", "offset", "id", "reason", "difference")
        typer.echo(format_table(heads, [[getattr(entry, head) for head in heads] for entry in entries]))
    else:
        print_progress("no accepted differences")
