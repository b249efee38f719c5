"""Schema pages: subjects, versions, diffs, compatibility check of a draft, and the versions in use."""

from urllib.parse import quote, urlencode

from markupsafe import Markup
from nicegui import ui

from penstock import remedies
from penstock.contract.evolution import Change
from penstock.errors import UsageError
from penstock.web import elements
from penstock.web.app_context import AppContext
from penstock.web.components import Draw, add_deferred, copy_button, fill_section
from penstock.web.elements import format_number, message_link, moment_html, state_html
from penstock.web.markup import html, join
from penstock.web.page_layout import PageContext, page
from penstock.web.schemas.api import InUse, SchemaDifference, compare_versions, create_catalogue, sample_usage
from penstock.web.schemas.difference import DiffLine
from penstock.web.schemas.schema_usage import Use, parse_subject
from penstock.web.schemas.subjects import DraftVerdict, Subject, Subjects, Version

_SIGNS = {"-": ("removed", "removed"), "+": ("added", "added"), " ": ("", "unchanged"), "@": ("skipped", "omitted")}
_SHOWN_USES = 200
_SHOWN_VERSIONS = 20


def register(context: AppContext) -> None:
    """Serve the pages."""

    @page(context, "/schemas", "Schemas")
    async def listed(visit: PageContext) -> None:
        holding = visit.query.get("find", "")
        _add_search(holding)
        _show_subjects(await visit.ask(create_catalogue(context).list_subjects, holding), holding)

    @page(context, "/schemas/{subject}", "Schemas")
    async def subject(visit: PageContext) -> None:
        await _Subject(visit).build()


def _add_search(holding: str) -> None:
    def find() -> None:
        text = str(field.value or "").strip()
        ui.navigate.to("/schemas" + (f"?{urlencode({'find': text})}" if text else ""))

    with ui.element("div").classes("row-bar"):
        field = ui.input("Subject name contains", value=holding).props("outlined dense clearable")
        field.on("keydown.enter", find)
        ui.button("Search", on_click=find).props("no-caps outline")


def _show_subjects(subjects: Subjects, holding: str) -> None:
    if not subjects.found:
        if holding:
            elements.add_empty_state(f"No subjects match {holding!r}.", "Search for a shorter text.")
        else:
            todo = "The first run registers the schema of its records."
            elements.add_empty_state("No schemas are registered yet.", todo, remedies.run_pipeline(records=500))
        return
    rows = [_subject_row(subject) for subject in subjects.subjects]
    shown = len(subjects.subjects)
    caption = (
        f"{format_number(subjects.found)} subjects"
        if shown == subjects.found
        else f"the first {shown} of {subjects.found:,}"
    )
    caption += f"; default compatibility: {subjects.compatibility}"
    elements.add_table(caption, ["Subject", "Type", "Versions", "Latest id", "Compatibility", "Topic"], rows)


def _subject_row(subject: Subject) -> list[str]:
    versions = html("{}", len(subject.versions))
    if len(subject.versions) > 1:
        versions += html(' (<a href="{}">latest changes</a>)', _build_url(subject.name, *subject.versions[-2:]))
    name = html('<a href="{}">{}</a>', _build_url(subject.name), subject.name)
    return [
        name,
        subject.type,
        versions,
        str(subject.latest_id),
        subject.compatibility,
        _topic_html(subject.name),
    ]


def _topic_html(subject: str) -> Markup:
    topic, part = parse_subject(subject)
    return html('<a href="/topics/{}">{}</a> {}s', quote(topic, safe=""), topic, part)


def _build_url(subject: str, older: int | None = None, newer: int | None = None) -> str:
    chosen = f"?from={older}&to={newer}" if older and newer else ""
    return f"/schemas/{quote(subject, safe='')}{chosen}"


