"""Send dead-lettered records again, repaired if necessary, or discard them.

A redriven record keeps its place in the order of the topic (`precedence`): it does not overwrite a newer
version of its id. If such a version is stored already, the record is not sent: it is superseded.

Delivery: exactly once per record, across crashes and concurrent commands. A record is claimed before it is sent, and
marked redriven when it is acknowledged. An abandoned claim is first looked up in the topic.
"""

import time
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any

from cassandra.cluster import Session
from confluent_kafka import KafkaError, Message, Producer

from penstock import remedies
from penstock.broker import topics
from penstock.broker.headers import ORDER, REDRIVEN
from penstock.broker.kafka import create_producer, produce_record
from penstock.broker.registry import Registry
from penstock.broker.topics import Position
from penstock.codec.encode import Serialize, build_serializer
from penstock.config import Settings, current_user
from penstock.contract.identity import identity_of
from penstock.contract.record import Headers, Record
from penstock.dead_letters.message import DeadLetter
from penstock.dead_letters.original import with_original
from penstock.dead_letters.pending import CHUNK_LETTERS, DeadLetterSelection, Free, Outcomes, Queue
from penstock.dead_letters.precedence import Destination, Precedence
from penstock.dead_letters.repair import Outgoing, Repair, Repairer, StillInvalid
from penstock.dead_letters.resolutions import State
from penstock.errors import DeliveryFailed, UsageError
from penstock.log import get_logger
from penstock.sink.key_formats import proven_by_now

log = get_logger(__name__)


@dataclass
class Redriven(Outcomes):
    """The result of a redrive or of its dry run."""

    sent: int = 0
    superseded: int = 0
    """Not sent, because a newer version of its id is stored."""
    still_broken: int = 0
    """Not sent and still pending, because it would be dead-lettered again."""


@dataclass
class Discarded(Outcomes):
    """The result of a discard or of its dry run."""

    discarded: int = 0


def redrive(
    settings: Settings,
    session: Session,
    selection: DeadLetterSelection,
    repair: Repair,
    *,
    dry_run: bool = False,
    as_new: bool = False,
) -> Redriven:
    """Send the selected pending records, repaired, to the pipeline's topic. A dry run changes nothing.

    With `as_new` each is the newest version of its id, whatever was stored since it was rejected. Raises `UsageError`
    for an invalid place or line of the edit file; `DeliveryFailed` if a record was not acknowledged: it stays claimed,
    and the next redrive determines whether it was sent.
    """
    return _Redrive(settings, session, selection, repair, Redriven(dry_run), as_new=as_new).carry_out()


def discard(
    settings: Settings, session: Session, selection: DeadLetterSelection, note: str = "", *, dry_run: bool = False
) -> Discarded:
    """Discard the selected pending records for good, recording who, when and `note`. A dry run changes nothing."""
    done = Discarded(dry_run)
    queue = Queue(settings, session, selection, done)
    claim, who = uuid.uuid4(), current_user()
    while letters := queue.next(CHUNK_LETTERS):
        free = queue.free(letters)
        ours = set(free.letters) if dry_run else queue.book.discard(free.claims, claim, who, note)
        for identity, letter in _filter_claimed(free.letters, ours, done).items():
            done.note("discarded", letter)
            if not dry_run:
                log.info("record_discarded", place=letter.place, identity=identity, who=who, note=note)
    return done


def _filter_claimed(letters: dict[str, DeadLetter], ours: Collection[str], done: Outcomes) -> dict[str, DeadLetter]:
    """Return those of `letters` that are `ours`. The rest, which another command claimed first, are noted."""
    for identity in letters.keys() - set(ours):
        done.note("in_hand", letters[identity], "another command took it just now")
    return {identity: letter for identity, letter in letters.items() if identity in ours}


