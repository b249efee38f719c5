"""What can be done on the page with rejected records: try, send, give up, export. As `./penstock dlq` does it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.broker.dlq import Letter
from penstock.control.desk import Desk
from penstock.errors import PenstockError, WrongUse
from penstock.observe.rejected import UNKNOWN, Account, Entry, Rejected, account, pretty
from penstock.pipeline import redrive as redriving
from penstock.pipeline.export import line, utf8
from penstock.pipeline.mend import Edit, Mender, Mending, StillBroken, assignments, value_of
from penstock.pipeline.original import with_original
from penstock.pipeline.redrive import Discarded, Redriven
from penstock.pipeline.waiting import Selection
from penstock.process.writer import Writers
from penstock.produce.serialize import serializer
from penstock.sink import cassandra

EXPORTED_AT_MOST = 10_000
EXPORTED_BYTES = 16 * 1024 * 1024
_RULE_TEXT = "the value is no JSON object: {}"


@dataclass(frozen=True)
class Exported:
    """The lines of an export, and how many of the wanted records are not in it, because it would grow too large."""

    content: bytes
    records: int
    left_out: int


def _these(places: Iterable[str]) -> Selection:
    """The selection of these places alone. Raises `WrongUse` for none, since a selection without places is of all."""
    found = frozenset(places)
    if not found:
        raise WrongUse("no rejected record is chosen", hint="./penstock dlq list")
    return Selection(places=found)


class Letters:
    """Reads the queue for every page, and acts on it with connections of its own, each as long as the deed."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.queue = Rejected(desk.settings, desk.pipeline)

    def letter(self, place: str) -> Letter:
        """The letter at a place. Raises `WrongUse` when there is none."""
        partition, _, offset = place.partition(":")
        return self.queue.letter(int(partition), int(offset))

    def account(self, letter: Letter, *, personal: bool) -> tuple[Account, PenstockError | None]:
        """All that is known of a letter; and what is wrong with Cassandra, which knows what became of it."""
        desk, line, error = self._desk, None, None
        try:
            line = self.queue.line(desk.cassandra(), letter)
        except PenstockError as raised:
            error = raised
        state = UNKNOWN if error else ""
        return account(letter, line, desk.pipeline.record, desk.registry, personal=personal, state=state), error

    def set_fields(self, texts: Iterable[str]) -> Mending:
        """The mending that gives fields these values, as `--set` does. Raises `WrongUse` for a wrong one."""
        found = [text for text in texts if text.strip()]
        if not found:
            raise WrongUse("no field is set", hint="choose a field, and type its value")
        return Mending(assignments(self._desk.pipeline.record, found))

    def edited(self, letter: Letter, text: str) -> Mending:
        """The mending that gives one record a value. Raises `WrongUse` when the text is no JSON object."""
        try:
            value: Any = msgspec.json.decode(text.encode())
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
            raise WrongUse(_RULE_TEXT.format(error)) from None
        if value_of(text.encode(), Writers(self._desk.registry)) is None:
            raise WrongUse(_RULE_TEXT.format("it is a list or a bare value, or names a field twice"))
        return Mending(edits={letter.place: Edit(1, letter.place, letter.identity, value)})

    def broken(self, letter: Letter, mending: Mending) -> StillBroken | None:
        """Why the record, mended so, would be set aside again; None: it would be stored. Nothing is sent."""
        pipeline, settings = self._desk.pipeline, self._desk.settings
        serialize = serializer(pipeline.record, settings.wire_format, 0)
        whole = with_original(settings, pipeline, letter)
        found = Mender(pipeline, self._desk.registry, mending, serialize).outgoing(whole)
        return found if isinstance(found, StillBroken) else None

    def redrive(self, places: Iterable[str], mending: Mending, *, dry_run: bool = False) -> Redriven:
        """What a redrive of these places did, or would do."""
        selection = _these(places)
        with cassandra.connected(self._desk.settings) as session:
            return redriving.redrive(self._desk.settings, session, selection, mending, dry_run=dry_run)

    def discard(self, places: Iterable[str], note: str) -> Discarded:
        """What giving up these places did."""
        selection = _these(places)
        with cassandra.connected(self._desk.settings) as session:
            return redriving.discard(self._desk.settings, session, selection, note)

    def export(self, entries: list[Entry]) -> Exported:
        """The records as `./penstock dlq export` writes them, personal data and all."""
        wanted = entries[:EXPORTED_AT_MOST]
        lines = self.queue.listing(self._desk.cassandra).lines
        writers = Writers(self._desk.registry)
        held, size_bytes = [], 0
        for letter in self.queue.letters((one.partition, one.offset) for one in wanted):
            held.append(line(letter, lines, value_of(letter.value, writers)))
            size_bytes += len(held[-1])
            if size_bytes > EXPORTED_BYTES:
                break
        return Exported(b"".join(held), len(held), len(entries) - len(held))

    def text(self, letter: Letter) -> str:
        """The record as it can be edited: its fields as JSON, or its bytes as text; empty when they are none."""
        found = value_of(letter.value, Writers(self._desk.registry))
        if found is None:
            return utf8(letter.value) or ""
        return pretty(found)
