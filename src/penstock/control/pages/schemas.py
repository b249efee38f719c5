"""Schemas: subjects, versions, what differs between two, a check of a draft, and where each version is still in use."""

from html import escape
from urllib.parse import quote, urlencode

from nicegui import ui

from penstock.contract.evolution import Change
from penstock.control import elements
from penstock.control.api.schemas import Difference, InUse, catalogue, differing, in_use
from penstock.control.desk import Desk
from penstock.control.elements import message_link, moment_html, number, state_html
from penstock.control.frame import Visit, page
from penstock.control.parts import Draw, copy_button, fill, soon
from penstock.errors import WrongUse
from penstock.observe.difference import Line
from penstock.observe.subjects import Subject, Subjects, Verdict, Version
from penstock.observe.usage import Use, place_of

_SIGNS = {"-": ("removed", "removed"), "+": ("added", "added"), " ": ("", "unchanged"), "@": ("skipped", "left out")}
_SHOWN_USES = 200
_SHOWN_VERSIONS = 20


def register(desk: Desk) -> None:
    """Serve the pages."""

    @page(desk, "/schemas", "Schemas")
    async def listed(visit: Visit) -> None:
        holding = visit.query.get("find", "")
        _finder(holding)
        _list(await visit.ask(catalogue(desk).subjects, holding), holding)

    @page(desk, "/schemas/{subject}", "Schemas")
    async def one(visit: Visit) -> None:
        await _One(visit).build()


def _finder(holding: str) -> None:
    def find() -> None:
        text = str(field.value or "").strip()
        ui.navigate.to("/schemas" + (f"?{urlencode({'find': text})}" if text else ""))

    with ui.element("div").classes("row-bar"):
        field = ui.input("Part of a subject's name", value=holding).props("outlined dense clearable")
        field.on("keydown.enter", find)
        ui.button("Find", on_click=find).props("no-caps outline")


def _list(found: Subjects, holding: str) -> None:
    if not found.found:
        if holding:
            elements.empty(f"No subject's name holds {holding!r}.", "Look for a shorter part of it.")
        else:
            todo = "The first run registers the schema of its records."
            elements.empty("The registry holds no schema yet.", todo, "./penstock run --records 500")
        return
    rows = [_listed(one) for one in found.subjects]
    shown = len(found.subjects)
    caption = f"{number(found.found)} subjects" if shown == found.found else f"the first {shown} of {found.found:,}"
    caption += f"; a subject without a level of its own has {found.compatibility}"
    elements.table(caption, ["Subject", "Type", "Versions", "Latest id", "Compatibility", "Topic"], rows)


def _listed(one: Subject) -> list[str]:
    versions = f"{len(one.versions)}"
    if len(one.versions) > 1:
        versions += f' (<a href="{_address(one.name, *one.versions[-2:])}">what changed last</a>)'
    name = f'<a href="{_address(one.name)}">{escape(one.name)}</a>'
    return [name, escape(one.type), versions, str(one.latest_id), escape(one.compatibility), _topic(one.name)]


def _topic(subject: str) -> str:
    topic, part = place_of(subject)
    return f'<a href="/topics/{quote(topic, safe="")}">{escape(topic)}</a> {part}s'


def _address(subject: str, older: int | None = None, newer: int | None = None) -> str:
    chosen = f"?from={older}&amp;to={newer}" if older and newer else ""
    return f"/schemas/{quote(subject, safe='')}{chosen}"


