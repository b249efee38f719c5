"""Actions on a topic: produce a message, change settings, delete records or the topic."""

from functools import partial

from nicegui import ui

from penstock import remedies
from penstock.broker import admin
from penstock.broker.admin import TopicSetting
from penstock.broker.topics import Position
from penstock.contract.fault import Fault
from penstock.contract.identity import identity_of
from penstock.errors import NotFound, PenstockError, RegistryUnreachable, UsageError
from penstock.pipeline import message_draft
from penstock.web import elements
from penstock.web.app_context import AppContext
from penstock.web.elements import update_html
from penstock.web.markup import NOTHING, html, join
from penstock.web.page_layout import PageContext, page
from penstock.web.schemas.api import create_catalogue
from penstock.web.schemas.subjects import Version
from penstock.web.topics.inventory import Inventory, TopicInfo, read_ranges
from penstock.web.topics.messages import add_topic_bar

_DANGER = "outline no-caps"
_LOST = "All its records are lost, and its consumers stop or start over."
_DROPPED = {
    "pipeline": " The Spark job reads this topic. Its checkpoint does not match a recreated topic, so the job stops "
    f"until you run {remedies.reset_checkpoint()}. Stored rows are kept.",
    "rejected": " verify reports every deleted dead letter as missing, because a recreated topic does not show how "
    "many it held. Delete its records instead.",
}
"""What the deletion of a topic means, by its role."""
_DELETED = {
    "pipeline": " Records that the Spark job has not read yet are never stored.",
    "rejected": " They can no longer be redriven. verify counts them as pruned: it excuses only those before the new "
    "log start, and reports every other absent dead letter.",
}
"""What a deletion of records means, by the topic's role."""


def register(context: AppContext, inventory: Inventory) -> None:
    """Serve the pages."""

    @page(context, "/topics/{name}/produce", "Produce a message")
    async def produce(visit: PageContext) -> None:
        topic = await visit.ask(inventory.get_topic, visit.path["name"])
        admin.check_not_internal(topic.name)
        add_topic_bar(topic, "produce")
        is_pipeline = topic.role == "pipeline"
        _Compose(visit, topic, None if is_pipeline else await visit.ask(_latest_schema, context, topic.name))

    @page(context, "/topics/{name}/settings", "Settings")
    async def settings(visit: PageContext) -> None:
        topic = await visit.ask(inventory.get_topic, visit.path["name"])
        add_topic_bar(topic, "settings")
        current = await visit.ask(admin.read_settings, context.kafka, context.settings, topic.name)
        _Settings(visit, topic, current)
        if not topic.is_internal:
            _Deletion(visit, inventory, topic)


def _latest_schema(context: AppContext, topic: str) -> Version | None:
    """Return the newest schema of the topic's values. None if there is none or the registry is unavailable."""
    try:
        return create_catalogue(context).read_version(f"{topic}-value", "latest")
    except (NotFound, RegistryUnreachable):
        return None


