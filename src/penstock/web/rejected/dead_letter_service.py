"""Actions on rejected records: dry run, redrive, discard, export. They behave as in `./penstock dlq`."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from penstock import remedies
from penstock.codec.avro import AvroReaders
from penstock.codec.encode import build_serializer
from penstock.codec.values import read_fields
from penstock.contract.proofs import Proven
from penstock.dead_letters import redrive as redriving
from penstock.dead_letters.export import line, read_letter_fields, utf8
from penstock.dead_letters.message import DeadLetter, DeadLetterSummary
from penstock.dead_letters.original import with_original
from penstock.dead_letters.pending import DeadLetterSelection
from penstock.dead_letters.redrive import Discarded, Redriven
from penstock.dead_letters.repair import Edit, Repair, Repairer, StillInvalid, assignments
from penstock.errors import PenstockError, UsageError
from penstock.sink import cassandra
from penstock.sink.key_formats import proven_by_now
from penstock.web.app_context import AppContext
from penstock.web.rejected.reader import (
    UNKNOWN,
    DeadLetterDetails,
    RejectedReader,
    describe_letter,
    format_json,
)

EXPORTED_AT_MOST = 10_000
EXPORTED_BYTES = 16 * 1024 * 1024
_RULE_TEXT = "the value is not a JSON object: {}"


@dataclass(frozen=True)
class Exported:
    """An export as JSON lines. `left_out` counts requested records omitted because of the size limits."""

    content: bytes
    records: int
    left_out: int


def _select_positions(places: Iterable[str]) -> DeadLetterSelection:
    """Return the selection of these positions. Raises `UsageError` if empty: an empty one means all records."""
    chosen = frozenset(places)
    if not chosen:
        raise UsageError("no dead letter is selected", hint=remedies.list_dead_letters())
    return DeadLetterSelection(places=chosen)


class DeadLetterService:
    """Dead-letter queue access for all pages. Each redrive or discard opens its own Cassandra session and closes it."""

    def __init__(self, context: AppContext) -> None:
        self._context = context
        self.queue = RejectedReader(context.settings, context.pipeline)

    def read_letter(self, place: str) -> DeadLetter:
        """Return the dead letter at a position (`PARTITION:OFFSET`). Raises `UsageError` if there is none."""
        partition, _, offset = place.partition(":")
        return self.queue.read_letter(int(partition), int(offset))

    def describe(self, letter: DeadLetter, *, personal: bool) -> tuple[DeadLetterDetails, PenstockError | None]:
        """Return all that is known about a dead letter, and the error of Cassandra, if any.

        Cassandra holds the record's resolution. If it is unavailable, the state is unknown.
        """
        context, line, error = self._context, None, None
        try:
            line = self.queue.read_resolution(context.cassandra(), letter)
        except PenstockError as raised:
            error = raised
        state = UNKNOWN if error else ""
        return describe_letter(
            letter, line, context.pipeline.record, context.registry, personal=personal, state=state
        ), error

    def set_fields(self, texts: Iterable[str]) -> Repair:
        """Parse `FIELD=VALUE` texts into a repair, as `--set` does. Raises `UsageError` if invalid or empty."""
        given = [text for text in texts if text.strip()]
        if not given:
            raise UsageError("no field is selected", hint="select a field and enter its value")
        return Repair(assignments(self._context.pipeline.record, given))

    def parse_edit(self, letter: DeadLetter, text: str) -> Repair:
        """Return the repair that replaces one record's value. Raises `UsageError` unless `text` is a JSON object."""
        try:
            value: Any = msgspec.json.Decoder(float_hook=self._context.pipeline.number_reader).decode(text.encode())
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
            raise UsageError(_RULE_TEXT.format(error)) from None
        if read_fields(text.encode(), AvroReaders(self._context.registry), self._context.pipeline.record) is None:
            raise UsageError(_RULE_TEXT.format("it is a list or a scalar, or has a duplicate field"))
        return Repair(edits={letter.place: Edit(1, letter.place, letter.identity, value)})

    def find_violation(self, letter: DeadLetter, mending: Repair) -> StillInvalid | None:
        """Return why the repaired record would be dead-lettered again, or None if it would be stored. Sends nothing."""
        pipeline, settings = self._context.pipeline, self._context.settings
        serialize = build_serializer(pipeline.record, settings.wire_format, 0)
        whole = with_original(settings, pipeline, letter)

        def proven() -> Proven:
            return proven_by_now(settings, self._context.cassandra(), pipeline)

        outgoing = Repairer(pipeline, self._context.registry, mending, serialize, proven).outgoing(whole)
        return outgoing if isinstance(outgoing, StillInvalid) else None

    def redrive(
        self, places: Iterable[str], mending: Repair, *, as_new: bool = False, dry_run: bool = False
    ) -> Redriven:
        """Redrive the records at these positions and return the result. With `dry_run`, send nothing."""
        selection = _select_positions(places)
        with cassandra.open_session(self._context.settings) as session:
            return redriving.redrive(
                self._context.settings, session, selection, mending, dry_run=dry_run, as_new=as_new
            )

    def discard(self, places: Iterable[str], note: str) -> Discarded:
        """Discard the records at these positions and return the result."""
        selection = _select_positions(places)
        with cassandra.open_session(self._context.settings) as session:
            return redriving.discard(self._context.settings, session, selection, note)

    def export(self, entries: list[DeadLetterSummary]) -> Exported:
        """Export the records as JSON lines, personal data unmasked."""
        wanted = entries[:EXPORTED_AT_MOST]
        lines = self.queue.read_listing(self._context.cassandra).lines
        readers = AvroReaders(self._context.registry)
        exported, size_bytes = [], 0
        for letter in self.queue.read_letters((entry.partition, entry.offset) for entry in wanted):
            exported.append(line(letter, lines, read_letter_fields(letter, readers, self._context.pipeline)))
            size_bytes += len(exported[-1])
            if size_bytes > EXPORTED_BYTES:
                break
        return Exported(b"".join(exported), len(exported), len(entries) - len(exported))

    def format_editable(self, letter: DeadLetter) -> str:
        """Return the record for editing: its fields as JSON, else its bytes as text; empty if they are not UTF-8."""
        value = read_letter_fields(letter, AvroReaders(self._context.registry), self._context.pipeline)
        if value is None:
            return utf8(letter.value) or ""
        return format_json(value)
