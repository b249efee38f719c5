"""What a pipeline's file defines, and how it is found."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from penstock.config import Settings
from penstock.contract.cql import name as cql_name
from penstock.contract.fields import key_of
from penstock.contract.record import Record
from penstock.errors import WrongSettings


@dataclass(frozen=True)
class Pipeline:
    """A record, where it comes from and where it goes.

    `from_source` makes the record's fields of one entry of the API's answer. Whatever it raises makes a dead letter of
    that entry alone; `msgspec.ValidationError` counts as a broken rule.

    `secret` names the API's fields that are kept nowhere, not even in an entry that is set aside.

    `transform`, when there is one, is given each micro-batch's decoded records as a Spark DataFrame (the record's
    columns and `kafka_partition`, `kafka_offset`, `ingested_at`) and returns the rows to store: at most one row per
    record, with those three columns unchanged. `row` is then what a row must be; records it drops are counted.
    """

    topic: str
    keyspace: str
    table: str
    record: type[Record]
    from_source: Callable[[Any], dict[str, Any]]
    secret: frozenset[str] = frozenset()
    transform: Callable[[Any], Any] | None = None
    row: type[Record] | None = None

    def __post_init__(self) -> None:
        cql_name(self.keyspace)
        cql_name(self.table)
        if key_of(self.stored).name != key_of(self.record).name:
            raise TypeError(f"{self.stored.__name__} must have the key of {self.record.__name__}")

    @property
    def stored(self) -> type[Record]:
        """What a row of the table is: `row`, or the record itself."""
        return self.row or self.record

    @property
    def dead_letter_topic(self) -> str:
        """Where records that cannot be stored are set aside."""
        return f"{self.topic}.dlq"

    @property
    def subject(self) -> str:
        """The schema registry's subject of the topic's values (TopicNameStrategy)."""
        return f"{self.topic}-value"


def of(settings: Settings) -> Pipeline:
    """The pipeline in force. Raises `WrongSettings` when there is none."""
    return load(settings.pipeline)


@cache
def load(name: str) -> Pipeline:
    """The `PIPELINE` of the module called `name`, or of the file when it ends in .py.

    Raises `WrongSettings` when there is none.
    """
    try:
        pipeline = (_file(Path(name)) if name.endswith(".py") else import_module(name)).PIPELINE
    except Exception as error:
        raise WrongSettings(
            f"PENSTOCK_PIPELINE={name}: {error}", hint="PENSTOCK_PIPELINE=penstock.pipelines.users ./penstock config"
        ) from error
    if not isinstance(pipeline, Pipeline):
        raise WrongSettings(f"PENSTOCK_PIPELINE={name}: PIPELINE is a {type(pipeline).__name__}, not a Pipeline")
    return pipeline


def _file(path: Path) -> ModuleType:
    spec = spec_from_file_location(f"penstock_pipeline_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # msgspec finds the types that annotations name there
    spec.loader.exec_module(module)
    return module
