"""`penstock dlq`: the records that were rejected. Look at them, send them again, or give them up."""

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from penstock.cli.text import print_json, table, talk

if TYPE_CHECKING:
    from penstock.broker.dlq import Letter
    from penstock.config import Settings
    from penstock.pipeline.mend import Mending
    from penstock.pipeline.waiting import Group, Outcomes, Selection
    from penstock.pipelines import Pipeline

group = typer.Typer(no_args_is_help=True, help="Records that were rejected: look at them, mend them, send them again.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Reasons = Annotated[list[str] | None, typer.Option("--reason", metavar="R", help="Those of this reason; repeatable.")]
Places = Annotated[
    list[str] | None, typer.Option("--place", metavar="P:O", help="The one at this place, as list shows; repeatable.")
]
Rule = Annotated[str, typer.Option(metavar="CODE", help="Those that break rules that begin so: email:pattern.")]
Run = Annotated[str, typer.Option(metavar="ID", help="Those that this run produced.")]
_SHOWN_CHARACTERS = 20_000
_CELL_CHARACTERS = 60


def register(app: typer.Typer) -> None:
    """Add the group `dlq` to `app`."""
    app.add_typer(group, name="dlq")


@group.command("list")
def list_(
    reason: Reasons = None,
    everything: Annotated[bool, typer.Option("--all", help="Those too of which none waits any more.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show how many were rejected, by reason and rules; no values."""
    from penstock.pipeline.waiting import grouped

    with _opened() as queue:
        groups = grouped(queue.letters(_selection(reason)), queue.lines)
    shown = [one for one in groups if everything or one.waiting]
    if as_json:
        print_json(shown)
    elif shown:
        heads = ("reason", "rules", "waiting", "redriven", "discarded", "first", "last", "example")
        typer.echo(table(heads, [_group_cells(one) for one in shown]))
        talk(f"\nNext: ./penstock dlq show {shown[0].place}")
    if not shown:
        talk("no rejected record waits" + ("; of those that did: ./penstock dlq list --all" if groups else ""))


def _group_cells(one: "Group") -> tuple[Any, ...]:
    rules = ",".join(one.rules)
    cut = rules if len(rules) <= _CELL_CHARACTERS else rules[: _CELL_CHARACTERS - 3] + "..."
    times = (f"{moment:%Y-%m-%dT%H:%M:%SZ}" for moment in (one.first, one.last))
    return one.reason, cut, one.waiting, one.redriven, one.discarded, *times, one.place


@group.command()
def show(
    place: Annotated[str, typer.Argument(metavar="PLACE", help="P:O, as list shows.")], as_json: AsJson = False
) -> None:
    """Show one record: what is wrong with it, its headers, its value."""
    from penstock.errors import RegistryUnreachable
    from penstock.pipeline import export

    with _opened() as queue:
        letter = queue.letter(place)
        facts = export.facts(letter, queue.lines)
        value = None
        with suppress(RegistryUnreachable):  # the bytes are shown without it
            value = queue.value(letter)
    if as_json:
        print_json(facts | export.content(letter, value))
        return
    cells = [(name, _printable(_joined(said))) for name, said in facts.items() if said not in (None, "", [])]
    typer.echo(table(("record", ""), [*cells, ("key", _text(letter.key))]))
    if letter.headers:
        typer.echo("\n" + table(("header", ""), [(_printable(name), _text(said)) for name, said in letter.headers]))
    typer.echo(f"\n{_shown_value(letter, value)}")
    talk(f"\nNext: {_next(place, facts['state'])}")


@group.command()
def export(
    file: Annotated[str, typer.Argument(metavar="FILE", help="File to write; - is stdout.")],
    reason: Reasons = None,
    everything: Annotated[bool, typer.Option("--all", help="Those too that do not wait any more.")] = False,
) -> None:
    """Write the records that wait as JSON lines, personal data and all.

    To mend them change `value`, and give the file to redrive --edit. Only you can read the file.
    """
    from penstock.pipeline.export import line
    from penstock.sink.settled import WAITING, state_of

    written = 0
    with _opened() as queue, _written(file) as out:
        for letter in queue.letters(_selection(reason)):
            if everything or state_of(letter.identity, queue.lines) == WAITING:
                out.write(line(letter, queue.lines, queue.value(letter)))
                written += 1
    talk(f"{written} rejected records written to {'stdout' if file == '-' else file}")


@group.command()
def redrive(
    reason: Reasons = None,
    rule: Rule = "",
    place: Places = None,
    run: Run = "",
    fields: Annotated[
        list[str] | None, typer.Option("--set", metavar="F=V", help="Give a field this value; repeatable.")
    ] = None,
    edit: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, metavar="FILE", help="Values as edited in an export.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Send so many at most.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be sent.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send the records that wait to the topic, once; all, or some.

    One that would be rejected again is not sent: it is told with its broken rules, and waits on. Fields that the
    pipeline's record does not have are left out of a mended record.
    """
    from penstock.pipeline.redrive import redrive

    with _opened() as queue:
        selection = _selection(reason, rule, place, run, limit)
        mending = _mending(queue.pipeline, fields or [], edit)
        done = redrive(queue.settings, queue.session, selection, mending, dry_run=dry_run)
    _print_outcomes(done, ("sent", "still_broken", "in_hand", "already"), as_json)


@group.command()
def discard(
    reason: Reasons = None,
    place: Places = None,
    everything: Annotated[bool, typer.Option("--all", help="All that wait.")] = False,
    note: Annotated[str, typer.Option(metavar="TEXT", help="Why; kept with who and when.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Give up records that wait, for good; asks first.

    They stay in the queue as long as Kafka keeps them, and are never sent.
    """
    from penstock.errors import WrongUse
    from penstock.pipeline.redrive import discard

    if everything == bool(reason or place):
        raise WrongUse("either --reason, --place, or --all", hint="./penstock dlq list")
    with _opened() as queue:
        selection = _selection(reason, place=place)
        done = discard(queue.settings, queue.session, selection, note, dry_run=True)
        if done.discarded:
            if not yes:
                question = f"Discard {done.discarded} rejected records of {queue.pipeline.topic}, for good?"
                typer.confirm(question, abort=True, err=True)
            done = discard(queue.settings, queue.session, selection, note)
    done.dry_run = False
    _print_outcomes(done, ("discarded", "in_hand", "already"), as_json)


class _Opened:
    """The queue of the pipeline in force, and Cassandra, where it stands what became of each record."""

    def __init__(self, settings: "Settings", pipeline: "Pipeline", session: Any) -> None:
        from penstock.broker.registry import Registry
        from penstock.process.writer import Writers
        from penstock.sink import cassandra, settled

        self.settings, self.pipeline, self.session = settings, pipeline, session
        self.lines = settled.states(session, cassandra.keyspace_of(settings, pipeline), pipeline.topic)
        self._writers = Writers(Registry(settings))

    def letters(self, selection: "Selection") -> "Iterator[Letter]":
        """The selected records, waiting or not."""
        from penstock.pipeline.waiting import selected

        return selected(self.settings, self.pipeline, selection)

    def letter(self, place: str) -> "Letter":
        """The record at a place. Raises `WrongUse` when there is none."""
        return next(self.letters(_selection(place=[place])))

    def value(self, letter: "Letter") -> dict[str, Any] | None:
        """The fields in the record's value, if it has any."""
        from penstock.pipeline.mend import value_of

        return value_of(letter.value, self._writers)


@contextmanager
def _opened() -> Iterator[_Opened]:
    from penstock import config, pipelines
    from penstock.sink import cassandra

    settings = config.load()
    pipeline = pipelines.of(settings)
    with cassandra.connected(settings) as session:
        yield _Opened(settings, pipeline, session)


def _selection(
    reason: Sequence[str] | None = None,
    rule: str = "",
    place: Sequence[str] | None = None,
    run: str = "",
    limit: int | None = None,
) -> "Selection":
    from penstock.pipeline.waiting import Selection

    return Selection(frozenset(reason or ()), rule, frozenset(place or ()), run, limit)


def _mending(pipeline: "Pipeline", texts: list[str], edit: Path | None) -> "Mending":
    from penstock.pipeline.mend import Mending, assignments, edits

    fields = assignments(pipeline.record, texts)
    if edit is None:
        return Mending(fields)
    with edit.open("rb") as lines:
        return Mending(fields, edits(lines))


def _joined(said: Any) -> str:
    return ", ".join(said) if isinstance(said, tuple) else str(said)


def _printable(text: str) -> str:
    """The text on one line; what could steer a terminal stands as an escape."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _text(held: bytes | None) -> str:
    """Bytes as text for people: in hex when they are no UTF-8."""
    from penstock.pipeline.export import utf8

    if held is None:
        return "(null)"
    text = utf8(held)
    return _cut(held.hex(" ") if text is None else _printable(text))


def _cut(text: str) -> str:
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    return text[:_SHOWN_CHARACTERS] + "\n... all of it: ./penstock dlq export"


def _shown_value(letter: "Letter", value: dict[str, Any] | None) -> str:
    import msgspec

    from penstock.broker.frame import FRAME_BYTES, is_framed

    if letter.left_out and "value" in letter.left_out.parts:
        return (
            f"value, {letter.value_bytes} bytes, too large for the dead-letter topic: the record is {letter.original}"
        )
    held = letter.value or b""
    size = f"value, {len(held)} bytes"
    if is_framed(held):
        size += f", frame {held[:FRAME_BYTES].hex(' ')}"
    if value is None:
        return f"{size}:\n{_text(held[FRAME_BYTES:] if is_framed(held) else letter.value)}"
    pretty = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    return f"{size}, its fields:\n{_cut(chr(10).join(map(_printable, pretty.split(chr(10)))))}"


def _next(place: str, state: str) -> str:
    if state != "waiting":
        return "./penstock dlq list --all"
    mend = f"./penstock dlq redrive --place {place} --set FIELD=VALUE --dry-run"
    return f"{mend}\n      ./penstock dlq discard --place {place}"


@contextmanager
def _written(file: str) -> Iterator[BinaryIO]:
    """Where to write; a file is there as a whole at the end or not at all, and its owner alone can read it."""
    from penstock.errors import WrongUse

    if file == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(file)
    if path.is_dir() or not path.parent.is_dir():
        raise WrongUse(f"{file} is a folder, or its folder is not there", hint="./penstock dlq export FILE")
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as out:
            yield out
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def _print_outcomes(done: "Outcomes", names: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        print_json(done)
        return
    if not done.selected:
        talk("nothing to do: no rejected record fits; all of them: ./penstock dlq list --all")
        return
    counts = [(name.replace("_", " "), getattr(done, name)) for name in ("selected", *names)]
    typer.echo(table(("records", "dry run" if done.dry_run else ""), counts))
    if done.in_hand:
        talk("in hand: another command is sending them, or was interrupted; try again in a minute or two")
    for one in done.records:
        if done.dry_run or one.outcome not in ("sent", "discarded"):
            told = f"{one.place} {one.outcome.replace('_', ' ')}: {one.message}"
            typer.echo(_printable(told.removesuffix(": ")))
