"""Messages of a topic, page by page: newest first, or from an offset or a time on; optionally filtered.

No search examines more than `SEARCHED_RECORDS` messages or takes much longer than `SEARCH_S`. It returns where to
continue.
"""

import heapq
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any, Literal

from confluent_kafka import Consumer, KafkaException, Message
from confluent_kafka.admin import AdminClient

from penstock.broker import topics
from penstock.broker.kafka import create_reader, translate_error
from penstock.broker.topics import OffsetRange
from penstock.config import Settings
from penstock.errors import UsageError
from penstock.monitoring.services import TIMEOUT_S
from penstock.web.topics.content import MessageRenderer, ShownMessage
from penstock.web.topics.inventory import read_ranges

MOST = 500
"""Maximum number of messages per page."""
SEARCH_S = 5.0
SEARCHED_RECORDS = 50_000
_FIRST_RECORDS = 20
_CHUNK_RECORDS = 2000
_CHUNK_BYTES = 8 * 1024 * 1024
_SPARSE_OFFSETS = 50_000
_MOST_HIT_BYTES = 32 * 1024 * 1024
_MISSING = object()
_FETCHES = {
    "queued.min.messages": 1000,
    "queued.max.messages.kbytes": 1024,
    "fetch.message.max.bytes": 131_072,
    "fetch.queue.backoff.ms": 10,
}
"""Little is prefetched: a search jumps between positions, and what follows each of them is not needed."""

Start = Literal["newest", "offset", "time"]


@dataclass(frozen=True)
class MessageQuery:
    """A message search: filters, and where to start. Empty strings and None match everything.

    `field` may be a path, e.g. `address.city`; its value is compared in JSON form, without quotes.
    """

    start: Start = "newest"
    partition: int | None = None
    offset: int | None = None
    time: datetime | None = None
    key: str = ""
    text: str = ""
    field: str = ""
    value: str = ""
    most: int = 50
    go_on: str = ""
    """Where the previous search ended: the `go_on` of its result."""

    @property
    def searches(self) -> bool:
        """Return whether the messages are filtered."""
        return bool(self.key or self.text or self.field)


@dataclass(frozen=True)
class MessagePage:
    """A page of messages. `looked_through` counts the messages examined; `go_on` is empty if there are no more."""

    messages: list[ShownMessage]
    looked_through: int
    took_ms: int
    go_on: str


