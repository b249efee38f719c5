"""verify accept, verify accepted: differences that an operator accepts."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from penstock.cli.text import print_json, table, talk

group = typer.Typer()
_SHOWN = 20


def register(app: typer.Typer, verify: Callable[..., None]) -> None:
    """Add `verify`, and the commands below it."""
    group.callback(invoke_without_command=True)(verify)
    app.add_typer(group, name="verify")


@group.command()
def accept(
    kind: Annotated[list[str] | None, typer.Option(metavar="KIND", help="Those of this kind; repeatable.")] = None,
    record_id: Annotated[list[str] | None, typer.Option("--id", metavar="ID", help="Those of this id.")] = None,
    partition: Annotated[int | None, typer.Option(min=0, help="Those of this partition.")] = None,
    first: Annotated[int | None, typer.Option("--from", min=0, metavar="OFFSET", help="From this offset on.")] = None,
    end: Annotated[int | None, typer.Option("--to", min=0, metavar="OFFSET", help="Up to it, not including.")] = None,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; kept with who and when.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Accept differences that verify finds now, so that later receipts count them apart; asks first.

    Nothing else is accepted: what differs later, in the same stretch too, is a difference again.
    """
    from penstock import config
    from penstock.config import current_user
    from penstock.errors import UsageError
    from penstock.reconcile import acceptance
    from penstock.sink.cassandra import connected

    if unknown := set(kind or ()) - set(acceptance.KINDS):
        raise UsageError(f"{', '.join(sorted(unknown))}: no such kind", hint=f"one of {', '.join(acceptance.KINDS)}")
    if not reason.strip():
        raise UsageError("an accepted difference needs a reason", hint="--reason TEXT")
    if not (kind or record_id) and None in (partition, first, end):
        raise UsageError("which ones? --kind, --id, or --partition with --from and --to", hint="./penstock verify")
    settings = config.load()
    selection = acceptance.DifferenceSelection(kind or (), record_id or (), partition, first, end)
    with connected(settings) as session:
        found = acceptance.find(settings, session, selection)
        _ask_confirmation(found, yes=yes)
        acceptance.accept(settings, session, found, current_user(), reason)
    if as_json:
        print_json(found)
    else:
        talk(f"accepted {len(found)} differences; the receipt from now on: ./penstock verify")


def _ask_confirmation(found: list[Any], *, yes: bool) -> None:
    if yes:
        return
    heads = ("kind", "partition", "offset", "id", "why")
    talk(table(heads, [[getattr(difference, head) for head in heads] for difference in found[:_SHOWN]]))
    if len(found) > _SHOWN:
        talk(f"and {len(found) - _SHOWN} more")
    typer.confirm(f"Accept {len(found)} differences? Receipts no longer name them.", abort=True, err=True)


@group.command()
def accepted(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show what was accepted, when, by whom and why."""
    from penstock import config
    from penstock.reconcile.acceptance import accepted_so_far
    from penstock.sink.cassandra import connected

    settings = config.load()
    with connected(settings) as session:
        found = accepted_so_far(settings, session)
    if as_json:
        print_json(found)
    elif found:
        heads = ("at", "who", "kind", "partition", "offset", "id", "reason", "difference")
        typer.echo(table(heads, [[getattr(entry, head) for head in heads] for entry in found]))
    else:
        talk("nothing was accepted")