class _One:
    """The page of one subject."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._name = visit.path["subject"]
        self._held = catalogue(visit.desk)

    async def build(self) -> None:
        """Make the page; what is in use is looked for when it is shown."""
        subject = await self._visit.ask(self._held.subject, self._name)
        older, newer = self._chosen(subject)
        self._facts(subject)
        elements.heading("In use in the topic")
        soon("Looking at the newest and the oldest messages …", lambda: self._use(subject))
        elements.heading("Versions, and what differs")
        await self._versions(subject, older, newer)
        elements.heading("Check a draft")
        self._draft(subject)

    def _chosen(self, subject: Subject) -> tuple[int, int]:
        """The two versions of the address, or the last two. Raises `WrongUse`."""
        last = subject.versions[-1]
        before = subject.versions[-2] if len(subject.versions) > 1 else last
        found = []
        for name, otherwise in (("from", before), ("to", last)):
            text = self._visit.query.get(name, str(otherwise))
            if not text.isdecimal() or int(text) not in subject.versions:
                known = ", ".join(map(str, subject.versions))
                raise WrongUse(f"{self._name} has no version {text!r}; it has {known}")
            found.append(int(text))
        return found[0], found[1]

    def _facts(self, subject: Subject) -> None:
        with ui.element("div").classes("row-bar"):
            elements.markup('<a href="/schemas">All subjects</a>')
            elements.copyable(self._name, "the subject's name")
        elements.facts(
            [
                ("Type", escape(subject.type)),
                (
                    "Compatibility",
                    f"{escape(subject.compatibility)} <small class=quiet>as the registry checks it</small>",
                ),
                ("Versions", number(len(subject.versions))),
                ("Latest", f"version {subject.versions[-1]}, schema id {subject.latest_id}"),
                ("For", _topic(self._name)),
            ]
        )

    async def _versions(self, subject: Subject, older: int, newer: int) -> None:
        newest = subject.versions[: -_SHOWN_VERSIONS - 1 : -1]
        held = [await self._visit.ask(self._held.version, self._name, one) for one in newest]
        _list_versions(held, subject)
        if len(subject.versions) > 1:
            self._choice(subject, older, newer)
            _difference(await self._visit.ask(differing, self._held, self._name, older, newer))
        for version in dict.fromkeys((newer, older)):
            _text(await self._visit.ask(self._held.version, self._name, version))

    def _choice(self, subject: Subject, older: int, newer: int) -> None:
        def show() -> None:
            if chosen := [one.value for one in fields if one.value]:
                ui.navigate.to(_address(self._name, *chosen).replace("&amp;", "&"))

        options = {one: f"version {one}" for one in subject.versions}
        with ui.element("div").classes("row-bar"):
            fields = [
                ui.select(options, label="From", value=older, on_change=show).props("outlined dense"),
                ui.select(options, label="To", value=newer, on_change=show).props("outlined dense"),
            ]

    async def _use(self, subject: Subject) -> Draw:
        found = await self._visit.ask(in_use, self._visit.desk, self._name)
        is_ours = found.topic == self._visit.desk.pipeline.topic

        def draw() -> None:
            if found.held:
                _use(found, subject)
            elif is_ours:
                elements.empty("The topic holds no message.", "A run fills it.", "./penstock run --records 500")
            else:
                told = "No message of it names a version of this subject."
                elements.empty(f"There is no topic {found.topic}, or it holds no message.", told)

        return draw

    def _draft(self, subject: Subject) -> None:
        told = f"Paste a schema ({subject.type}): it is checked against version {subject.versions[-1]}, not registered."
        elements.markup(told, tag="p").classes("quiet")
        field = ui.textarea("Schema").props("outlined autogrow spellcheck=false input-class=mono maxlength=1000000")
        field.classes("draft")

        async def check() -> None:
            button.disable()
            await fill(result, self._checked(str(field.value or "")))
            button.enable()

        button = ui.button("Check", on_click=check).props("no-caps")
        result = ui.element("div").classes("draft-result").props("role=status aria-live=polite")

    async def _checked(self, draft: str) -> Draw:
        found = await self._visit.ask(self._held.check, self._name, draft)
        return lambda: _verdict(found)


def _list_versions(held: list[Version], subject: Subject) -> None:
    rows = []
    for one in held:
        before = next((other for other in reversed(subject.versions) if other < one.version), None)
        changed = f'<a href="{_address(subject.name, before, one.version)}">what changed</a>' if before else "the first"
        rows.append([f"version {one.version}", str(one.id), f"{len(one.text.splitlines()):,} lines", changed])
    some = "" if len(held) == len(subject.versions) else f", the newest {len(held)} of {len(subject.versions):,}"
    elements.table(f"Versions{some}", ["Version", "Schema id", "Text", ""], rows).classes("versions")


def _difference(found: Difference) -> None:
    if not found.lines:
        elements.markup(f"Versions {found.older} and {found.newer} have the same text.", tag="p")
        return
    _changes(found.changes, f"What changes from version {found.older} to version {found.newer}")
    body = "".join(map(_line, found.lines))
    name = f"Version {found.older} (-) and version {found.newer} (+), line by line"
    head = "".join(f'<th scope="col">{one}</th>' for one in (f"v{found.older}", f"v{found.newer}", "", "Text"))
    table = f"<table><caption>{escape(name)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    shown = elements.markup(table, tag="div").classes("table diff")
    shown.props(f'tabindex=0 role=region aria-label="{escape(name)}"')


def _line(line: Line) -> str:
    kind, word = _SIGNS[line.sign]
    sign = "…" if line.sign == "@" else escape(line.sign)
    numbers = "".join(f"<td class=number>{one or ''}</td>" for one in (line.older, line.newer))
    return (
        f'<tr class="{kind}">{numbers}<td aria-label="{word}">{sign}</td><td><code>{escape(line.text)}</code></td></tr>'
    )


def _changes(changes: list[Change] | None, name: str) -> None:
    if changes is None:
        elements.markup("What this means for records cannot be told: the schemas are not of a known form.", tag="p")
        return
    if not changes:
        elements.markup("By penstock's rules nothing changes for records and rows.", tag="p")
        return
    rows = [
        [_allowed(one), escape(one.field or "the record"), escape(str(one.kind)), escape(one.why)] for one in changes
    ]
    elements.table(f"{name}, by penstock's rules", ["", "Field", "Change", "What it means"], rows).classes("changes")


def _allowed(change: Change) -> str:
    return state_html("ok", "allowed") if change.allowed else state_html("down", "refused")


def _text(version: Version) -> None:
    name = f"Text of version {version.version}, schema id {version.id}"
    with ui.element("details").classes("text"):
        elements.markup(escape(name), tag="summary")
        copy_button(version.text, name)
        elements.markup(escape(version.text), tag="pre").props(f'tabindex=0 aria-label="{escape(name)}"')


def _use(found: InUse, subject: Subject) -> None:
    elements.markup(escape(_sampled(found, subject)), tag="p").classes("quiet")
    rows = [_used(one, found, subject.name) for one in found.uses[:_SHOWN_USES]]
    heads = ["Schema", "Partition", "Messages", "First seen", "Last seen"]
    elements.table(f"Schemas of the {found.part}s in {found.topic}", heads, rows)


def _sampled(found: InUse, subject: Subject) -> str:
    """What was looked at, and which versions were not seen there."""
    if found.is_whole:
        told = f"All {found.held:,} messages were looked at."
    else:
        told = f"Of {found.held:,} messages {found.looked:,} were looked at, the newest and the oldest."
    if found.is_cut:
        told += " The time was over before the sample's end."
    seen = {name for names in found.names.values() for name in names}
    unseen = [str(one) for one in subject.versions if f"{subject.name} version {one}" not in seen]
    if unseen:
        told += f" Not seen: version {', '.join(unseen)}"
        told += "." if found.is_whole else ", which may still lie in between."
    return told


def _used(use: Use, found: InUse, subject: str) -> list[str]:
    first, last = (
        f"{message_link(found.topic, use.partition, offset)} <small class=quiet>{moment_html(at_ms)}</small>"
        for offset, at_ms in ((use.first_offset, use.first_ms), (use.last_offset, use.last_ms))
    )
    return [_schema(use, found, subject), str(use.partition), number(use.messages), first, last]


def _schema(use: Use, found: InUse, subject: str) -> str:
    if use.schema_id is None:
        words = {"no frame": "no frame: read as plain JSON", "null": "null: deletes the row of its key"}
        return f"<span class=quiet>{escape(words.get(use.what, use.what))}</span>"
    names = found.names.get(use.schema_id, [])
    own = [name.removeprefix(f"{subject} ") for name in names if name.startswith(f"{subject} version ")]
    if own:
        return f"<strong>{escape(', '.join(own))}</strong> <small class=quiet>id {use.schema_id}</small>"
    elsewhere = escape(", ".join(names[:3])) or "not in the registry"
    return f'<span class="warn">id {use.schema_id}: {elsewhere}</span>'


def _verdict(found: Verdict) -> None:
    level = f"version {found.against}, level {found.compatibility}"
    if found.is_compatible:
        told = state_html("ok", f"The registry would take it ({level}).")
    else:
        told = state_html("down", f"The registry would refuse it ({level}).")
    elements.markup(told, tag="p")
    if found.messages:
        elements.markup("".join(f"<li>{escape(one)}</li>" for one in found.messages), tag="ul")
    elif not found.is_compatible:
        elements.markup("It gives no reason.", tag="p").classes("quiet")
    _changes(found.changes, f"What would change from version {found.against}")