class _Redrive:
    """One redrive: its clients and its outcomes."""

    def __init__(
        self,
        settings: Settings,
        session: Session,
        selection: DeadLetterSelection,
        repair: Repair,
        done: Redriven,
        *,
        as_new: bool,
    ) -> None:
        self._settings = settings
        self._limit = selection.limit
        self._done = done
        self._queue = Queue(settings, session, selection, done, repair.edits)
        self._pipeline = self._queue.pipeline
        self._key_is_set = repair.fields.keys() >= set(identity_of(self._pipeline.record).names)
        self._new_ids: set[Any] = set()
        """The ids of repaired records that they did not have before."""
        self._registry = Registry(settings)
        proven = cache(partial(proven_by_now, settings, session, self._pipeline))
        self._repairer = Repairer(self._pipeline, self._registry, repair, self._serialize_record, proven)
        self._precedence = Precedence(settings, session, self._pipeline, as_new=as_new)
        self._claim = uuid.uuid4()

    def _serialize_record(self, record: Record) -> bytes:
        return self._serializer(record)

    @cached_property
    def _serializer(self) -> Serialize:
        """Return the producer's serializer. A dry run registers no schema."""
        record, wire_format = self._pipeline.record, self._settings.wire_format
        schema_id = 0 if self._done.dry_run else self._registry.register(self._pipeline.subject, record, wire_format)
        return build_serializer(record, wire_format, schema_id)

    @cached_property
    def _producer(self) -> Producer:
        topics.ensure_pipeline_topics(self._settings, self._pipeline)
        return create_producer(self._settings)

    def carry_out(self) -> Redriven:
        while letters := self._queue.next(self._compute_chunk_size()):
            self._check_key(letters)
            free = self._with_originals(self._queue.free(letters))
            ready = self._prepare_messages(free)
            destinations = {
                identity: self._precedence.destination(free.letters[identity], outgoing)
                for identity, outgoing in ready.items()
            }
            self._close_superseded(free, self._precedence.newer(ready, destinations), ready)
            if self._done.dry_run:
                self._note_sent(free, dict.fromkeys(ready))
            elif ready:
                self._send_records(free, ready, destinations)
        return self._done

    def _close_superseded(self, free: Free, newer: dict[str, Position], ready: dict[str, Outgoing]) -> None:
        """Mark the records with a newer version in the table as superseded, and remove them from `ready`."""
        for identity in newer:
            del ready[identity]
        letters = {identity: free.letters[identity] for identity in newer}
        if letters and not self._done.dry_run:
            claims = {identity: free.claims[identity] for identity in newer}
            letters = _filter_claimed(
                letters, self._queue.book.claim(claims, self._claim, current_user(), free.ends), self._done
            )
            places = {identity: newer[identity] for identity in letters}
            self._queue.book.finish(places, self._claim, State.SUPERSEDED)
        for identity, letter in letters.items():
            self._done.note("superseded", letter, f"a newer version of its id is stored, from {newer[identity]}")

    def _with_originals(self, free: Free) -> Free:
        """Return the letters with the parts that were left out of them, if the topic still has those."""
        whole = {
            identity: with_original(self._settings, self._pipeline, letter) for identity, letter in free.letters.items()
        }
        return free._replace(letters=whole)

    def _note_sent(self, free: Free, places: Mapping[str, Position | None]) -> None:
        for identity, place in places.items():
            self._done.note("sent", free.letters[identity], f"to {place or self._pipeline.topic}")

    def _check_key(self, letters: list[DeadLetter]) -> None:
        """Raise `UsageError` if several records would get one id, because they would become a single row."""
        if self._key_is_set and len(letters) + self._done.sent > 1:
            raise _build_one_id_error()

    def _compute_chunk_size(self) -> int:
        """Return how many letters the next chunk may have."""
        return CHUNK_LETTERS if self._limit is None else min(CHUNK_LETTERS, self._limit - self._done.sent)

    def _prepare_messages(self, free: Free) -> dict[str, Outgoing]:
        """Return the messages to send by identity, and note the records that are still invalid."""
        ready: dict[str, Outgoing] = {}
        for identity, letter in free.letters.items():
            outgoing = self._repairer.outgoing(letter)
            if isinstance(outgoing, StillInvalid):
                self._done.note("still_broken", letter, outgoing.message, outgoing.rules)
            else:
                self._check_new_id(outgoing)
                ready[identity] = outgoing
        return ready

    def _check_new_id(self, outgoing: Outgoing) -> None:
        """Raise `UsageError` if an id, of which some fields were set, is that of another repaired record."""
        if not outgoing.keeps_id:
            if outgoing.record_id in self._new_ids:
                raise _build_one_id_error()
            self._new_ids.add(outgoing.record_id)

    def _send_records(self, free: Free, ready: dict[str, Outgoing], destinations: Mapping[str, Destination]) -> None:
        """Claim and send records, and mark acknowledged ones as redriven. Raises `DeliveryFailed` if some were not."""
        client, began_s = self._producer, time.monotonic()
        claims = {identity: free.claims[identity] for identity in ready}
        ours = self._queue.book.claim(claims, self._claim, current_user(), free.ends)
        letters = _filter_claimed({identity: free.letters[identity] for identity in ready}, ours, self._done)
        if time.monotonic() - began_s > self._settings.kafka_timeout_s:
            raise self._build_delivery_error(len(letters), "claiming them took too long")
        delivery = _Delivery()
        for identity, letter in letters.items():
            to, outgoing = destinations[identity], ready[identity]
            report = partial(delivery.note, identity)
            headers = _build_headers(letter, to.header)
            produce_record(client, self._pipeline.topic, outgoing.key, outgoing.value, headers, report, to.partition)
        client.flush(self._settings.kafka_timeout_s)
        self._queue.book.finish(delivery.places, self._claim)
        self._note_sent(free, delivery.places)
        log.info("records_redriven", topic=self._pipeline.topic, records=len(delivery.places))
        if len(delivery.places) < len(letters):
            raise self._build_delivery_error(len(letters) - len(delivery.places), delivery.failure)

    def _build_delivery_error(self, records: int, why: str) -> DeliveryFailed:
        wait_s = 2 * self._settings.kafka_timeout_s
        return DeliveryFailed(
            f"{self._pipeline.topic}: {records} records were claimed and not acknowledged: {why}",
            hint=f"{remedies.show_status('kafka')}, and in {wait_s:.0f} s {remedies.redrive_dead_letters()} again: "
            "none is sent twice",
        )


class _Delivery:
    """Kafka's acknowledgements: the new position of each record, by identity, and the last failure."""

    def __init__(self) -> None:
        self.places: dict[str, Position] = {}
        self.failure = "no answer"

    def note(self, identity: str, error: KafkaError | None, message: Message) -> None:
        """Record one delivery report."""
        if error is None:
            self.places[identity] = Position(message.partition(), message.offset())
        else:
            self.failure = f"{error.name()}: {error.str()}"


def _build_one_id_error() -> UsageError:
    return UsageError("the id identifies the row: it can be set for one record at a time", hint=remedies.redrive_one())


def _build_headers(letter: DeadLetter, kept: bytes | None) -> Headers:
    """Return the record's own headers, plus those for the place it keeps and the link to its original."""
    own = [(name, value) for name, value in letter.headers if name not in (ORDER, REDRIVEN)]
    order: Headers = [] if kept is None else [(ORDER, kept)]
    return [*order, *own, (REDRIVEN, letter.identity.encode())]