class _Compose:
    """The form that produces a message.

    For the pipeline's topic, the value is validated against the contract and serialized as the producer does. For
    another topic with a value schema, it is validated against that and sent with the wire-format header.
    """

    def __init__(self, visit: PageContext, topic: TopicInfo, schema: Version | None) -> None:
        self._visit = visit
        self._topic = topic.name
        self._schema = schema
        self._is_pipeline = topic.role == "pipeline"
        can_validate = self._is_pipeline or schema is not None
        note = "Key and value are sent as typed, in UTF-8."
        if self._is_pipeline:
            note = (
                "The value is validated against the contract and sent as by the producer: with header, keyed by its id."
            )
        elif schema is not None:
            note = f"The value is validated against {schema.subject} version {schema.version} and sent with its header."
        elements.add_html(note, tag="p").classes("quiet")
        with ui.element("div").classes("card compose"):
            self._key = ui.input("Key (default: the record's id)" if self._is_pipeline else "Key (optional)")
            template = message_draft.build_template(visit.context.pipeline.record) if self._is_pipeline else ""
            self._value = ui.textarea("Value", value=template).props("outlined input-class=mono rows=17")
            self._key.props("outlined dense")
            self._is_null = ui.checkbox(
                "Null value" + (", which deletes the row of the key" if self._is_pipeline else "")
            )
            self._value.bind_enabled_from(self._is_null, "value", lambda value: not value)
            with ui.row():
                if self._is_pipeline:
                    ui.button("Template", on_click=self._fill_template).props("flat no-caps")
                if can_validate:
                    ui.button("Validate", on_click=self._show_check_result).props("outline no-caps")
                ui.button("Send", icon="send", on_click=self._send_message).props("no-caps")
                if can_validate:
                    ui.button("Send without validation", on_click=self._send_as_typed, color=None).props(
                        _DANGER
                    ).classes("danger")
        self._status = elements.add_html("", tag="div").props("role=status aria-live=polite")

    def _fill_template(self) -> None:
        self._value.value = message_draft.build_template(self._visit.context.pipeline.record)

    async def _validate_value(self) -> Fault | object | None:
        """Validate the typed value; return the record or its fault. On a `PenstockError`, show it and return None."""
        context = self._visit.context
        try:
            return await self._visit.ask(
                message_draft.validate_text, context.pipeline, context.registry, self._value.value or ""
            )
        except PenstockError as error:
            self._show_problems(error.message)
            return None

    def _show_problems(self, *problems: str) -> None:
        lines = join(html("<li>{}</li>", problem) for problem in problems)
        update_html(self._status, html('<div class="trouble"><p>Not sent:</p><ul>{}</ul></div>', lines))

    def _show_fault(self, fault: Fault) -> None:
        self._show_problems(*fault.message.split("; "))

    async def _show_check_result(self) -> None:
        if self._schema is not None:
            if self._serialize_value(self._schema) is not None:
                update_html(self._status, html("<p>Valid against the schema.</p>"))
            return
        result = await self._validate_value()
        if isinstance(result, Fault):
            self._show_fault(result)
        elif result is not None:
            update_html(self._status, html("<p>Valid against the contract.</p>"))

    def _serialize_value(self, schema: Version) -> bytes | None:
        """Serialize the value with the schema. If it does not conform, show why and return None."""
        try:
            return message_draft.encode_text(schema.id, schema.type, schema.text, self._value.value or "")
        except UsageError as error:
            self._show_problems(*error.message.splitlines())
            return None

    async def _send_by_schema(self, schema: Version) -> None:
        key, value, settings = (
            (self._key.value or "").encode() or None,
            self._serialize_value(schema),
            self._visit.context.settings,
        )
        if value is not None:
            deliver = partial(message_draft.deliver_message, settings, self._topic, key, value)
            self._show_sent(await self._visit.act("produce", self._topic, deliver))

    async def _send_message(self) -> None:
        if self._schema is not None and not self._is_null.value:
            await self._send_by_schema(self._schema)
            return
        if not self._is_pipeline or self._is_null.value:
            await self._send_as_typed()
            return
        result = await self._validate_value()
        if isinstance(result, Fault):
            self._show_fault(result)
        elif result is not None:
            context = self._visit.context

            def deliver() -> Position:
                key, value = message_draft.encode_record(context.settings, context.pipeline, context.registry, result)  # type: ignore[arg-type]
                return message_draft.deliver_message(context.settings, self._topic, self._encode_key() or key, value)

            self._show_sent(await self._visit.act("produce", self._topic, deliver))

    def _encode_key(self) -> bytes | None:
        """Return the typed key; in the pipeline's topic an id in the form in which the producer writes it."""
        text = self._key.value or ""
        if self._is_pipeline:
            text = identity_of(self._visit.context.pipeline.record).normalize_text(text)
        return text.encode() or None

    async def _send_as_typed(self) -> None:
        key = self._encode_key() if self._is_null.value else (self._key.value or "").encode() or None
        value = None if self._is_null.value else (self._value.value or "").encode()
        if self._is_pipeline and value is None and not await self._confirm_deletion(key):
            return
        settings = self._visit.context.settings
        self._show_sent(
            await self._visit.act(
                "produce as typed",
                self._topic,
                lambda: message_draft.deliver_message(settings, self._topic, key, value),
            )
        )

    async def _confirm_deletion(self, key: bytes | None) -> bool:
        if key is None:
            self._show_problems("a null value deletes the row of its key: enter the key")
            return False
        return await elements.ask_confirmation(
            "Delete a row", f"A null value deletes the row of {key.decode()}.", verb="Send"
        )

    def _show_sent(self, position: Position | None) -> None:
        if position is None:
            return
        address = elements.message_path(self._topic, *position)
        link = html('<a href="{}">{} {}</a>', address, self._topic, position)
        update_html(self._status, html('<div class="verdict">Kafka acknowledged it: {}</div>', link))


