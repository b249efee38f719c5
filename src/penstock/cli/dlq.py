"""`penstock dlq`: show, export, redrive or discard dead letters."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from penstock.cli.text import format_table, print_json, print_progress
from penstock.files import open_atomically

if TYPE_CHECKING:
    from penstock.config import Settings
    from penstock.dead_letters.message import DeadLetter
    from penstock.dead_letters.pending import DeadLetterGroup, DeadLetterSelection, Outcomes
    from penstock.dead_letters.repair import Repair
    from penstock.pipelines import Pipeline

group = typer.Typer(no_args_is_help=True, help="Dead letters: show, repair, redrive or discard them.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Reasons = Annotated[list[str] | None, typer.Option("--reason", metavar="R", help="Select by reason; repeatable.")]
Places = Annotated[
    list[str] | None, typer.Option("--place", metavar="P:O", help="Select by PARTITION:OFFSET, see list; repeatable.")
]
Rule = Annotated[str, typer.Option(metavar="CODE", help="Select by the start of a violated rule, e.g. email:pattern.")]
Run = Annotated[str, typer.Option(metavar="ID", help="Select by the run that produced them.")]
_SHOWN_CHARACTERS = 20_000
_CELL_CHARACTERS = 60


def register(app: typer.Typer) -> None:
    """Add the group `dlq` to `app`."""
    app.add_typer(group, name="dlq")


@group.command("list")
def list_(
    reason: Reasons = None,
    everything: Annotated[bool, typer.Option("--all", help="Include groups with nothing pending.")] = False,
    as_json: AsJson = False,
) -> None:
    """Count dead letters by reason and rules, without values."""
    from penstock.dead_letters.pending import group_by_reason

    with _open_queue() as queue:
        groups = group_by_reason(queue.letters(_build_selection(reason)), queue.lines)
    shown = [group for group in groups if everything or group.waiting]
    if as_json:
        print_json(shown)
    elif shown:
        heads = ("reason", "rules", "waiting", "redriven", "superseded", "discarded", "first", "last", "example")
        typer.echo(format_table(heads, [_group_cells(group) for group in shown]))
        print_progress(f"\nNext: ./penstock dlq show {shown[0].place}")
    if not shown:
        print_progress("no pending dead letters" + ("; for all of them: ./penstock dlq list --all" if groups else ""))


def _group_cells(group: "DeadLetterGroup") -> tuple[Any, ...]:
    rules = ",".join(group.rules)
    shown_rules = rules if len(rules) <= _CELL_CHARACTERS else rules[: _CELL_CHARACTERS - 3] + "..."
    times = (f"{moment:%Y-%m-%dT%H:%M:%SZ}" for moment in (group.first, group.last))
    counts = group.waiting, group.redriven, group.superseded, group.discarded
    return group.reason, shown_rules, *counts, *times, group.place


@group.command()
def show(
    place: Annotated[str, typer.Argument(metavar="PLACE", help="PARTITION:OFFSET, see list.")], as_json: AsJson = False
) -> None:
    """Show a dead letter with its violations, headers and value."""
    from penstock.dead_letters import export
    from penstock.errors import RegistryUnreachable

    with _open_queue() as queue:
        letter = queue.letter(place)
        facts = export.facts(letter, queue.lines)
        value = None
        with suppress(RegistryUnreachable):  # without the registry, the bytes are shown
            value = queue.value(letter)
    if as_json:
        print_json(facts | export.content(letter, value))
        return
    cells = [(name, _escape_text(_format_fact(fact))) for name, fact in facts.items() if fact not in (None, "", [])]
    typer.echo(format_table(("record", ""), [*cells, ("key", _format_bytes(letter.key))]))
    if letter.headers:
        headers = [(_escape_text(name), _format_bytes(content)) for name, content in letter.headers]
        typer.echo("\n" + format_table(("header", ""), headers))
    typer.echo(f"\n{_format_value(letter, value)}")
    print_progress(f"\nNext: {_suggest_next(place, facts['state'])}")


@group.command()
def export(
    file: Annotated[str, typer.Argument(metavar="FILE", help="File to write; - for stdout.")],
    reason: Reasons = None,
    everything: Annotated[bool, typer.Option("--all", help="Include dead letters that are no longer pending.")] = False,
) -> None:
    """Export pending dead letters as JSON lines, including personal data.

    To repair them, edit `value` and pass the file to redrive --edit. Only you can read the file.
    """
    from penstock.dead_letters.export import line
    from penstock.dead_letters.resolutions import WAITING, state_of

    written = 0
    with _open_queue() as queue, _open_export(file) as out:
        for letter in queue.letters(_build_selection(reason)):
            if everything or state_of(letter.identity, queue.lines) == WAITING:
                out.write(line(letter, queue.lines, queue.value(letter)))
                written += 1
    print_progress(f"{written} dead letters written to {'stdout' if file == '-' else file}")


@group.command()
def redrive(
    reason: Reasons = None,
    rule: Rule = "",
    place: Places = None,
    run: Run = "",
    fields: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="F=V", help="Set a field, or a path such as items[3].price, to a value; repeatable."
        ),
    ] = None,
    edit: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, metavar="FILE", help="Edited export with new values.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Maximum number of records to send.")] = None,
    as_new: Annotated[
        bool, typer.Option("--as-new", help="Send each as the newest version of its id, even if a newer one is stored.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be sent, without sending.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send pending dead letters to the topic again, exactly once. All, or those selected.

    Each keeps its original position in the order of the topic. If a newer version of its id is stored, it is not sent
    but marked superseded. Records that would be rejected again are not sent: they are reported with their violations
    and stay pending. A repaired record contains only fields of the pipeline's record.
    """
    from penstock.dead_letters.redrive import redrive

    with _open_queue() as queue:
        selection = _build_selection(reason, rule, place, run, limit)
        mending = _read_repair(queue.pipeline, fields or [], edit)
        done = redrive(queue.settings, queue.session, selection, mending, dry_run=dry_run, as_new=as_new)
    _print_outcomes(done, ("sent", "superseded", "still_broken", "in_hand", "already"), as_json)


