"""Topics, their messages, consumer groups, and the progress of the Spark query."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Path, Query

from penstock.broker import admin
from penstock.broker.admin import TopicSetting
from penstock.broker.topics import OffsetRange
from penstock.codec.values import ContentReader
from penstock.errors import NotFound, UsageError
from penstock.web.api import ShowsPersonal
from penstock.web.app_context import AppContext, create_inventory
from penstock.web.topics import groups as observe_groups
from penstock.web.topics.browse import MOST, Browser, MessagePage, MessageQuery
from penstock.web.topics.content import MessageRenderer, ShownMessage
from penstock.web.topics.groups import ConsumerGroup, Positions
from penstock.web.topics.inventory import Inventory, TopicInfo, read_ranges

Name = Annotated[str, Path(description="The topic.", max_length=249)]
_MISSING: dict[int | str, dict[str, Any]] = {404: {"description": "Not found."}}


def register(api: FastAPI, context: AppContext) -> None:
    """Add the routes under /topics, /groups and /positions."""
    inventory = context.get_shared(create_inventory)
    _register_topics(api, context, inventory)
    _register_messages(api, context)
    _register_groups(api, context)


def _register_topics(api: FastAPI, context: AppContext, inventory: Inventory) -> None:
    @api.get("/topics", tags=["topics"])
    def topics() -> list[TopicInfo]:
        """List all topics with records, bytes, retention and records per second."""
        return inventory.list_topics()

    @api.get("/topics/{name}", tags=["topics"], response_model=TopicInfo, responses=_MISSING)
    def topic(name: Name) -> Any:
        """Get a topic."""
        return inventory.get_topic(name)

    @api.get("/topics/{name}/partitions", tags=["topics"], response_model=list[OffsetRange], responses=_MISSING)
    def partitions(name: Name) -> Any:
        """List the offset range of each partition: from `first` (inclusive) to `end` (exclusive)."""
        return read_ranges(context.kafka, context.settings, name)

    @api.get("/topics/{name}/settings", tags=["topics"], response_model=list[TopicSetting], responses=_MISSING)
    def settings(name: Name) -> Any:
        """List the topic's configuration: its overrides and Kafka's defaults."""
        return admin.read_settings(context.kafka, context.settings, inventory.get_topic(name).name)


def _register_messages(api: FastAPI, context: AppContext) -> None:
    @api.get("/topics/{name}/messages", tags=["topics"], response_model=MessagePage, responses=_MISSING)
    def messages(
        name: Name,
        start: Annotated[Literal["newest", "offset", "time"], Query(alias="from")] = "newest",
        partition: Annotated[int | None, Query(ge=0, lt=2**31, description="Only this partition.")] = None,
        offset: Annotated[int | None, Query(ge=0, lt=2**63, description="Start offset, for from=offset.")] = None,
        time: Annotated[datetime | None, Query(description="Start time with a time zone, for from=time.")] = None,
        key: Annotated[str, Query(description="The complete message key.")] = "",
        text: Annotated[str, Query(description="Text in the displayed key or value, ignoring case.")] = "",
        field: Annotated[str, Query(description="Field that the value must have, e.g. address.city.")] = "",
        value: Annotated[str, Query(description="Value of that field, ignoring case.")] = "",
        most: Annotated[int, Query(ge=1, le=MOST)] = 50,
        go_on: Annotated[str, Query(description="The `go_on` value of the previous response.", max_length=10_000)] = "",
        personal: ShowsPersonal = False,
    ) -> Any:
        """Search messages, newest first, or from an offset or time onwards. Scans at most 50,000 messages, for 5 s."""
        if time is not None and time.tzinfo is None:
            raise UsageError(f"invalid time={time.isoformat()}: expected a time zone, e.g. 2026-01-31T09:00:00Z")
        question = MessageQuery(start, partition, offset, time, key, text, field, value, most, go_on)
        renderer = MessageRenderer(ContentReader(context.registry), context.pipeline.record, not personal)
        return Browser(context.kafka, context.settings, name).search(question, renderer)

    @api.get(
        "/topics/{name}/messages/{partition}/{offset}", tags=["topics"], response_model=ShownMessage, responses=_MISSING
    )
    def message(
        name: Name,
        partition: Annotated[int, Path(ge=0, lt=2**31)],
        offset: Annotated[int, Path(ge=0, lt=2**63)],
        personal: ShowsPersonal = False,
    ) -> Any:
        """Get a message."""
        renderer = MessageRenderer(ContentReader(context.registry), context.pipeline.record, not personal)
        browser = Browser(context.kafka, context.settings, name)
        seen = browser.read_message(partition, offset, renderer)
        if seen is None:
            raise NotFound(f"no message at {partition}:{offset} in {name}")
        return seen


def _register_groups(api: FastAPI, context: AppContext) -> None:
    @api.get("/groups", tags=["topics"])
    def groups() -> list[ConsumerGroup]:
        """List consumer groups and their lag."""
        return observe_groups.list_groups(context.kafka, context.settings)

    @api.get("/positions", tags=["topics"], response_model=Positions, responses=_MISSING)
    def positions() -> Any:
        """Compare the Spark query's offsets as per its checkpoint, its last reported batch, and the ledger."""
        now = context.state.now
        recorded = {partition.partition: partition.reached for partition in now.partitions} if now else {}
        return observe_groups.read_positions(context.kafka, context.settings, context.cassandra, recorded)
