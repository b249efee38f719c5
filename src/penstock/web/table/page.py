"""The Cassandra table: rows, paged in token order; the nodes; the definition. A row's page has its trace."""

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode

from markupsafe import Markup
from nicegui import ui

from penstock import remedies
from penstock.contract.identity import Identity, identity_of
from penstock.contract.masking import MASK
from penstock.errors import PenstockError, UsageError
from penstock.web import elements
from penstock.web.app_context import AppContext
from penstock.web.components import Draw, add_deferred, copy_button, fill_section
from penstock.web.elements import format_number, format_size, state_html
from penstock.web.markup import NOTHING, html, join
from penstock.web.page_layout import PageContext, page
from penstock.web.query_cache import QueryCache
from penstock.web.table import row
from penstock.web.table.api import Nodes, mask_page, open_table, read_node_facts
from penstock.web.table.nodes import Node, Task
from penstock.web.table.table_reader import MOST_ROWS, PAGE_ROWS, Page

_REFRESH_S = 10.0
_ARRIVAL = ("ingested_at", "kafka_partition", "kafka_offset")


def register(context: AppContext) -> None:
    """Serve the pages."""
    kept = QueryCache(lambda: read_node_facts(context), for_s=_REFRESH_S - 1)
    row.register(context)

    @page(context, "/table", "Table")
    async def shown(visit: PageContext) -> None:
        _add_search(identity_of(context.pipeline.record))
        _add_nodes(visit, kept)
        elements.add_heading("Rows")
        await fill_section(ui.element("div"), _load_rows(visit))
        elements.add_heading("Definition")
        add_deferred("Loading …", lambda: _load_definition(visit))


def _add_search(identity: Identity) -> None:
    """Add the search: an input for each field of an id. The first one takes a whole id too."""

    def find() -> None:
        text = build_id_text(identity, [str(field.value or "").strip() for field in inputs])
        if text is None:
            ui.notify(f"Enter {' and '.join(identity.names)}.", type="warning")
        elif text:
            ui.navigate.to(row_path(text))

    with ui.element("div").classes("row-bar"):
        inputs = [ui.input(label) for label in (["Record id"] if identity.is_single else identity.names)]
        for field in inputs:
            field.props("outlined dense clearable").classes("id-field").on("keydown.enter", find)
        ui.button("Show row and trace", on_click=find).props("no-caps")


def build_id_text(identity: Identity, values: Sequence[str]) -> str | None:
    """Return the text of an id that was entered field by field; empty if nothing was, None if a field lacks."""
    entered = [value for value in values if value]
    if identity.is_single or not entered or (entered == [values[0]] and values[0].startswith("{")):
        return "".join(entered)
    if len(entered) < len(values):
        return None
    return json.dumps(dict(zip(identity.names, values, strict=True)), ensure_ascii=False)


def row_path(record_id: str) -> str:
    """Return the path of a row's page."""
    return f"/table/rows/{quote(record_id, safe='')}"


def _add_nodes(visit: PageContext, kept: QueryCache[Nodes]) -> None:
    part = ui.element("div")
    with part:
        shown = elements.add_html(html("<p class=quiet>Loading …</p>"), tag="div")
    trouble = ui.element("div")

    async def refresh() -> None:
        try:
            content = _nodes_html(await visit.ask(kept))
        except PenstockError as error:
            content = NOTHING
            if not trouble.default_slot.children:
                with trouble:
                    elements.add_error(error)
        else:
            trouble.clear()
        elements.update_html(shown, content)

    visit.every(_REFRESH_S, refresh)


def _nodes_html(nodes: Nodes) -> Markup:
    responding = [node for node in nodes.nodes if not node.error]
    cards = {
        "row writes since node start": format_number(_sum_known(responding, "writes")),
        "pending compactions": format_number(_sum_known(responding, "compactions_pending")),
        "SSTables": format_number(nodes.files.sstables) if nodes.files else "unknown",
        "table size on disk": _disk_size(nodes, responding),
        "disk usage of all tables": format_size(_sum_known(responding, "node_bytes")),
    }
    cards_html = join(
        html('<div class="card"><strong>{}</strong><span class="quiet">{}</span></div>', value, name)
        for name, value in cards.items()
    )
    note = ""
    if nodes.files is None:
        note = html("<p class=quiet>For the number of SSTables, run <code>nodetool tablestats</code> on each node.</p>")
    elif not nodes.files.sstables:
        note = html(
            "<p class=quiet>No SSTables yet: rows are in the memtable and the commit log until they are flushed.</p>"
        )
    heads = ["Node", "State", "Datacenter, rack", "Writes", "Reads", "Compactions", "Disk usage"]
    rows = elements.table_html("Cassandra nodes; reads and writes of this table", heads, map(_node_row, nodes.nodes))
    return html('<div class="big">{}</div>{}{}', cards_html, note, elements.region_html("Nodes", rows))