@group.command()
def discard(
    reason: Reasons = None,
    place: Places = None,
    everything: Annotated[bool, typer.Option("--all", help="Select all pending dead letters.")] = False,
    note: Annotated[str, typer.Option(metavar="TEXT", help="Reason; stored with user and time.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Discard pending dead letters permanently. Asks for confirmation.

    They stay in the dead-letter topic until Kafka deletes them, and are never sent.
    """
    from penstock.dead_letters.redrive import discard
    from penstock.errors import UsageError

    if everything == bool(reason or place):
        raise UsageError(
            "invalid selection: expected --reason or --place, or --all alone",
            hint="./penstock dlq list",
        )
    with _open_queue() as queue:
        selection = _build_selection(reason, place=place)
        done = discard(queue.settings, queue.session, selection, note, dry_run=True)
        if done.discarded:
            if not yes:
                question = f"Discard {done.discarded} dead letters of {queue.pipeline.topic} permanently?"
                typer.confirm(question, abort=True, err=True)
            done = discard(queue.settings, queue.session, selection, note)
    done.dry_run = False
    _print_outcomes(done, ("discarded", "in_hand", "already"), as_json)


class _Queue:
    """The pipeline's dead letters, with their states in Cassandra."""

    def __init__(self, settings: "Settings", pipeline: "Pipeline", session: Any) -> None:
        from penstock.broker.registry import Registry
        from penstock.codec.avro import AvroReaders
        from penstock.dead_letters import resolutions
        from penstock.sink import cassandra

        self.settings, self.pipeline, self.session = settings, pipeline, session
        self.lines = resolutions.read_resolutions(session, cassandra.keyspace_of(settings, pipeline), pipeline.topic)
        self._readers = AvroReaders(Registry(settings))

    def letters(self, selection: "DeadLetterSelection") -> "Iterator[DeadLetter]":
        """Return the selected records, pending or not."""
        from penstock.dead_letters.pending import selected

        return selected(self.settings, self.pipeline, selection)

    def letter(self, place: str) -> "DeadLetter":
        """Return the record at a position. Raises `UsageError` if there is none."""
        return next(self.letters(_build_selection(place=[place])))

    def value(self, letter: "DeadLetter") -> dict[str, Any] | None:
        """Decode the fields of a record's value, if possible."""
        from penstock.dead_letters.export import read_letter_fields

        return read_letter_fields(letter, self._readers, self.pipeline)


@contextmanager
def _open_queue() -> Iterator[_Queue]:
    from penstock import config, pipelines
    from penstock.sink import cassandra

    settings = config.load()
    pipeline = pipelines.of(settings)
    with cassandra.open_session(settings) as session:
        yield _Queue(settings, pipeline, session)


def _build_selection(
    reason: Sequence[str] | None = None,
    rule: str = "",
    place: Sequence[str] | None = None,
    run: str = "",
    limit: int | None = None,
) -> "DeadLetterSelection":
    from penstock.dead_letters.pending import DeadLetterSelection

    return DeadLetterSelection(frozenset(reason or ()), rule, frozenset(place or ()), run, limit)


def _read_repair(pipeline: "Pipeline", texts: list[str], edit: Path | None) -> "Repair":
    from penstock.dead_letters.repair import Repair, assignments, edits

    fields = assignments(pipeline.record, texts)
    if edit is None:
        return Repair(fields)
    with edit.open("rb") as lines:
        return Repair(fields, edits(lines, pipeline.number_reader))


def _format_fact(fact: Any) -> str:
    return ", ".join(fact) if isinstance(fact, tuple) else str(fact)


def _escape_text(text: str) -> str:
    """Escape control characters and line breaks of a text."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _format_bytes(content: bytes | None) -> str:
    """Format bytes as text, or as hex if they are not UTF-8."""
    from penstock.dead_letters.export import utf8

    if content is None:
        return "(null)"
    text = utf8(content)
    return _truncate_text(content.hex(" ") if text is None else _escape_text(text))


def _truncate_text(text: str) -> str:
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    return text[:_SHOWN_CHARACTERS] + "\n... truncated; for the rest: ./penstock dlq export"


def _format_value(letter: "DeadLetter", value: dict[str, Any] | None) -> str:
    import msgspec

    from penstock.codec.wire_format import split_header
    from penstock.contract.json_numbers import encode_json

    if letter.left_out and "value" in letter.left_out.parts:
        return (
            f"value, {letter.value_bytes} bytes, too large for the dead-letter topic: the record is {letter.original}"
        )
    content = letter.value or b""
    size = f"value, {len(content)} bytes"
    header, body = split_header(content)
    if header:
        size += f", wire-format header {header.hex(' ')}"
    if value is None:
        return f"{size}:\n{_format_bytes(body if header else letter.value)}"
    pretty = msgspec.json.format(encode_json(value), indent=2).decode()
    return f"{size}, its fields:\n{_truncate_text(chr(10).join(map(_escape_text, pretty.split(chr(10)))))}"


def _suggest_next(place: str, state: str) -> str:
    if state != "waiting":
        return "./penstock dlq list --all"
    command = f"./penstock dlq redrive --place {place} --set FIELD=VALUE --dry-run"
    return f"{command}\n      ./penstock dlq discard --place {place}"


@contextmanager
def _open_export(file: str) -> Iterator[BinaryIO]:
    """Open the export for writing. A file appears atomically at the end, and only its owner can read it."""
    from penstock.errors import UsageError

    if file == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(file)
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(
            f"cannot write {file}: it is a folder, or its folder does not exist", hint="./penstock dlq export FILE"
        )
    with open_atomically(path) as out:
        yield out


_OUTCOMES = {"in_hand": "in flight", "still_broken": "still invalid", "already": "already resolved"}
"""Labels of the outcomes whose JSON names differ."""


def _format_outcome(name: str) -> str:
    return _OUTCOMES.get(name, name)


def _print_outcomes(done: "Outcomes", names: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        print_json(done)
        return
    if not done.selected:
        print_progress("nothing to do: no dead letter matches; for all of them: ./penstock dlq list --all")
        return
    counts = [(_format_outcome(name), getattr(done, name)) for name in ("selected", *names)]
    typer.echo(format_table(("records", "dry run" if done.dry_run else ""), counts))
    if done.in_hand:
        print_progress("in flight: another command is sending them or was interrupted; try again in two minutes")
    for record in done.records:
        if done.dry_run or record.outcome not in ("sent", "discarded"):
            line = f"{record.place} {_format_outcome(record.outcome)}: {record.message}"
            typer.echo(_escape_text(line.removesuffix(": ")))
