"""What can be done with a topic: a message produced, settings changed, records or the topic deleted."""

from functools import partial
from html import escape

from nicegui import ui

from penstock.broker import admin
from penstock.broker.admin import Setting
from penstock.broker.topics import Place
from penstock.contract.reject import Fault
from penstock.control import elements
from penstock.control.api.schemas import catalogue
from penstock.control.desk import Desk
from penstock.control.frame import Visit, page
from penstock.control.pages.topics_messages import bar
from penstock.errors import NotThere, PenstockError, RegistryUnreachable, WrongUse
from penstock.observe.inventory import Inventory, Topic, spans_of
from penstock.observe.subjects import Version
from penstock.pipeline import compose

_DANGER = "outline no-caps"
_LOST = "Every record in it is lost, and whatever reads it stops, or starts over."
_JOB = (
    " The Spark job reads this topic: its checkpoint does not fit a topic that is made anew, so it stops until you run "
    "./penstock checkpoint reset --to earliest. Rows that are stored stay."
)


def register(desk: Desk, inventory: Inventory) -> None:
    """Serve the pages."""

    @page(desk, "/topics/{name}/produce", "Produce a message")
    async def produce(visit: Visit) -> None:
        topic = await visit.ask(inventory.topic, visit.path["name"])
        admin.check_ours(topic.name)
        bar(topic, "produce")
        is_pipeline = topic.role == "pipeline"
        _Compose(visit, topic, None if is_pipeline else await visit.ask(_schema_of, desk, topic.name))

    @page(desk, "/topics/{name}/settings", "Settings")
    async def settings(visit: Visit) -> None:
        topic = await visit.ask(inventory.topic, visit.path["name"])
        bar(topic, "settings")
        found = await visit.ask(admin.settings_of, desk.kafka, desk.settings, topic.name)
        _Settings(visit, topic, found)
        if not topic.is_internal:
            _Deletion(visit, inventory, topic)


def _schema_of(desk: Desk, topic: str) -> Version | None:
    """The newest schema of the topic's values; None when there is none, or no registry to tell of it."""
    try:
        return catalogue(desk).version(f"{topic}-value", "latest")
    except (NotThere, RegistryUnreachable):
        return None