class Walk:
    """Reads one partition in chunks, backwards from its end or forwards from its first offset."""

    def __init__(
        self,
        offset_range: OffsetRange,
        read: Callable[[OffsetRange], Iterable[Message]],
        *,
        backwards: bool,
        first: int,
        until_s: float,
    ) -> None:
        """Start a walk. `first` is the size of the first chunk; reading stops at `until_s`, a monotonic time."""
        self._left = offset_range
        self._read = read
        self._backwards = backwards
        self._until_s = until_s
        self._size = max(1, first)
        self._pending: deque[Message] = deque()

    def peek(self) -> Message | None:
        """Return the next message without taking it; None if there are no more, or none can be read in time."""
        while not self._pending and self._left.records > 0 and time.monotonic() < self._until_s:
            self._read_chunk()
        return self._pending[0] if self._pending else None

    def take(self) -> Message:
        """Remove and return the next message, which must exist."""
        return self._pending.popleft()

    @property
    def remaining(self) -> OffsetRange:
        """Return the offset range that has not been taken."""
        if not self._pending:
            return self._left
        at = self._pending[0].offset()
        if self._backwards:
            return replace(self._left, end=at + 1)
        return replace(self._left, first=at)

    def _read_chunk(self) -> None:
        """Read a chunk, and keep at most `_CHUNK_RECORDS` of it: where offsets are sparse, it is long."""
        left, size = self._left, min(self._size, self._left.records)
        if self._backwards:
            piece = replace(left, first=left.end - size)
            chunk = deque(self._read(piece), maxlen=_CHUNK_RECORDS)
            is_cut = len(chunk) == _CHUNK_RECORDS
            self._left = replace(left, end=chunk[0].offset() if is_cut else piece.first)
            self._pending.extend(reversed(chunk))
        else:
            piece = replace(left, end=left.first + size)
            chunk = deque(islice(self._read(piece), _CHUNK_RECORDS))
            is_cut = len(chunk) == _CHUNK_RECORDS
            self._left = replace(left, first=chunk[-1].offset() + 1 if is_cut else piece.end)
            self._pending.extend(chunk)
        self._size = self._next_size(chunk)

    def _next_size(self, chunk: Sized) -> int:
        if not chunk:
            return min(2 * self._size, _SPARSE_OFFSETS)
        mean_bytes = sum(map(_size_bytes, self._pending)) // len(self._pending)
        return max(1, min(2 * self._size, _CHUNK_RECORDS, _CHUNK_BYTES // max(1, mean_bytes)))


class MessageSearch:
    """Decides whether a message matches. An id may be typed in another form than that of the keys.

    While personal data is hidden, only displayed content is searched.

    Otherwise a user who may not see personal data could recover it by searching character by character.
    """

    def __init__(self, question: MessageQuery, renderer: MessageRenderer) -> None:
        self._question = question
        self._renderer = renderer
        self._keys = {text.encode() for text in (question.key, renderer.normalize_key(question.key))}
        self._text = question.text.casefold()
        self._path = question.field.split(".")

    def __call__(self, message: Message) -> bool:
        """Return whether key, text and field match."""
        return self._has_key(message) and self._has_text(message) and self._has_field(message)

    def _has_key(self, message: Message) -> bool:
        if not self._question.key:
            return True
        if self._renderer.masks:
            return self._renderer.get_searchable(message)[0].encode() in self._keys
        return (message.key() or b"") in self._keys

    def _has_text(self, message: Message) -> bool:
        if not self._text:
            return True
        if self._renderer.masks:
            key, value = self._renderer.get_searchable(message)
            return self._text in f"{key} {json.dumps(value, ensure_ascii=False)}".casefold()
        raw = message.value() or b""
        if self._text in raw.decode(errors="ignore").casefold():
            return True
        if self._text in (message.key() or b"").decode(errors="ignore").casefold():
            return True
        if b"\\" not in raw:
            return False
        _, value = self._renderer.get_searchable(message)  # an escape: the text may be spelled differently
        return self._text in json.dumps(value, ensure_ascii=False).casefold()

    def _has_field(self, message: Message) -> bool:
        if not self._question.field:
            return True
        _, value = self._renderer.get_searchable(message)
        for name in self._path:
            value = value.get(name, _MISSING) if isinstance(value, dict) else _MISSING
        return value is not _MISSING and (
            not self._question.value or _fold_case(value) == self._question.value.casefold()
        )


def _fold_case(value: Any) -> str:
    return (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).casefold()


class Browser:
    """Reads the messages of one topic. Raises `KafkaUnreachable`, and `UsageError` if the topic does not exist."""

    def __init__(self, client: AdminClient, settings: Settings, topic: str) -> None:
        self._client = client
        self._settings = settings.model_copy(update={"kafka_timeout_s": TIMEOUT_S})
        self._topic = topic

    def search(self, question: MessageQuery, renderer: MessageRenderer) -> MessagePage:
        """Return a page of matching messages, in the order of their timestamps across partitions."""
        began_s = time.monotonic()
        ranges = self._select_ranges(question)
        backwards = question.start == "newest"
        most = max(1, min(question.most, MOST))
        consumer = create_reader(self._settings, **_FETCHES)
        try:
            read = self._make_reader(consumer)
            first = min(_FIRST_RECORDS, most // max(1, len(ranges)) + 5)
            until_s = began_s + SEARCH_S
            walks = [
                Walk(offset_range, read, backwards=backwards, first=first, until_s=until_s) for offset_range in ranges
            ]
            hits, looked = _merge_walks(walks, MessageSearch(question, renderer), most, backwards=backwards)
        except KafkaException as error:
            raise translate_error(error, f"reading {self._topic}", self._settings) from error
        finally:
            consumer.close()
        left = [walk.remaining for walk in walks]
        return MessagePage(
            messages=[renderer.render(message) for message in hits],
            looked_through=looked,
            took_ms=round((time.monotonic() - began_s) * 1000),
            go_on=_encode_cursor(left, backwards=backwards)
            if any(offset_range.records > 0 for offset_range in left)
            else "",
        )

    def read_message(self, partition: int, offset: int, renderer: MessageRenderer) -> ShownMessage | None:
        """Return the message at this position, or None if there is none (any more)."""
        offset_range = next(
            (offset_range for offset_range in self.read_ranges() if offset_range.partition == partition), None
        )
        if offset_range is None or not offset_range.first <= offset < offset_range.end:
            return None
        wanted = OffsetRange(partition, offset, offset + 1)
        return next(
            (renderer.render(message) for message in topics.read_records(self._settings, self._topic, [wanted])), None
        )

    def read_new(
        self,
        before: list[OffsetRange],
        renderer: MessageRenderer,
        most: int,
        wanted: Callable[[Message], bool] = lambda _: True,
    ) -> tuple[list[ShownMessage], int, list[OffsetRange]]:
        """Return the newest messages since `before`, how many were skipped, and what the topic holds now.

        The messages are sorted by timestamp, oldest first. `most` is divided among the partitions.
        """
        now = self.read_ranges()
        fresh = [
            offset_range for offset_range in topics.find_new_offset_ranges(before, now) if offset_range.records > 0
        ]
        arrived = sum(offset_range.records for offset_range in fresh)
        if not arrived:
            return [], 0, now
        share = max(1, most // len(fresh))
        newest = [
            OffsetRange(offset_range.partition, max(offset_range.first, offset_range.end - share), offset_range.end)
            for offset_range in fresh
        ]
        messages = sorted(topics.read_records(self._settings, self._topic, newest), key=_time_ms)
        return (
            [renderer.render(offset_range) for offset_range in messages if wanted(offset_range)],
            arrived - sum(offset_range.records for offset_range in newest),
            now,
        )

    def read_ranges(self) -> list[OffsetRange]:
        """Return what the topic holds now."""
        return read_ranges(self._client, self._settings, self._topic)

    def _select_ranges(self, question: MessageQuery) -> list[OffsetRange]:
        """Return the part of the topic to search."""
        whole = self.read_ranges()
        if question.partition is not None:
            whole = [offset_range for offset_range in whole if offset_range.partition == question.partition]
            if not whole:
                raise UsageError(f"{self._topic} has no partition {question.partition}")
        if question.go_on:
            return _gone_on(whole, question)
        if question.start == "offset":
            offset = question.offset or 0
            return [
                OffsetRange(
                    offset_range.partition, min(offset_range.end, max(offset_range.first, offset)), offset_range.end
                )
                for offset_range in whole
            ]
        if question.start == "time" and question.time is not None:
            return topics.find_offset_ranges_since(self._settings, self._topic, whole, question.time)
        return whole

    def _make_reader(self, consumer: Consumer) -> Callable[[OffsetRange], Iterable[Message]]:
        return lambda offset_range: topics.read_offset_range(consumer, self._topic, offset_range, self._settings)


def _merge_walks(
    walks: list[Walk], wanted: Callable[[Message], bool], most: int, *, backwards: bool
) -> tuple[list[Message], int]:
    """Return the matching messages in the order of their timestamps, and how many messages were examined.

    Stops at what could be read in time. A page is not full if its messages would be too large for one response.
    """
    sign = -1 if backwards else 1
    heads = [(sign * _time_ms(head), at) for at, walk in enumerate(walks) if (head := walk.peek()) is not None]
    heapq.heapify(heads)
    hits: list[Message] = []
    looked = hits_bytes = 0
    while heads and len(hits) < most and looked < SEARCHED_RECORDS and hits_bytes < _MOST_HIT_BYTES:
        _, at = heapq.heappop(heads)
        message = walks[at].take()
        looked += 1
        if wanted(message):
            hits.append(message)
            hits_bytes += _size_bytes(message)
        if (head := walks[at].peek()) is not None:
            heapq.heappush(heads, (sign * _time_ms(head), at))
    return hits, looked


def _size_bytes(message: Message) -> int:
    return len(message.value() or b"")


def _time_ms(message: Message) -> int:
    return int(message.timestamp()[1])


def _encode_cursor(left: list[OffsetRange], *, backwards: bool) -> str:
    """Encode where to continue, per partition: `0:117,1:98`."""
    return ",".join(
        f"{offset_range.partition}:{offset_range.end if backwards else offset_range.first}" for offset_range in left
    )


def _gone_on(whole: list[OffsetRange], question: MessageQuery) -> list[OffsetRange]:
    """Return what is left to search after `question.go_on`. Raises `UsageError` if that is malformed."""
    try:
        pairs = [pair.partition(":") for pair in question.go_on.split(",")]
        offsets = {int(partition): int(offset) for partition, _, offset in pairs}
    except ValueError:
        raise UsageError(
            f"invalid go_on={question.go_on[:100]!r}: expected PARTITION:OFFSET[,...], from the previous response"
        ) from None
    ranges: list[OffsetRange] = []
    for offset_range in whole:
        at = min(offset_range.end, max(offset_range.first, offsets.get(offset_range.partition, offset_range.first)))
        first, end = (offset_range.first, at) if question.start == "newest" else (at, offset_range.end)
        ranges.append(OffsetRange(offset_range.partition, first, end))
    return ranges
