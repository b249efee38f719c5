"""Pages of messages: their order, their bounds, and where they continue."""

import math

import pytest

from penstock.broker.topics import OffsetRange
from penstock.codec.values import ContentReader
from penstock.config import read
from penstock.errors import UsageError
from penstock.web.topics import browse
from penstock.web.topics.browse import Browser, MessageQuery, MessageSearch, Walk
from penstock.web.topics.content import MessageRenderer
from tests.unit.fakes import FakeSchemas, message
from tests.unit.keyed import Sample
from tests.unit.records import Reading


class Topic:
    """A topic in memory, in place of Kafka; it records which ranges were read."""

    def __init__(self, monkeypatch) -> None:
        self.parts: dict[int, list] = {}
        self.read: list[OffsetRange] = []
        monkeypatch.setattr(browse, "create_reader", lambda _settings, **_more: self)
        monkeypatch.setattr(browse, "read_ranges", lambda *_: self.spans())
        monkeypatch.setattr(browse.topics, "read_offset_range", lambda _c, _t, span, _s: self.records(span))
        monkeypatch.setattr(
            browse.topics, "read_records", lambda _s, _t, spans: [m for s in spans for m in self.records(s)]
        )

    def add(self, partition: int, value: bytes = b"{}", *, key=None, at_ms: int = 0) -> None:
        part = self.parts.setdefault(partition, [])
        part.append(message(len(part), value, partition=partition, key=key, timestamp_ms=at_ms))

    def spans(self) -> list[OffsetRange]:
        return [OffsetRange(partition, 0, len(part)) for partition, part in sorted(self.parts.items())]

    def records(self, span: OffsetRange) -> list:
        self.read.append(span)
        return self.parts[span.partition][span.first : span.end]

    def close(self) -> None:
        pass


@pytest.fixture
def topic(monkeypatch):
    return Topic(monkeypatch)


def find_page(question: MessageQuery):
    reader = ContentReader(FakeSchemas.of(Reading))
    return Browser(None, read(home="unused"), "t").search(question, MessageRenderer(reader, Reading, False))


def places(result) -> list[tuple[int, int]]:
    return [(item.partition, item.offset) for item in result.messages]


def pages(question: MessageQuery) -> list[list[tuple[int, int]]]:
    """Every page, each continuing the previous one."""
    result = [find_page(question)]
    while result[-1].go_on:
        result.append(find_page(browse.replace(question, go_on=result[-1].go_on)))
    return [places(item) for item in result]


def test_the_newest_messages_are_first_across_partitions(topic):
    """By time across partitions, by offset within one; each message once, on one page."""
    for at, partition in enumerate([0, 1, 1, 0, 2, 0]):
        topic.add(partition, at_ms=1000 + at)
    assert pages(MessageQuery(most=4)) == [[(0, 2), (2, 0), (0, 1), (1, 1)], [(1, 0), (0, 0)]]


def test_times_out_of_order_lose_no_message(topic):
    """Producers' clocks differ: within a partition the offsets decide."""
    for at_ms in (5000, 1000, 9000, 2000):
        topic.add(0, at_ms=at_ms)
        topic.add(1, at_ms=at_ms)
    result = pages(MessageQuery(most=3))
    assert sorted(place for page in result for place in page) == [(p, o) for p in (0, 1) for o in range(4)]
    assert [o for page in result for p, o in page if p == 0] == [3, 2, 1, 0]


def test_from_an_offset_on_the_oldest_are_first(topic):
    """In one partition, or in all."""
    for at in range(5):
        topic.add(0, at_ms=at)
        topic.add(1, at_ms=at)
    assert pages(MessageQuery("offset", partition=1, offset=2, most=2)) == [[(1, 2), (1, 3)], [(1, 4)]]
    assert places(find_page(MessageQuery("offset", offset=4))) == [(0, 4), (1, 4)]
    assert places(find_page(MessageQuery("offset", offset=99))) == []


def test_only_the_needed_part_of_a_large_topic_is_read(topic):
    """A page of a million messages costs no more than a page of a hundred."""
    for at in range(5000):
        topic.add(0, at_ms=at)
    assert len(find_page(MessageQuery(most=50)).messages) == 50
    assert sum(span.records for span in topic.read) < 200