class _Compose:
    """A message to write.

    Of the pipeline's topic the value is checked first, and written as the producer does; of another topic whose values
    have a schema it is checked against that, and framed.
    """

    def __init__(self, visit: Visit, topic: Topic, schema: Version | None) -> None:
        self._visit = visit
        self._topic = topic.name
        self._schema = schema
        self._is_pipeline = topic.role == "pipeline"
        checks = self._is_pipeline or schema is not None
        told = "Key and value are sent as they are typed, as UTF-8."
        if self._is_pipeline:
            told = (
                "The value is checked against the contract, and sent as the producer sends it: framed, keyed by its id."
            )
        elif schema is not None:
            told = f"The value is checked against {schema.subject} version {schema.version}, and sent framed."
        elements.markup(told, tag="p").classes("quiet")
        with ui.element("div").classes("card compose"):
            self._key = ui.input("Key, empty: the record's id" if self._is_pipeline else "Key, empty: none")
            begun = compose.template(visit.desk.pipeline.record) if self._is_pipeline else ""
            self._value = ui.textarea("Value", value=begun).props("outlined input-class=mono rows=17")
            self._key.props("outlined dense")
            self._is_null = ui.checkbox(
                "No value: null" + (", which deletes the row of the key" if self._is_pipeline else "")
            )
            self._value.bind_enabled_from(self._is_null, "value", lambda value: not value)
            with ui.row():
                if self._is_pipeline:
                    ui.button("Template", on_click=self._fill).props("flat no-caps")
                if checks:
                    ui.button("Check", on_click=self._check).props("outline no-caps")
                ui.button("Send", icon="send", on_click=self._send).props("no-caps")
                if checks:
                    ui.button("Send anyway, as typed", on_click=self._send_as_typed, color=None).props(_DANGER).classes(
                        "danger"
                    )
        self._told = elements.markup("", tag="div").props("role=status aria-live=polite")

    def _fill(self) -> None:
        self._value.value = compose.template(self._visit.desk.pipeline.record)

    async def _checked(self) -> Fault | object | None:
        """The record that was typed, or what is wrong with it; None when the registry could not tell."""
        desk = self._visit.desk
        try:
            return await self._visit.ask(compose.checked, desk.pipeline, desk.registry, self._value.value or "")
        except PenstockError as error:
            self._tell(error.message)
            return None

    def _tell(self, *problems: str) -> None:
        lines = "".join(f"<li>{escape(one)}</li>" for one in problems)
        self._told.content = f'<div class="trouble"><p>It was not sent:</p><ul>{lines}</ul></div>'

    def _tell_fault(self, fault: Fault) -> None:
        self._tell(*fault.message.split("; "))

    async def _check(self) -> None:
        if self._schema is not None:
            if self._framed(self._schema) is not None:
                self._told.content = "<p>It keeps every rule of the schema.</p>"
            return
        found = await self._checked()
        if isinstance(found, Fault):
            self._tell_fault(found)
        elif found is not None:
            self._told.content = "<p>It keeps every rule of the contract.</p>"

    def _framed(self, schema: Version) -> bytes | None:
        """The value, as the schema has it; None when it breaks it, which is told."""
        try:
            return compose.framed(schema.id, schema.type, schema.text, self._value.value or "")
        except WrongUse as error:
            self._tell(*error.message.splitlines())
            return None

    async def _send_by_schema(self, schema: Version) -> None:
        key, value, settings = (self._key.value or "").encode() or None, self._framed(schema), self._visit.desk.settings
        if value is not None:
            deed = partial(compose.deliver, settings, self._topic, key, value)
            self._sent(await self._visit.act("produce", self._topic, deed))

    async def _send(self) -> None:
        if self._schema is not None and not self._is_null.value:
            await self._send_by_schema(self._schema)
            return
        if not self._is_pipeline or self._is_null.value:
            await self._send_as_typed()
            return
        found = await self._checked()
        if isinstance(found, Fault):
            self._tell_fault(found)
        elif found is not None:
            desk = self._visit.desk

            def deed() -> Place:
                key, value = compose.packed(desk.settings, desk.pipeline, desk.registry, found)  # type: ignore[arg-type]
                return compose.deliver(desk.settings, self._topic, (self._key.value or "").encode() or key, value)

            self._sent(await self._visit.act("produce", self._topic, deed))

    async def _send_as_typed(self) -> None:
        key = (self._key.value or "").encode() or None
        value = None if self._is_null.value else (self._value.value or "").encode()
        if self._is_pipeline and value is None and not await self._deletes(key):
            return
        settings = self._visit.desk.settings
        self._sent(
            await self._visit.act(
                "produce as typed", self._topic, lambda: compose.deliver(settings, self._topic, key, value)
            )
        )

    async def _deletes(self, key: bytes | None) -> bool:
        if key is None:
            self._tell("a null value deletes the row of its key: type the key")
            return False
        return await elements.confirmed("Delete a row", f"A null value deletes the row of {key.decode()}.", verb="Send")

    def _sent(self, place: Place | None) -> None:
        if place is None:
            return
        to = elements.message_address(self._topic, *place)
        self._told.content = (
            f'<div class="verdict">Kafka acknowledged it: <a href="{to}">{escape(self._topic)} {place}</a></div>'
        )