class _Subject:
    """The page of a subject."""

    def __init__(self, visit: PageContext) -> None:
        self._visit = visit
        self._name = visit.path["subject"]
        self._catalogue = create_catalogue(visit.context)

    async def build(self) -> None:
        """Build the page. The versions in use are sampled once it is shown."""
        subject = await self._visit.ask(self._catalogue.read_subject, self._name)
        older, newer = self._parse_versions(subject)
        self._show_facts(subject)
        elements.add_heading("Usage in the topic")
        add_deferred("Sampling the newest and the oldest messages …", lambda: self._load_use(subject))
        elements.add_heading("Versions and changes")
        await self._build_versions(subject, older, newer)
        elements.add_heading("Check a draft")
        self._add_draft_form(subject)

    def _parse_versions(self, subject: Subject) -> tuple[int, int]:
        """Return the two versions in the URL, by default the last two. Raises `UsageError`."""
        last = subject.versions[-1]
        before = subject.versions[-2] if len(subject.versions) > 1 else last
        versions = []
        for name, default in (("from", before), ("to", last)):
            text = self._visit.query.get(name, str(default))
            if not text.isdecimal() or int(text) not in subject.versions:
                known = ", ".join(map(str, subject.versions))
                raise UsageError(f"{self._name} has no version {text!r} (available: {known})")
            versions.append(int(text))
        return versions[0], versions[1]

    def _show_facts(self, subject: Subject) -> None:
        with ui.element("div").classes("row-bar"):
            elements.add_html(html('<a href="/schemas">All subjects</a>'))
            elements.add_copyable(self._name, "the subject's name")
        elements.add_facts(
            [
                ("Type", subject.type),
                (
                    "Compatibility",
                    html("{} <small class=quiet>enforced by the registry</small>", subject.compatibility),
                ),
                ("Versions", format_number(len(subject.versions))),
                ("Latest", f"version {subject.versions[-1]}, schema id {subject.latest_id}"),
                ("Topic", _topic_html(self._name)),
            ]
        )

    async def _build_versions(self, subject: Subject, older: int, newer: int) -> None:
        newest = subject.versions[: -_SHOWN_VERSIONS - 1 : -1]
        versions = [await self._visit.ask(self._catalogue.read_version, self._name, number) for number in newest]
        _show_versions(versions, subject)
        if len(subject.versions) > 1:
            self._add_version_choice(subject, older, newer)
            _show_difference(await self._visit.ask(compare_versions, self._catalogue, self._name, older, newer))
        for version in dict.fromkeys((newer, older)):
            _show_text(await self._visit.ask(self._catalogue.read_version, self._name, version))

    def _add_version_choice(self, subject: Subject, older: int, newer: int) -> None:
        def show() -> None:
            if chosen := [field.value for field in fields if field.value]:
                ui.navigate.to(_build_url(self._name, *chosen))

        options = {version: f"version {version}" for version in subject.versions}
        with ui.element("div").classes("row-bar"):
            fields = [
                ui.select(options, label="From", value=older, on_change=show).props("outlined dense"),
                ui.select(options, label="To", value=newer, on_change=show).props("outlined dense"),
            ]

    async def _load_use(self, subject: Subject) -> Draw:
        sample = await self._visit.ask(sample_usage, self._visit.context, self._name)
        is_ours = sample.topic == self._visit.context.pipeline.topic

        def draw() -> None:
            if sample.held:
                _show_use(sample, subject)
            elif is_ours:
                elements.add_empty_state(
                    "The topic is empty.", "A run produces records.", remedies.run_pipeline(records=500)
                )
            else:
                todo = "No message uses a version of this subject."
                elements.add_empty_state(f"The topic {sample.topic} does not exist or is empty.", todo)

        return draw

    def _add_draft_form(self, subject: Subject) -> None:
        text = (
            f"Paste a schema ({subject.type}) to check against version {subject.versions[-1]}. Nothing is registered."
        )
        elements.add_html(text, tag="p").classes("quiet")
        field = ui.textarea("Schema").props("outlined autogrow spellcheck=false input-class=mono maxlength=1000000")
        field.classes("draft")

        async def check() -> None:
            button.disable()
            await fill_section(result, self._check_draft(str(field.value or "")))
            button.enable()

        button = ui.button("Check", on_click=check).props("no-caps")
        result = ui.element("div").classes("draft-result").props("role=status aria-live=polite")

    async def _check_draft(self, draft: str) -> Draw:
        verdict = await self._visit.ask(self._catalogue.check_draft, self._name, draft)
        return lambda: _show_verdict(verdict)


def _show_versions(versions: list[Version], subject: Subject) -> None:
    rows = []
    for version in versions:
        previous = next((number for number in reversed(subject.versions) if number < version.version), None)
        changed = (
            html('<a href="{}">changes</a>', _build_url(subject.name, previous, version.version))
            if previous
            else "first version"
        )
        rows.append(
            [f"version {version.version}", str(version.id), f"{len(version.text.splitlines()):,} lines", changed]
        )
    note = (
        "" if len(versions) == len(subject.versions) else f", the newest {len(versions)} of {len(subject.versions):,}"
    )
    elements.add_table(f"Versions{note}", ["Version", "Schema id", "Text", ""], rows).classes("versions")


def _show_difference(difference: SchemaDifference) -> None:
    if not difference.lines:
        elements.add_html(f"Versions {difference.older} and {difference.newer} have the same text.", tag="p")
        return
    _show_changes(difference.changes, f"Changes from version {difference.older} to version {difference.newer}")
    body = join(map(_line_html, difference.lines))
    name = f"Version {difference.older} (-) and version {difference.newer} (+), line by line"
    head = join(
        html('<th scope="col">{}</th>', title) for title in (f"v{difference.older}", f"v{difference.newer}", "", "Text")
    )
    table = html("<table><caption>{}</caption><thead><tr>{}</tr></thead><tbody>{}</tbody></table>", name, head, body)
    element = elements.add_html(table, tag="div").classes("table diff")
    element.props("tabindex=0 role=region")
    element.props["aria-label"] = name


