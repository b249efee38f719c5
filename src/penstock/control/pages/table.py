"""Table: Cassandra's rows, page by page in the order of their tokens; a row and its way; the nodes; the definition."""

from html import escape
from typing import Any
from urllib.parse import quote, urlencode

from nicegui import ui

from penstock.contract.fields import key_of
from penstock.contract.masking import MASK
from penstock.control import elements
from penstock.control.api.table import Nodes, hidden, node_facts, table
from penstock.control.desk import Desk
from penstock.control.elements import number, size, state_html
from penstock.control.frame import Visit, page
from penstock.control.pages import row
from penstock.control.parts import Draw, copy_button, fill, soon
from penstock.control.shared import Shared
from penstock.errors import PenstockError, WrongUse
from penstock.observe.nodes import Node, Task
from penstock.observe.table import MOST_ROWS, PAGE_ROWS, Page

_REFRESH_S = 10.0
_ARRIVAL = ("ingested_at", "kafka_partition", "kafka_offset")


def register(desk: Desk) -> None:
    """Serve the pages."""
    kept = Shared(lambda: node_facts(desk), for_s=_REFRESH_S - 1)
    row.register(desk)

    @page(desk, "/table", "Table")
    async def shown(visit: Visit) -> None:
        _finder()
        _node_facts(visit, kept)
        elements.heading("Rows")
        await fill(ui.element("div"), _rows(visit))
        elements.heading("Definition")
        soon("Asking Cassandra …", lambda: _definition(visit))


def _finder() -> None:
    def find() -> None:
        if text := str(field.value or "").strip():
            ui.navigate.to(f"/table/rows/{quote(text, safe='')}")

    with ui.element("div").classes("row-bar"):
        field = ui.input("Id of a record").props("outlined dense clearable").classes("id-field")
        field.on("keydown.enter", find)
        ui.button("Show row and trace", on_click=find).props("no-caps")


def _node_facts(visit: Visit, kept: Shared[Nodes]) -> None:
    part = ui.element("div")
    with part:
        shown = elements.markup("<p class=quiet>Asking the nodes …</p>", tag="div")
    trouble = ui.element("div")

    async def refresh() -> None:
        try:
            content = _nodes(await visit.ask(kept))
        except PenstockError as error:
            content = ""
            if not trouble.default_slot.children:
                with trouble:
                    elements.trouble(error)
        else:
            trouble.clear()
        if shown.content != content:
            shown.content = content

    visit.every(_REFRESH_S, refresh)


def _nodes(found: Nodes) -> str:
    there = [one for one in found.nodes if not one.error]
    cards = {
        "writes of rows since the nodes' start": number(_sum(there, "writes")),
        "compactions wait": number(_sum(there, "compactions_pending")),
        "SSTables": number(found.files.sstables) if found.files else "not known from here",
        "the table's files": _disk(found, there),
        "all files of the nodes": size(_sum(there, "node_bytes")),
    }
    big = "".join(
        f'<div class="card"><strong>{escape(value)}</strong><span class="quiet">{escape(name)}</span></div>'
        for name, value in cards.items()
    )
    told = ""
    if found.files is None:
        told = "<p class=quiet>How many SSTables there are, each node's <code>nodetool tablestats</code> tells.</p>"
    elif not found.files.sstables:
        told = "<p class=quiet>No SSTable yet: the rows are in memory and in the commit log until they are flushed.</p>"
    heads = ["Node", "State", "Place", "Writes", "Reads", "Compactions", "All its files"]
    rows = elements.table_html("Cassandra's nodes; reads and writes are of this table", heads, map(_node, found.nodes))
    return f'<div class="big">{big}</div>{told}{elements.region_html("Nodes", rows)}'


def _disk(found: Nodes, there: list[Node]) -> str:
    if found.files:
        return size(found.files.bytes)
    mib = _sum(there, "table_mib")
    return "less than 1 MiB" if mib == 0 else size(None if mib is None else mib * 2**20)


def _sum(nodes: list[Node], name: str) -> float | None:
    known = [value for one in nodes if (value := getattr(one, name)) is not None]
    return sum(known) if known else None