def test_a_search_stops_at_its_bound_and_can_continue(topic, monkeypatch):
    """It counts the messages that it scanned, and finds the rest when it is continued."""
    monkeypatch.setattr(browse, "SEARCHED_RECORDS", 100)
    for at in range(250):
        topic.add(0, b'{"n": %d}' % at, at_ms=at)
    page = find_page(MessageQuery(field="n", value="20"))
    assert (places(page), page.looked_through, page.go_on) == ([], 100, "0:150")
    assert pages(MessageQuery(field="n", value="20")) == [[], [], [(0, 20)]]


def test_a_search_stops_at_its_timeout(topic, monkeypatch):
    """What was not scanned is not lost."""
    monkeypatch.setattr(browse, "SEARCH_S", -1.0)
    topic.add(0)
    page = find_page(MessageQuery(text="x"))
    assert (page.looked_through, page.go_on) == (0, "0:1")


def test_large_messages_are_read_a_few_at_a_time(topic):
    """So that a page of dead letters of megabytes fits in memory."""
    for _ in range(2000):
        topic.add(0, b"x" * 100_000)
    find_page(MessageQuery(text="none", most=500))
    assert max(span.records for span in topic.read) <= 8 * 1024 * 1024 // 100_000


def test_a_page_of_large_messages_is_bounded(topic):
    """It has fewer than were requested, and says where to continue."""
    for _ in range(100):
        topic.add(0, b"x" * 4_000_000)
    page = find_page(MessageQuery(most=500))
    assert 0 < len(page.messages) < 20
    assert page.go_on == f"0:{100 - len(page.messages)}"


def test_a_scan_skips_gaps():
    """Compacted records leave none in their place."""
    left = {3: message(3), 90: message(90)}
    walk = Walk(
        OffsetRange(0, 0, 100),
        lambda s: [value for at, value in left.items() if s.first <= at < s.end],
        backwards=True,
        first=5,
        until_s=math.inf,
    )
    assert walk.peek().offset() == 90
    assert walk.take().offset() == 90
    assert walk.peek().offset() == 3
    assert walk.remaining == OffsetRange(0, 0, 4)
    walk.take()
    assert walk.peek() is None
    assert walk.remaining.records == 0


@pytest.mark.parametrize("backwards", [True, False])
def test_a_scan_over_a_large_gap_takes_large_steps(backwards):
    """A hundred million offsets without a record take few reads; dense records after them are still read in pieces."""
    end = 100_000_000
    thick = range(30_000) if backwards else range(end - 30_000, end)
    read = []

    def records(span):
        read.append(span)
        return (message(at) for at in range(max(span.first, thick.start), min(span.end, thick.stop)))

    walk = Walk(OffsetRange(0, 0, end), records, backwards=backwards, first=20, until_s=math.inf)
    assert walk.peek().offset() == (thick[-1] if backwards else thick[0])
    assert len(read) < 2100
    held = [walk.take().offset()]
    while walk.peek() is not None:
        held.append(walk.take().offset())
    assert held == (list(reversed(thick)) if backwards else list(thick))


def test_a_scan_ends_at_its_timeout():
    """What was read is returned; the rest is left for the next search."""
    walk = Walk(
        OffsetRange(0, 0, 100),
        lambda s: [message(at) for at in range(s.first, s.end)],
        backwards=True,
        first=5,
        until_s=0,
    )
    assert walk.peek() is None
    assert walk.remaining == OffsetRange(0, 0, 100)


def hits(question: MessageQuery, value: bytes, key: bytes | None = None, *, masks: bool = False) -> bool:
    return MessageSearch(question, MessageRenderer(ContentReader(FakeSchemas.of(Reading)), Reading, masks))(
        message(1, value, key=key)
    )