class _Settings:
    """A topic's settings, and a way to change one."""

    def __init__(self, visit: Visit, topic: Topic, found: list[Setting]) -> None:
        self._visit = visit
        self._topic = topic.name
        self._known = {one.name: one for one in found}
        if topic.is_internal:
            elements.markup("A service keeps this topic for itself: it can be looked at here, not changed.", tag="p")
        else:
            self._form()
        own = [one for one in found if one.is_own]
        elements.table("Set for this topic", ("Setting", "Value"), map(_setting_row, own))
        with ui.element("details").classes("others"):
            elements.markup(f"{len(found) - len(own)} settings as Kafka has them", tag="summary")
            rest = [one for one in found if not one.is_own]
            elements.table("Kafka's own", ("Setting", "Value"), map(_setting_row, rest))

    def _form(self) -> None:
        names = [one.name for one in self._known.values() if not one.is_fixed]
        with ui.element("div").classes("card find"):
            self._name = ui.select(
                names, value="retention.ms", label="Setting", with_input=True, on_change=self._chosen
            )
            kept = self._known.get("retention.ms")
            self._value = ui.input("Value", value=kept.value if kept else "")
            for one in (self._name, self._value):
                one.props("outlined dense")
            ui.button("Change", on_click=self._change).props("no-caps")
            ui.button("As Kafka has it", on_click=self._reset).props("flat no-caps")

    def _chosen(self) -> None:
        found = self._known.get(self._name.value or "")
        self._value.value = "" if found is None else found.value or ""

    async def _change(self) -> None:
        await self._set(self._value.value or "")

    async def _reset(self) -> None:
        await self._set(None)

    async def _set(self, value: str | None) -> None:
        desk, name = self._visit.desk, self._name.value or ""
        known = self._known.get(name)
        before = known.value if known else ""
        to = "what Kafka has" if value is None else repr(value)
        if not await elements.confirmed(f"Change {name}", f"From {before!r} to {to}.", verb="Change"):
            return

        def deed() -> bool:
            admin.alter(desk.kafka, desk.settings, self._topic, name, value)
            return True

        if await self._visit.act("change setting", f"{self._topic} {name}={value}", deed):
            ui.navigate.reload()


def _setting_row(one: Setting) -> tuple[str, str]:
    told = ""
    if one.name.endswith(".ms") and (one.value or "").isdigit() and int(one.value or "0") < 2**62:
        told = f' <span class="quiet">{elements.duration(int(one.value or "0"))}</span>'
    return f"<code>{escape(one.name)}</code>", f"{escape(one.value or '')}{told}"


class _Deletion:
    """Records, or the whole topic, deleted; its name has to be typed."""

    def __init__(self, visit: Visit, inventory: Inventory, topic: Topic) -> None:
        self._visit = visit
        self._inventory = inventory
        self._topic = topic
        elements.heading("Delete")
        with ui.element("div").classes("card find"):
            parts: dict[int, str] = {-1: "all"} | {one: str(one) for one in range(topic.partitions)}
            self._partition = ui.select(parts, value=-1, label="Partition").props("outlined dense")
            self._before = ui.input("Before offset, empty: all records").props("outlined dense inputmode=numeric")
            ui.button("Delete records", on_click=self._records, color=None).props(_DANGER).classes("danger")
            ui.button("Delete the topic", on_click=self._all, color=None).props(_DANGER).classes("danger")

    async def _records(self) -> None:
        desk, name = self._visit.desk, self._topic.name
        partition, text = self._partition.value, (self._before.value or "").strip()
        told = "all records" if not text else f"the records before offset {text}"
        told += "" if partition == -1 else f" of partition {partition}"
        note = " Those that the Spark job has not read yet are never stored." if self._topic.role == "pipeline" else ""
        if not await elements.confirmed(f"Delete {told}", f"They are lost.{note}", name=name, verb="Delete"):
            return

        def deed() -> bool:
            spans = [one for one in spans_of(desk.kafka, desk.settings, name) if partition in (-1, one.partition)]
            offset = _offset(text)
            ends = [Place(one.partition, one.end if offset is None else min(offset, one.end)) for one in spans]
            firsts = {one.partition: one.first for one in spans}
            ends = [one for one in ends if one.offset > firsts[one.partition]]
            admin.delete_records(desk.kafka, desk.settings, name, ends)
            self._inventory.forget()
            return True

        if await self._visit.act("delete records", f"{name} {told}", deed):
            ui.navigate.to(f"/topics/{name}")

    async def _all(self) -> None:
        desk, name = self._visit.desk, self._topic.name
        text = _LOST + (_JOB if self._topic.role == "pipeline" else "")
        if not await elements.confirmed(f"Delete {name}", text, name=name, verb="Delete"):
            return

        def deed() -> bool:
            admin.delete_topic(desk.kafka, desk.settings, name)
            self._inventory.forget()
            return True

        if await self._visit.act("delete topic", name, deed):
            ui.navigate.to("/topics")


def _offset(text: str) -> int | None:
    if text and not (text.isascii() and text.isdigit() and len(text) < 19):
        raise WrongUse(f"{text[:100]!r} is no offset: it is a whole number")
    return int(text) if text else None