def _disk_size(nodes: Nodes, responding: list[Node]) -> str:
    if nodes.files:
        return format_size(nodes.files.bytes)
    mib = _sum_known(responding, "table_mib")
    return "less than 1 MiB" if mib == 0 else format_size(None if mib is None else mib * 2**20)


def _sum_known(nodes: list[Node], name: str) -> float | None:
    known = [value for node in nodes if (value := getattr(node, name)) is not None]
    return sum(known) if known else None


def _node_row(node: Node) -> list[str]:
    state = state_html("down", node.error) if node.error else state_html("ok", f"up, {node.version}")
    compactions = f"{format_number(node.compactions_active)} active, {format_number(node.compactions_pending)} pending"
    compactions += f", {format_number(node.compactions_done)} done"
    tasks = join(html("<br>{}", _describe_task(task)) for task in node.tasks)
    place = f"{node.datacenter}, {node.rack}"
    return [
        node.address,
        state,
        place,
        format_number(node.writes),
        format_number(node.reads),
        html("{}{}", compactions, tasks),
        format_size(node.node_bytes),
    ]


def _describe_task(task: Task) -> str:
    share = f"{100 * task.done / task.total:.0f} %" if task.total else "started"
    return f"{task.kind} {share}"


async def _load_rows(visit: PageContext) -> Draw:
    count = _parse_size(visit.query.get("size", str(PAGE_ROWS)))
    after = visit.query.get("page", "")
    rows_page = await visit.ask(
        lambda: mask_page(open_table(visit.context).read_page(after, count), visit.context, masks=visit.masks)
    )
    return lambda: _show_page(visit, rows_page, after, count)


def _parse_size(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_ROWS:
        raise UsageError(f"invalid page size {text[:20]!r}: expected 1 to {MOST_ROWS}", hint="/table")
    return int(text)


def _show_page(visit: PageContext, rows_page: Page, after: str, count: int) -> None:
    if not rows_page.rows:
        if after:
            elements.add_html(html('<p>No more rows. <a href="/table">First page</a></p>'), tag="div")
        else:
            todo = "A run fetches records, and the stream stores them."
            elements.add_empty_state("The table is empty.", todo, remedies.run_pipeline(records=500))
        return
    _add_paging(rows_page, after, count)
    names = _order_columns(visit, rows_page.columns)
    heads = [names[0], *(["record in Kafka"] if _has_position(rows_page) else []), *names[1:]]
    rows = [
        _render_row(visit, record_id, columns, names, with_place=_has_position(rows_page))
        for record_id, columns in zip(rows_page.ids, rows_page.rows, strict=True)
    ]
    name = visit.context.pipeline.table
    hides = "; personal data is hidden" if visit.masks else ""
    elements.add_table(f"{len(rows)} rows of {name}, in token order{hides}", heads, rows).classes("rows")
    _add_paging(rows_page, after, count)


def _add_paging(rows_page: Page, after: str, count: int) -> None:
    """Add links to the first and the next page. Going back is left to the browser."""
    parameters = {} if count == PAGE_ROWS else {"size": count}
    links = []
    if after:
        links.append(html('<a href="/table{}">First page</a>', "?" + urlencode(parameters) if parameters else ""))
    if rows_page.next:
        links.append(
            html('<a href="/table?{}" rel="next">Next page</a>', urlencode({"page": rows_page.next, **parameters}))
        )
        links.append(html("<span class=quiet>about {:.0f} % of the table so far</span>", 100 * rows_page.passed))
    else:
        links.append(html("<span class=quiet>last page</span>") if after else html("<span class=quiet>all rows</span>"))
    elements.add_html(join(links, " "), tag="div").classes("row-bar")


def _has_position(rows_page: Page) -> bool:
    return set(_ARRIVAL) <= set(rows_page.columns)


def _order_columns(visit: PageContext, columns: list[str]) -> list[str]:
    """Return the columns to show: the key, the arrival time, then the rest without the Kafka position.

    The position is shown in a column of its own.
    """
    key = identity_of(visit.context.pipeline.stored).columns
    first = [name for name in (*key, "ingested_at") if name in columns]
    return first + [name for name in columns if name not in (*first, "kafka_partition", "kafka_offset")]


def _render_row(
    visit: PageContext, record_id: str, columns: dict[str, Any], names: list[str], *, with_place: bool
) -> list[str]:
    key = row.value_html(columns[names[0]])
    linked = key if record_id == MASK else html('<a href="{}">{}</a>', row_path(record_id), key)
    position = [row.message_link(visit.context.pipeline.topic, columns)] if with_place else []
    return [linked, *position, *(row.value_html(columns[name]) for name in names[1:])]


async def _load_definition(visit: PageContext) -> Draw:
    definition = await visit.ask(lambda: open_table(visit.context).read_definition())

    def draw() -> None:
        with ui.element("details").classes("text"):
            elements.add_html("CREATE TABLE statement", tag="summary")
            copy_button(definition, "the table's definition")
            elements.add_html(definition, tag="pre").props('tabindex=0 aria-label="Definition in CQL"')

    return draw