def test_a_search_matches_key_text_and_field():
    """The whole key; text in any case, and with escapes too; fields by path, as JSON writes their values."""
    assert hits(MessageQuery(key="k"), b"{}", b"k")
    assert not hits(MessageQuery(key="k"), b"{}", b"kk")
    assert not hits(MessageQuery(key="k"), b"{}")
    assert hits(MessageQuery(text="ada"), b"xx ADA \xff")
    assert hits(MessageQuery(text="ada"), b"", b"Ada")
    assert hits(MessageQuery(text="Zoë"), b'{"name": "Zo\\u00eb"}')
    assert not hits(MessageQuery(text="Zoë"), b"Zoe")
    value = b'{"a": {"b": 3, "c": null, "d": true, "e": "Hi"}}'
    for field, wanted in (("a.b", "3"), ("a.c", "null"), ("a.d", "true"), ("a.e", "hi"), ("a.b", "")):
        assert hits(MessageQuery(field=field, value=wanted), value), field
    for field, wanted in (("a.b", "4"), ("b", ""), ("a.b.c", ""), ("a.x", "null")):
        assert not hits(MessageQuery(field=field, value=wanted), value), field
    assert not hits(MessageQuery(field="a"), b"[1]")


@pytest.mark.parametrize("masks", [True, False])
def test_a_key_of_several_fields_is_found_in_any_form(masks):
    """That of the producer, or an object with its fields in another order and its moment in another zone."""
    renderer = MessageRenderer(ContentReader(FakeSchemas.of(Sample)), Sample, masks)
    item = message(1, b"{}", key=b'{"at":"2026-01-31T12:00:00.000Z","sensor":"s1"}')
    for text in (
        '{"at":"2026-01-31T12:00:00.000Z","sensor":"s1"}',
        '{"sensor":"s1", "at":"2026-01-31T14:00:00+02:00"}',
    ):
        assert MessageSearch(MessageQuery(key=text), renderer)(item)
    assert not MessageSearch(MessageQuery(key='{"sensor":"s1"}'), renderer)(item)


def test_a_search_reveals_nothing_that_is_hidden():
    """While personal data is hidden, only what is shown is searched: otherwise it could be guessed letter by letter."""
    value = b'{"sensor": 7, "celsius": 2.5, "name": "Ada", "inner": {"mail": "ada@x"}}'
    for question in (
        MessageQuery(text="ada"),
        MessageQuery(field="name", value="Ada"),
        MessageQuery(field="inner.mail", value="ada@x"),
    ):
        assert hits(question, value)
        assert not hits(question, value, masks=True)
    assert not hits(MessageQuery(text="ada"), b"ada, as text", masks=True)
    assert not hits(MessageQuery(key="Ada"), value, b"Ada", masks=True)
    assert hits(MessageQuery(key="7", text="2.5"), value, b"7", masks=True)
    assert hits(MessageQuery(field="sensor", value="7"), value, masks=True)
    assert hits(MessageQuery(field="name"), value, masks=True)


@pytest.mark.parametrize(
    ("question", "message"),
    [(MessageQuery(partition=9), "no partition 9"), (MessageQuery(go_on="x"), "PARTITION:OFFSET")],
)
def test_an_invalid_query_is_an_error(topic, question, message):
    """Nothing is read for it."""
    topic.add(0)
    with pytest.raises(UsageError, match=message):
        find_page(question)
    assert topic.read == []


def test_a_tail_returns_new_messages_and_reports_skipped_ones(topic):
    """The oldest first; no more than were requested, and nothing twice."""
    browser, renderer = (
        Browser(None, read(home="unused"), "t"),
        MessageRenderer(ContentReader(FakeSchemas.of(Reading)), Reading, False),
    )
    topic.add(0)
    before = browser.read_ranges()
    assert browser.read_new(before, renderer, 10) == ([], 0, before)
    for at in range(20):
        topic.add(0, at_ms=at)
    topic.add(1, at_ms=5)
    result, passed, now = browser.read_new(before, renderer, 10)
    assert [(item.partition, item.offset) for item in result] == [(1, 0), (0, 16), (0, 17), (0, 18), (0, 19), (0, 20)]
    assert (passed, now) == (15, browser.read_ranges())
    assert browser.read_new(now, renderer, 10)[0] == []
