"""Every topic, and who reads how far."""

from html import escape
from typing import Any

from nicegui import ui

from penstock.broker import admin
from penstock.control import elements
from penstock.control.desk import Desk, inventory_of
from penstock.control.elements import UNKNOWN, moment_html, number, size, state_html
from penstock.control.frame import REFRESH_S, Visit, page
from penstock.control.pages import topics_acts, topics_messages
from penstock.control.pages.topics_parts import ROLES, Part, retention
from penstock.control.shared import Shared
from penstock.observe import groups as observe_groups
from penstock.observe.groups import Group, Positions
from penstock.observe.inventory import Inventory, Topic

_READERS_S = 5.0


def register(desk: Desk) -> None:
    """Serve the pages."""
    inventory = desk.one(inventory_of)
    positions = Shared(lambda: _positions(desk), for_s=_READERS_S / 2)
    groups = Shared(lambda: observe_groups.groups(desk.kafka, desk.settings), for_s=_READERS_S / 2)

    @page(desk, "/topics", "Topics")
    def topics(visit: Visit) -> None:
        _Topics(visit, inventory)
        elements.heading("Who reads how far")
        _Readers(visit, positions, groups)

    @page(desk, "/groups", "Who reads how far")
    def readers(visit: Visit) -> None:
        _Readers(visit, positions, groups)

    topics_messages.register(desk, inventory)
    topics_acts.register(desk, inventory)


class _Topics:
    """The list of topics."""

    def __init__(self, visit: Visit, inventory: Inventory) -> None:
        self._visit = visit
        self._inventory = inventory
        with ui.element("div").classes("row-bar"):
            ui.button("Create a topic", icon="add", on_click=self._create).props("no-caps")
        self._part = Part(visit, "table topics", "Topics")
        visit.every(REFRESH_S, self._refresh)

    async def _refresh(self) -> None:
        await self._part.refresh(self._inventory.topics, _table)

    async def _create(self) -> None:
        settings, kafka = self._visit.desk.settings, self._visit.desk.kafka
        asked = await _asked_topic(settings.kafka_partitions, settings.kafka_retention_hours)
        if asked is None:
            return
        name, partitions, changes = asked

        def make() -> bool:
            admin.create(kafka, settings, name, partitions, changes)
            self._inventory.forget()
            return True

        if await self._visit.act("create topic", name, make):
            ui.navigate.to(f"/topics/{name}")


async def _asked_topic(partitions: int, hours: int) -> tuple[str, int, dict[str, str]] | None:
    """Name, partitions and settings of the topic to make; None when the viewer thinks better of it."""
    with ui.dialog() as dialog, ui.card().classes("dialog"):
        elements.heading("Create a topic")
        name = ui.input("Name").props('outlined dense autofocus maxlength=249 hint="Letters, digits, dot, _ and -"')
        count = ui.number("Partitions", value=partitions, min=1, max=1000, precision=0).props("outlined dense")
        kept = ui.number("Retention in hours", value=hours, min=1, precision=0).props("outlined dense")
        compact = ui.checkbox("Keep the newest record of each key instead (compacted)")
        with ui.row():
            ui.button("Cancel", on_click=lambda: dialog.submit(False)).props("flat no-caps")
            make = ui.button("Create", on_click=lambda: dialog.submit(True)).props("no-caps")
            make.bind_enabled_from(name, "value", lambda value: bool((value or "").strip()))
    done = await elements.answered(dialog)
    asked = (name.value or "").strip(), int(count.value or partitions), _changes(kept.value or hours, compact.value)
    return asked if done else None


def _changes(hours: float, is_compacted: bool) -> dict[str, str]:
    policy = "compact" if is_compacted else "delete"
    return {"retention.ms": str(int(hours * 3_600_000)), "cleanup.policy": policy}


def _table(topics: list[Topic]) -> str:
    heads = ("Topic", "Records", "Records/s", "On disk", "Retention", "Partitions")
    rows = [
        (
            f'<a href="/topics/{one.name}">{escape(one.name)}</a><br><span class="quiet">{ROLES[one.role]}</span>',
            number(one.records),
            number(one.rate_s),
            size(one.disk_bytes),
            retention(one),
            number(one.partitions),
        )
        for one in topics
    ]
    return elements.table_html(f"{len(rows)} topics, as Kafka holds them now", heads, rows)


