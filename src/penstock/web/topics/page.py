"""Topics, consumer groups and their lag."""

from typing import Any

from markupsafe import Markup
from nicegui import ui

from penstock.broker import admin
from penstock.web import elements
from penstock.web.app_context import AppContext, create_inventory
from penstock.web.elements import UNKNOWN, format_number, format_size, moment_html, state_html
from penstock.web.markup import html, join
from penstock.web.page_layout import REFRESH_S, PageContext, page
from penstock.web.query_cache import QueryCache
from penstock.web.topics import actions, messages
from penstock.web.topics import groups as observe_groups
from penstock.web.topics.groups import ConsumerGroup, Positions
from penstock.web.topics.inventory import Inventory, TopicInfo
from penstock.web.topics.message_html import ROLES, Part, format_retention

_READERS_S = 5.0


def register(context: AppContext) -> None:
    """Serve the pages."""
    inventory = context.get_shared(create_inventory)
    positions = QueryCache(lambda: _read_positions(context), for_s=_READERS_S / 2)
    groups = QueryCache(lambda: observe_groups.list_groups(context.kafka, context.settings), for_s=_READERS_S / 2)

    @page(context, "/topics", "Topics")
    def topics(visit: PageContext) -> None:
        _Topics(visit, inventory)
        elements.add_heading("Consumer lag")
        _Readers(visit, positions, groups)

    @page(context, "/groups", "Consumer lag")
    def readers(visit: PageContext) -> None:
        _Readers(visit, positions, groups)

    messages.register(context, inventory)
    actions.register(context, inventory)


class _Topics:
    """The list of topics."""

    def __init__(self, visit: PageContext, inventory: Inventory) -> None:
        self._visit = visit
        self._inventory = inventory
        with ui.element("div").classes("row-bar"):
            ui.button("Create a topic", icon="add", on_click=self._create_topic).props("no-caps")
        self._part = Part(visit, "table topics", "Topics")
        visit.every(REFRESH_S, self._refresh_content)

    async def _refresh_content(self) -> None:
        await self._part.refresh(self._inventory.list_topics, _topics_html)

    async def _create_topic(self) -> None:
        settings, kafka = self._visit.context.settings, self._visit.context.kafka
        answer = await _ask_topic(settings.kafka_partitions, settings.kafka_retention_hours)
        if answer is None:
            return
        name, partitions, changes = answer

        def make() -> bool:
            admin.create_topic(kafka, settings, name, partitions, changes)
            self._inventory.clear_cache()
            return True

        if await self._visit.act("create topic", name, make):
            ui.navigate.to(f"/topics/{name}")


async def _ask_topic(partitions: int, hours: int) -> tuple[str, int, dict[str, str]] | None:
    """Ask for the name, partitions and settings of a new topic. Return None if the viewer cancels."""
    with ui.dialog() as dialog, ui.card().classes("dialog"):
        elements.add_heading("Create a topic")
        name = ui.input("Name").props('outlined dense autofocus maxlength=249 hint="Letters, digits, dot, _ and -"')
        count = ui.number("Partitions", value=partitions, min=1, max=1000, precision=0).props("outlined dense")
        retention_hours = ui.number("Retention in hours", value=hours, min=1, precision=0).props("outlined dense")
        compact = ui.checkbox("Compact: keep only the newest record of each key")
        with ui.row():
            ui.button("Cancel", on_click=lambda: dialog.submit(False)).props("flat no-caps")
            create = ui.button("Create", on_click=lambda: dialog.submit(True)).props("no-caps")
            create.bind_enabled_from(name, "value", lambda value: bool((value or "").strip()))
    is_confirmed = await elements.await_answer(dialog)
    answer = (
        (name.value or "").strip(),
        int(count.value or partitions),
        _topic_settings(retention_hours.value or hours, compact.value),
    )
    return answer if is_confirmed else None


def _topic_settings(hours: float, is_compacted: bool) -> dict[str, str]:
    policy = "compact" if is_compacted else "delete"
    return {"retention.ms": str(int(hours * 3_600_000)), "cleanup.policy": policy}


def _topics_html(topics: list[TopicInfo]) -> Markup:
    heads = ("Topic", "Records", "Records/s", "On disk", "Retention", "Partitions")
    rows = [
        (
            html('<a href="/topics/{0}">{0}</a><br><span class="quiet">{1}</span>', row.name, ROLES[row.role]),
            format_number(row.records),
            format_number(row.rate_s),
            format_size(row.disk_bytes),
            format_retention(row),
            format_number(row.partitions),
        )
        for row in topics
    ]
    return elements.table_html(f"{len(rows)} topics", heads, rows)