class _Settings:
    """A topic's settings, and the form that changes one."""

    def __init__(self, visit: PageContext, topic: TopicInfo, settings: list[TopicSetting]) -> None:
        self._visit = visit
        self._topic = topic.name
        self._known = {setting.name: setting for setting in settings}
        if topic.is_internal:
            elements.add_html("This topic is internal to a service, and read-only here.", tag="p")
        else:
            self._build_form()
        own = [setting for setting in settings if setting.is_own]
        elements.add_table("Topic overrides", ("Setting", "Value"), map(_setting_row, own))
        with ui.element("details").classes("others"):
            elements.add_html(html("{} settings with Kafka's defaults", len(settings) - len(own)), tag="summary")
            defaults = [setting for setting in settings if not setting.is_own]
            elements.add_table("Kafka's defaults", ("Setting", "Value"), map(_setting_row, defaults))

    def _build_form(self) -> None:
        names = [setting.name for setting in self._known.values() if not setting.is_fixed]
        with ui.element("div").classes("card find"):
            self._name = ui.select(
                names, value="retention.ms", label="Setting", with_input=True, on_change=self._show_value
            )
            retention = self._known.get("retention.ms")
            self._value = ui.input("Value", value=retention.value if retention else "")
            for field in (self._name, self._value):
                field.props("outlined dense")
            ui.button("Change", on_click=self._change_setting).props("no-caps")
            ui.button("Reset to default", on_click=self._reset_setting).props("flat no-caps")

    def _show_value(self) -> None:
        setting = self._known.get(self._name.value or "")
        self._value.value = "" if setting is None else setting.value or ""

    async def _change_setting(self) -> None:
        await self._apply_setting(self._value.value or "")

    async def _reset_setting(self) -> None:
        await self._apply_setting(None)

    async def _apply_setting(self, value: str | None) -> None:
        context, name = self._visit.context, self._name.value or ""
        setting = self._known.get(name)
        before = setting.value if setting else ""
        target = "Kafka's default" if value is None else repr(value)
        if not await elements.ask_confirmation(f"Change {name}", f"From {before!r} to {target}.", verb="Change"):
            return

        def alter() -> bool:
            admin.alter_setting(context.kafka, context.settings, self._topic, name, value)
            return True

        if await self._visit.act("change setting", f"{self._topic} {name}={value}", alter):
            ui.navigate.reload()


def _setting_row(setting: TopicSetting) -> tuple[str, str]:
    duration = NOTHING
    if setting.name.endswith(".ms") and (setting.value or "").isdigit() and int(setting.value or "0") < 2**62:
        duration = html(' <span class="quiet">{}</span>', elements.format_duration(int(setting.value or "0")))
    return html("<code>{}</code>", setting.name), html("{}{}", setting.value or "", duration)


class _Deletion:
    """Deletion of records or the whole topic. The viewer must type its name."""

    def __init__(self, visit: PageContext, inventory: Inventory, topic: TopicInfo) -> None:
        self._visit = visit
        self._inventory = inventory
        self._topic = topic
        elements.add_heading("Delete")
        with ui.element("div").classes("card find"):
            partitions: dict[int, str] = {-1: "all"} | {
                partition: str(partition) for partition in range(topic.partitions)
            }
            self._partition = ui.select(partitions, value=-1, label="Partition").props("outlined dense")
            self._before = ui.input("Before offset (default: all records)").props("outlined dense inputmode=numeric")
            ui.button("Delete records", on_click=self._delete_records, color=None).props(_DANGER).classes("danger")
            ui.button("Delete topic", on_click=self._delete_topic, color=None).props(_DANGER).classes("danger")

    async def _delete_records(self) -> None:
        context, name = self._visit.context, self._topic.name
        partition, text = self._partition.value, (self._before.value or "").strip()
        subject = "all records" if not text else f"the records before offset {text}"
        subject += "" if partition == -1 else f" of partition {partition}"
        note = _DELETED.get(self._topic.role, "")
        if not await elements.ask_confirmation(
            f"Delete {subject}", f"The records are lost.{note}", name=name, verb="Delete"
        ):
            return

        def delete() -> bool:
            spans = [
                span for span in read_ranges(context.kafka, context.settings, name) if partition in (-1, span.partition)
            ]
            offset = _parse_offset(text)
            ends = [Position(span.partition, span.end if offset is None else min(offset, span.end)) for span in spans]
            firsts = {span.partition: span.first for span in spans}
            ends = [end for end in ends if end.offset > firsts[end.partition]]
            admin.delete_records(context.kafka, context.settings, name, ends)
            self._inventory.clear_cache()
            return True

        if await self._visit.act("delete records", f"{name} {subject}", delete):
            ui.navigate.to(f"/topics/{name}")

    async def _delete_topic(self) -> None:
        context, name = self._visit.context, self._topic.name
        text = _LOST + _DROPPED.get(self._topic.role, "")
        if not await elements.ask_confirmation(f"Delete {name}", text, name=name, verb="Delete"):
            return

        def delete() -> bool:
            admin.delete_topic(context.kafka, context.settings, name)
            self._inventory.clear_cache()
            return True

        if await self._visit.act("delete topic", name, delete):
            ui.navigate.to("/topics")


def _parse_offset(text: str) -> int | None:
    if text and not (text.isascii() and text.isdigit() and len(text) < 19):
        raise UsageError(f"invalid offset {text[:100]!r}: expected a whole number")
    return int(text) if text else None