def _line_html(line: DiffLine) -> Markup:
    kind, word = _SIGNS[line.sign]
    sign = "…" if line.sign == "@" else line.sign
    numbers = join(html("<td class=number>{}</td>", number or "") for number in (line.older, line.newer))
    return html(
        '<tr class="{kind}">{numbers}<td aria-label="{word}">{sign}</td><td><code>{text}</code></td></tr>',
        kind=kind,
        numbers=numbers,
        word=word,
        sign=sign,
        text=line.text,
    )


def _show_changes(changes: list[Change] | None, name: str) -> None:
    if changes is None:
        elements.add_html("The effect on records is unknown: penstock cannot compare schemas of this form.", tag="p")
        return
    if not changes:
        elements.add_html("No effect on records and rows.", tag="p")
        return
    rows = [[_allowed_html(change), change.field or "the record", str(change.kind), change.why] for change in changes]
    elements.add_table(f"{name}, under penstock's rules", ["", "Field", "Change", "Effect"], rows).classes("changes")


def _allowed_html(change: Change) -> Markup:
    return state_html("ok", "allowed") if change.allowed else state_html("down", "rejected")


def _show_text(version: Version) -> None:
    name = f"Text of version {version.version}, schema id {version.id}"
    with ui.element("details").classes("text"):
        elements.add_html(name, tag="summary")
        copy_button(version.text, name)
        elements.add_html(version.text, tag="pre").props("tabindex=0").props["aria-label"] = name


def _show_use(sample: InUse, subject: Subject) -> None:
    elements.add_html(_describe_sample(sample, subject), tag="p").classes("quiet")
    rows = [_use_row(use, sample, subject.name) for use in sample.uses[:_SHOWN_USES]]
    heads = ["Schema", "Partition", "Messages", "First seen", "Last seen"]
    elements.add_table(f"Schemas of the {sample.part}s in {sample.topic}", heads, rows)


def _describe_sample(sample: InUse, subject: Subject) -> str:
    """Describe the sample, and list the versions not seen in it."""
    if sample.is_whole:
        text = f"All {sample.held:,} messages were sampled."
    else:
        text = f"Sampled {sample.looked:,} of {sample.held:,} messages, the newest and the oldest."
    if sample.is_cut:
        text += " Sampling stopped at its time limit."
    seen = {name for names in sample.names.values() for name in names}
    unseen = [str(version) for version in subject.versions if f"{subject.name} version {version}" not in seen]
    if unseen:
        text += f" Not seen: version {', '.join(unseen)}"
        text += "." if sample.is_whole else ", which messages in between may still use."
    return text


def _use_row(use: Use, sample: InUse, subject: str) -> list[str]:
    first, last = (
        html("{} <small class=quiet>{}</small>", message_link(sample.topic, use.partition, offset), moment_html(at_ms))
        for offset, at_ms in ((use.first_offset, use.first_ms), (use.last_offset, use.last_ms))
    )
    return [_schema_html(use, sample, subject), str(use.partition), format_number(use.messages), first, last]


def _schema_html(use: Use, sample: InUse, subject: str) -> Markup:
    if use.schema_id is None:
        labels = {"no header": "no header: read as plain JSON", "null": "null: deletes the row of its key"}
        return html("<span class=quiet>{}</span>", labels.get(use.what, use.what))
    names = sample.names.get(use.schema_id, [])
    own = [name.removeprefix(f"{subject} ") for name in names if name.startswith(f"{subject} version ")]
    if own:
        return html("<strong>{}</strong> <small class=quiet>id {}</small>", ", ".join(own), use.schema_id)
    elsewhere = ", ".join(names[:3]) or "not in the registry"
    return html('<span class="warn">id {}: {}</span>', use.schema_id, elsewhere)


def _show_verdict(verdict: DraftVerdict) -> None:
    level = f"version {verdict.against}, level {verdict.compatibility}"
    if verdict.is_compatible:
        result = state_html("ok", f"The registry would accept it ({level}).")
    else:
        result = state_html("down", f"The registry would reject it ({level}).")
    elements.add_html(result, tag="p")
    if verdict.messages:
        elements.add_html(join(html("<li>{}</li>", message) for message in verdict.messages), tag="ul")
    elif not verdict.is_compatible:
        elements.add_html("The registry gives no reason.", tag="p").classes("quiet")
    _show_changes(verdict.changes, f"Changes from version {verdict.against}")