class _Readers:
    """Offsets of the Spark query, consumer groups, and a chart of their lag."""

    def __init__(
        self, visit: PageContext, positions: QueryCache[Positions], groups: QueryCache[list[ConsumerGroup]]
    ) -> None:
        self._ask_positions, self._ask_groups = positions, groups
        with ui.element("div").classes("grid readers"):
            with ui.element("section").classes("card"):
                elements.add_heading("Spark query", 3)
                self._spark = Part(visit)
            with ui.element("section").classes("card"):
                elements.add_heading("Lag per partition", 3)
                self._chart = elements.add_chart(_lag_chart([]), "lag of each consumer per partition, in records")
        elements.add_heading("Consumer groups")
        self._groups = Part(visit)
        self._drawn: Any = None
        visit.every(_READERS_S, self._refresh_content)

    async def _refresh_content(self) -> None:
        spark = await self._spark.refresh(self._ask_positions, _positions_html)
        groups = await self._groups.refresh(self._ask_groups, _groups_html)
        lags = _collect_lags(spark, groups or [])
        if lags != self._drawn:
            self._drawn = lags
            self._chart.options.update(_lag_chart(lags))
            self._chart.update()


def _read_positions(context: AppContext) -> Positions:
    now = context.state.now
    recorded = {partition.partition: partition.reached for partition in now.partitions} if now else {}
    return observe_groups.read_positions(context.kafka, context.settings, context.cassandra, recorded)


Lags = list[tuple[str, dict[str, int]]]
"""Each reader with its lag by `topic:partition`."""


def _collect_lags(spark: Positions | None, groups: list[ConsumerGroup]) -> Lags:
    lags: Lags = []
    if spark is not None:
        lags.append(
            ("Spark", {f"{spark.topic}:{partition.partition}": partition.lag or 0 for partition in spark.partitions})
        )
    for group in groups:
        if not group.is_stale and group.reaches:
            lags.append(
                (
                    group.name,
                    {f"{partition.topic}:{partition.partition}": partition.lag or 0 for partition in group.reaches},
                )
            )
    return lags


def _lag_chart(lags: Lags) -> dict[str, Any]:
    partitions = sorted({partition for _, by_partition in lags for partition in by_partition})
    return {
        "legend": {"type": "scroll", "top": 0},
        "xAxis": {"type": "category", "data": partitions, "axisLabel": {"hideOverlap": True}},
        "yAxis": {"type": "value", "minInterval": 1},
        "series": [
            {"name": name, "type": "bar", "data": [by_partition.get(partition) for partition in partitions]}
            for name, by_partition in lags
        ],
    }


def _positions_html(positions: Positions) -> Markup:
    reported = (
        UNKNOWN
        if positions.reported_at is None
        else html("{}, batch {}", moment_html(positions.reported_at), positions.batch_id)
    )
    topic = html('<a href="/topics/{0}">{0}</a>', positions.topic)
    summary = html("<p>Lag on {}: {} records.</p>", topic, format_number(positions.lag))
    problems = join(html('<p class="warn">{}</p>', problem) for problem in positions.problems)
    heads = ("Partition", "End offset", "Ledger", "Spark progress", "Checkpoint", "Lag")
    rows = [
        [format_number(value) for value in (row.partition, row.end, row.recorded, row.reported, row.planned, row.lag)]
        for row in positions.partitions
    ]
    caption = "Offsets of the query"
    note = html(
        '<p class="quiet">Last Spark progress: {}. Spark has no consumer group: '
        "its offsets are in the checkpoint <code>{}</code>.</p>",
        reported,
        positions.checkpoint,
    )
    return html(
        '{summary}{problems}<div class="table topics">{table}</div>{note}',
        summary=summary,
        problems=problems,
        table=elements.table_html(caption, heads, rows),
        note=note,
    )


def _groups_html(groups: list[ConsumerGroup]) -> Markup:
    live = [group for group in groups if not group.is_stale]
    stale = [group for group in groups if group.is_stale]
    if not live:
        live_html = html(
            '<div class="empty"><strong>No active consumer groups.</strong>'
            "<p>The Spark query has none: its offsets are in its checkpoint, see above.</p></div>"
        )
    else:
        heads = ("Group", "State", "Members", "Topic", "Partition", "Committed offset", "End offset", "Lag", "Client")
        rows = [row for group in live for row in _group_rows(group)]
        live_html = html('<div class="table topics">{}</div>', elements.table_html("Committed offsets", heads, rows))
    names = join(html("<li><code>{}</code></li>", group.name) for group in stale)
    stale_html = (
        html(
            "<details class=stale><summary>{} stale groups of the schema registry, without lag</summary>"
            '<p class="quiet">Apicurio creates a new group at each start and keeps the old.</p><ul>{}</ul></details>',
            len(stale),
            names,
        )
        if stale
        else ""
    )
    return join([live_html, stale_html])


def _group_rows(group: ConsumerGroup) -> list[tuple[str, ...]]:
    state = state_html("ok" if group.members else "idle", group.state)
    owner = html('<br><span class="quiet">the schema registry</span>') if group.is_registry else ""
    head: tuple[str, ...] = html("<code>{}</code>{}", group.name, owner), state, format_number(group.members)
    if not group.reaches:
        return [(*head, "no committed offset", "", "", "", "", "")]
    rows: list[tuple[str, ...]] = []
    for partition in group.reaches:
        topic = html('<a href="/topics/{0}">{0}</a>', partition.topic)
        cells = (
            format_number(partition.partition),
            format_number(partition.committed),
            format_number(partition.end),
            format_number(partition.lag),
            partition.client,
        )
        rows.append((*head, topic, *cells))
        head = "", "", ""
    return rows