def _node(one: Node) -> list[str]:
    state = state_html("down", one.error) if one.error else state_html("ok", f"up, {one.version}")
    compactions = f"{number(one.compactions_active)} run, {number(one.compactions_pending)} wait"
    compactions += f", {number(one.compactions_done)} done" + "".join(f"<br>{_task(task)}" for task in one.tasks)
    place = f"{escape(one.datacenter)}, {escape(one.rack)}"
    return [
        escape(one.address),
        state,
        place,
        number(one.writes),
        number(one.reads),
        compactions,
        size(one.node_bytes),
    ]


def _task(task: Task) -> str:
    share = f"{100 * task.done / task.total:.0f} %" if task.total else "begun"
    return f"{escape(task.kind)} {share}"


async def _rows(visit: Visit) -> Draw:
    count = _count(visit.query.get("size", str(PAGE_ROWS)))
    after = visit.query.get("page", "")
    found = await visit.ask(lambda: hidden(table(visit.desk).page(after, count), visit.desk, masks=visit.masks))
    return lambda: _page(visit, found, after, count)


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_ROWS:
        raise WrongUse(f"{text[:20]!r} is no number of rows from 1 to {MOST_ROWS}", hint="/table")
    return int(text)


def _page(visit: Visit, found: Page, after: str, count: int) -> None:
    if not found.rows:
        if after:
            elements.markup('<p>No row follows. <a href="/table">First page</a></p>', tag="div")
        else:
            todo = "A run fetches records, and the stream stores them."
            elements.empty("The table holds no row yet.", todo, "./penstock run --records 500")
        return
    _turn(found, after, count)
    names = _ordered(visit, found.columns)
    heads = [names[0], *(["record in Kafka"] if _has_place(found) else []), *names[1:]]
    rows = [_row(visit, one, names, with_place=_has_place(found)) for one in found.rows]
    name = visit.desk.pipeline.table
    hides = "; personal data are hidden" if visit.masks else ""
    elements.table(f"{len(rows)} rows of {name}, in the order of their tokens{hides}", heads, rows).classes("rows")
    _turn(found, after, count)


def _turn(found: Page, after: str, count: int) -> None:
    """The way to other pages; backwards the browser knows it."""
    more = {} if count == PAGE_ROWS else {"size": count}
    links = []
    if after:
        links.append(f'<a href="/table{"?" + urlencode(more) if more else ""}">First page</a>')
    if found.next:
        links.append(f'<a href="/table?{escape(urlencode({"page": found.next, **more}))}" rel="next">Next page</a>')
        links.append(f"<span class=quiet>about {100 * found.passed:.0f} % of the table so far</span>")
    else:
        links.append("<span class=quiet>the last page</span>" if after else "<span class=quiet>all rows</span>")
    elements.markup(" ".join(links), tag="div").classes("row-bar")


def _has_place(found: Page) -> bool:
    return set(_ARRIVAL) <= set(found.columns)


def _ordered(visit: Visit, columns: list[str]) -> list[str]:
    """The key, then when the row came, then the rest; where it came from is a column of its own."""
    key = key_of(visit.desk.pipeline.stored).column
    first = [name for name in (key, "ingested_at") if name in columns]
    return first + [name for name in columns if name not in (*first, "kafka_partition", "kafka_offset")]


def _row(visit: Visit, one: dict[str, Any], names: list[str], *, with_place: bool) -> list[str]:
    key = one[names[0]]
    linked = MASK if key == MASK else f'<a href="/table/rows/{quote(str(key), safe="")}">{escape(str(key))}</a>'
    place = [row.message_link(visit.desk.pipeline.topic, one)] if with_place else []
    return [linked, *place, *(row.value_html(one[name]) for name in names[1:])]


async def _definition(visit: Visit) -> Draw:
    found = await visit.ask(lambda: table(visit.desk).definition())

    def draw() -> None:
        with ui.element("details").classes("text"):
            elements.markup("The statement that makes the table as it is", tag="summary")
            copy_button(found, "the table's definition")
            elements.markup(escape(found), tag="pre").props('tabindex=0 aria-label="Definition in CQL"')

    return draw