class _Readers:
    """The Spark query's positions, the consumer groups, and the lag of each in a chart."""

    def __init__(self, visit: Visit, positions: Shared[Positions], groups: Shared[list[Group]]) -> None:
        self._ask_positions, self._ask_groups = positions, groups
        with ui.element("div").classes("grid readers"):
            with ui.element("section").classes("card"):
                elements.heading("The Spark query", 3)
                self._spark = Part(visit)
            with ui.element("section").classes("card"):
                elements.heading("Lag per partition", 3)
                self._chart = elements.chart(_bars([]), "records that each reader has not read yet, per partition")
        elements.heading("Consumer groups")
        self._groups = Part(visit)
        self._drawn: Any = None
        visit.every(_READERS_S, self._refresh)

    async def _refresh(self) -> None:
        spark = await self._spark.refresh(self._ask_positions, _positions_html)
        groups = await self._groups.refresh(self._ask_groups, _groups_html)
        lags = _lags(spark, groups or [])
        if lags != self._drawn:
            self._drawn = lags
            self._chart.options.update(_bars(lags))
            self._chart.update()


def _positions(desk: Desk) -> Positions:
    now = desk.view.now
    recorded = {one.partition: one.reached for one in now.partitions} if now else {}
    return observe_groups.positions(desk.kafka, desk.settings, desk.cassandra, recorded)


Lags = list[tuple[str, dict[str, int]]]
"""The lag by partition, of each reader."""


def _lags(spark: Positions | None, groups: list[Group]) -> Lags:
    found: Lags = []
    if spark is not None:
        found.append(("Spark", {f"{spark.topic}:{one.partition}": one.lag or 0 for one in spark.partitions}))
    for group in groups:
        if not group.is_stale and group.reaches:
            found.append((group.name, {f"{one.topic}:{one.partition}": one.lag or 0 for one in group.reaches}))
    return found


def _bars(lags: Lags) -> dict[str, Any]:
    places = sorted({place for _, found in lags for place in found})
    return {
        "legend": {"type": "scroll", "top": 0},
        "xAxis": {"type": "category", "data": places, "axisLabel": {"hideOverlap": True}},
        "yAxis": {"type": "value", "minInterval": 1},
        "series": [
            {"name": name, "type": "bar", "data": [found.get(place) for place in places]} for name, found in lags
        ],
    }


def _positions_html(found: Positions) -> str:
    reported = "" if found.reported_at is None else f", {moment_html(found.reported_at)}, batch {found.batch_id}"
    told = f'<p>{number(found.lag)} records of <a href="/topics/{found.topic}">{escape(found.topic)}</a> wait.</p>'
    problems = "".join(f'<p class="warn">{escape(one)}</p>' for one in found.problems)
    heads = ("Partition", "Ends at", "Ledger reaches", "Spark told", "Checkpoint", "Lag")
    rows = [
        [number(one) for one in (it.partition, it.end, it.recorded, it.reported, it.planned, it.lag)]
        for it in found.partitions
    ]
    caption = "Where the query is, by offset"
    note = (
        f'<p class="quiet">Spark told last: {reported.removeprefix(", ") or UNKNOWN}. Spark commits nothing to '
        f"Kafka: it is no consumer group, and keeps its place in <code>{escape(found.checkpoint)}</code>.</p>"
    )
    return f'{told}{problems}<div class="table topics">{elements.table_html(caption, heads, rows)}</div>{note}'


def _groups_html(groups: list[Group]) -> str:
    live = [one for one in groups if not one.is_stale]
    stale = [one for one in groups if one.is_stale]
    if not live:
        shown = (
            '<div class="empty"><strong>No consumer group reads from this Kafka.</strong>'
            "<p>The Spark query is none: it keeps its place in its checkpoint, see above.</p></div>"
        )
    else:
        heads = ("Group", "State", "Members", "Topic", "Partition", "Read up to", "Ends at", "Lag", "Read by")
        rows = [row for group in live for row in _group_rows(group)]
        shown = f'<div class="table topics">{elements.table_html("As the groups committed it", heads, rows)}</div>'
    names = "".join(f"<li><code>{escape(one.name)}</code></li>" for one in stale)
    left = (
        f"<details class=stale><summary>{len(stale)} stale groups of the schema registry: no lag is counted</summary>"
        f'<p class="quiet">Apicurio makes a new group at each start and leaves the old.</p><ul>{names}</ul></details>'
        if stale
        else ""
    )
    return shown + left


def _group_rows(group: Group) -> list[tuple[str, ...]]:
    state = state_html("ok" if group.members else "idle", group.state)
    whose = '<br><span class="quiet">the schema registry</span>' if group.is_registry else ""
    head = f"<code>{escape(group.name)}</code>{whose}", state, number(group.members)
    if not group.reaches:
        return [(*head, "nothing committed", "", "", "", "", "")]
    rows: list[tuple[str, ...]] = []
    for one in group.reaches:
        topic = f'<a href="/topics/{escape(one.topic)}">{escape(one.topic)}</a>'
        told = (number(one.partition), number(one.committed), number(one.end), number(one.lag), escape(one.client))
        rows.append((*head, topic, *told))
        head = "", "", ""
    return rows
