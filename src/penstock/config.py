"""Settings: the only place that reads the environment.

Each setting is an environment variable, `PENSTOCK_` and the name in capitals. A cluster of your own is a set of
addresses: set them, and nothing else changes. Addresses that are not set point at the local stack's ports. A setting
may also be a file in the folder that `PENSTOCK_SECRETS_DIR` names, as Docker and Kubernetes mount secrets.
"""

import ast
import os
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from penstock.errors import WrongSettings
from penstock.net import is_loopback

PREFIX = "PENSTOCK_"
REAL_API_URL = "https://randomuser.me/api/"
LOOPBACK = "127.0.0.1"
LOOPBACKS = frozenset({LOOPBACK, "localhost", "::1"})
LEAST_SPARK_HEAP_MIB = 466
"""Spark refuses less than 450 MiB that can be used, which is what Java's serial collector leaves of this heap."""

_BROKER = re.compile(r"([A-Z_]+://)?(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):\d{1,5}")
_HOST = re.compile(r"[^\s:/]+|[0-9a-fA-F:]*:[0-9a-fA-F:.]*:[0-9a-fA-F:.]*")


def _local(template: str) -> Callable[[dict[str, Any]], str]:
    """A default address made from the ports that are in force."""
    return lambda data: template.format(host=LOOPBACK, **data)


class Settings(BaseSettings):
    """What can be set; frozen, checked as a whole when it is read."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="ignore", validate_default=True
    )

    secrets_dir: Path | None = Field(
        None,
        description="Folder of files that each hold a setting, named as its variable, in small letters; variables win.",
    )
    home: Path = Field(Path(".penstock"), description="Folder of everything that is generated: data, logs, jars.")
    cache: Path | None = Field(None, description="Folder of downloads, to share between homes; empty: in home.")
    pipeline: str = Field("penstock.pipelines.users", description="Module, or .py file, that holds PIPELINE.")
    wire_format: Literal["json", "avro"] = Field("json", description="Encoding of the values in Kafka.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least level that is logged.")
    log_json: bool = Field(False, description="Log JSON lines instead of text.")

    # ports of the local stack, all on 127.0.0.1
    kafka_port: int = Field(9092, ge=1, le=65535, description="Kafka of the local stack.")
    kafka_controller_port: int = Field(9093, ge=1, le=65535, description="Kafka's KRaft controller.")
    zookeeper_port: int = Field(2181, ge=1, le=65535, description="ZooKeeper, with coordination=zookeeper.")
    registry_port: int = Field(8081, ge=1, le=65535, description="Schema registry.")
    registry_management_port: int = Field(8082, ge=1, le=65535, description="Schema registry's health endpoint.")
    cassandra_port: int = Field(9042, ge=1, le=65535, description="Cassandra's CQL port, of the local stack or not.")
    cassandra_storage_port: int = Field(7000, ge=1, le=65535, description="Cassandra's node-to-node port.")
    spark_port: int = Field(7077, ge=1, le=65535, description="Spark master.")
    spark_ui_port: int = Field(9090, ge=1, le=65535, description="Spark master's page.")
    spark_worker_ui_port: int = Field(9091, ge=1, le=65535, description="Spark worker's page.")
    spark_job_ui_port: int = Field(4040, ge=1, le=65535, description="Page of the running Spark job.")
    airflow_port: int = Field(8080, ge=1, le=65535, description="Airflow's page and API.")
    source_port: int = Field(8000, ge=1, le=65535, description="Stand-in for the random user API.")
    control_port: int = Field(9021, ge=1, le=65535, description="Control center.")

    # the local stack
    coordination: Literal["kraft", "zookeeper"] = Field("kraft", description="Who coordinates Kafka.")
    ready_timeout_s: float = Field(240, gt=0, description="Longest wait for a service of the local stack, in seconds.")
    kafka_heap_mib: int = Field(512, ge=256, description="Kafka's heap.")
    zookeeper_heap_mib: int = Field(128, ge=64, description="ZooKeeper's heap.")
    registry_heap_mib: int = Field(256, ge=128, description="Schema registry's heap.")
    cassandra_heap_mib: int = Field(1024, ge=512, description="Cassandra's heap.")
    spark_daemon_heap_mib: int = Field(192, ge=128, description="Heap of Spark's master and of its worker.")

    # source
    source_url: str = Field(REAL_API_URL, description="The HTTP API; the local stack points it at its stand-in.")
    source_hosts: str = Field(
        "", description="Hosts that a run may ask besides that of PENSTOCK_SOURCE_URL: host[,host]; empty: any."
    )
    source_batch_records: int = Field(500, ge=1, le=5000, description="Records asked for in one request.")
    source_timeout_s: float = Field(20, gt=0, description="Longest wait for one answer, in seconds.")
    source_attempts: int = Field(8, ge=1, description="Requests made for one answer before giving up.")
    source_max_wait_s: float = Field(
        300, ge=0, description="Longest that an API's rate limit is waited for, for one answer, in seconds."
    )
    source_max_failed_share: float = Field(
        0.2, ge=0, le=1, description="A run fails when more than this share of its entries become dead letters."
    )

    # Kafka
    kafka_bootstrap: str = Field(default_factory=_local("{host}:{kafka_port}"), description="host:port[,host:port].")
    kafka_partitions: int = Field(4, ge=1, description="Partitions of a topic that penstock creates.")
    kafka_replication: int = Field(1, ge=1, description="Replicas of a topic that penstock creates.")
    kafka_retention_hours: int = Field(168, ge=1, description="Retention of a topic that penstock creates, in hours.")
    kafka_timeout_s: float = Field(30, gt=0, description="Longest wait for an answer or acknowledgement, in seconds.")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="As Kafka's security.protocol."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="As Kafka's sasl.mechanism."
    )
    kafka_username: str = Field("", description="SASL user.")
    kafka_password: SecretStr = Field(SecretStr(""), description="SASL password.")
    kafka_ca_file: Path | None = Field(None, description="PEM file of the authority that signed the brokers.")

    # schema registry
    registry_url: str = Field(
        default_factory=_local("http://{host}:{registry_port}/apis/ccompat/v7"),
        description="Confluent-compatible API of the schema registry.",
    )
    registry_timeout_s: float = Field(10, gt=0, description="Longest wait for an answer, in seconds.")
    registry_username: str = Field("", description="Basic-auth user.")
    registry_password: SecretStr = Field(SecretStr(""), description="Basic-auth password.")

    # Cassandra
    cassandra_hosts: str = Field(LOOPBACK, description="Contact points: host[,host].")
    cassandra_datacenter: str = Field("", description="Local data centre; empty: that of the first contact point.")
    cassandra_keyspace: str = Field("", description="Keyspace; empty: the pipeline's.")
    cassandra_replication: str = Field(
        "{'class': 'SimpleStrategy', 'replication_factor': 1}", description="Replication of a keyspace it creates."
    )
    cassandra_consistency: Literal["ONE", "QUORUM", "LOCAL_ONE", "LOCAL_QUORUM", "EACH_QUORUM", "ALL"] = Field(
        "LOCAL_QUORUM", description="Consistency level of writes and reads."
    )
    cassandra_timeout_s: float = Field(15, gt=0, description="Longest wait for an answer, in seconds.")
    cassandra_concurrency: int = Field(8, ge=1, description="Batches in flight per Spark task.")
    cassandra_username: str = Field("", description="User.")
    cassandra_password: SecretStr = Field(SecretStr(""), description="Password.")
    cassandra_ca_file: Path | None = Field(None, description="PEM file of the authority; set: TLS is used.")

    # Spark
    spark_master: str = Field(default_factory=_local("spark://{host}:{spark_port}"), description="Master to submit to.")
    spark_checkpoint: str = Field("", description="Checkpoint folder or URL; empty: in home.")
    spark_trigger_ms: int = Field(200, ge=0, description="Shortest time from one micro-batch to the next, in ms.")
    spark_batch_records: int = Field(100_000, ge=1, le=1_000_000, description="Most records of one micro-batch.")
    spark_cores: int = Field(2, ge=1, description="Cores of the job.")
    spark_driver_memory_mib: int = Field(
        512, ge=LEAST_SPARK_HEAP_MIB, description="Heap of the job's driver; Spark does not start with less than 466."
    )
    spark_executor_memory_mib: int = Field(
        640, ge=LEAST_SPARK_HEAP_MIB, description="Heap of the job's executor; Spark does not start with less than 466."
    )
    spark_wait_s: float = Field(120, gt=0, description="Longest wait for Kafka and Cassandra at start, in seconds.")

    # Airflow
    airflow_url: str = Field(default_factory=_local("http://{host}:{airflow_port}"), description="Airflow's API.")
    airflow_username: str = Field("airflow", description="User.")
    airflow_password: SecretStr = Field(SecretStr("airflow"), description="Password.")
    airflow_timeout_s: float = Field(60, gt=0, description="Longest wait for an answer, in seconds.")

    # alerts
    watch_s: float = Field(10, ge=1, description="Time from one look for alerts to the next, in seconds.")
    watch_verify_hours: float = Field(
        6, ge=0, description="Time from one `verify` that the watch has carried out to the next, in hours; 0: none."
    )
    alert_lag_records: int = Field(
        10_000, ge=0, description="Alert when more records than this wait to be stored for too long."
    )
    alert_lag_s: float = Field(300, ge=0, description="How long so many may wait before that, in seconds.")
    alert_rejected_share: float = Field(
        0.05, ge=0, le=1, description="Alert when more than this share of five minutes' records is rejected."
    )
    alert_no_data_hours: float = Field(26, gt=0, description="Alert when the newest record is older, in hours.")
    alert_down_s: float = Field(120, ge=0, description="Alert when a service is away for this long, in seconds.")
    alert_webhook_url: SecretStr = Field(
        SecretStr(""), description="Where each change of an alert is posted as JSON; empty: nowhere."
    )

    # control center
    control_host: str = Field(
        LOOPBACK, description="Address that it listens on; another than loopback needs a password."
    )
    control_bind: str = Field(
        "",
        description="Address that a container engine publishes it on; loopback: it needs no password; "
        "empty: the one that it listens on.",
    )
    control_password: SecretStr = Field(SecretStr(""), description="Password to sign in with; empty: nobody has to.")
    control_names: str = Field("", description="Host names under which browsers reach it, besides its address: a[,b].")

    @field_validator("home", "cache", "kafka_ca_file", "cassandra_ca_file")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return path and path.expanduser().absolute()

    @field_validator("pipeline")
    @classmethod
    def _absolute_file(cls, pipeline: str) -> str:
        return str(Path(pipeline).expanduser().absolute()) if pipeline.endswith(".py") else pipeline

    @field_validator("source_url", "registry_url", "airflow_url")
    @classmethod
    def _http(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return url

    @field_validator("kafka_bootstrap")
    @classmethod
    def _brokers(cls, brokers: str) -> str:
        if not all(map(_BROKER.fullmatch, brokers.split(","))):
            raise ValueError(f"{brokers!r} is not host:port[,host:port], e.g. kafka-1:9092,kafka-2:9092")
        return brokers

    @field_validator("cassandra_hosts")
    @classmethod
    def _hosts(cls, hosts: str) -> str:
        if not all(map(_HOST.fullmatch, hosts.split(","))):
            raise ValueError(f"{hosts!r} is not host[,host]; the port is PENSTOCK_CASSANDRA_PORT")
        return hosts

    @field_validator("cassandra_replication")
    @classmethod
    def _replication(cls, replication: str) -> str:
        try:
            options = ast.literal_eval(replication)
        except (ValueError, SyntaxError):
            options = None
        if not (isinstance(options, dict) and "class" in options):
            raise ValueError(f"must be a map like {{'class': 'NetworkTopologyStrategy', 'dc1': 3}}, not {replication}")
        return replication

    @field_validator("alert_webhook_url")
    @classmethod
    def _web_address(cls, url: SecretStr) -> SecretStr:
        if url.get_secret_value() and not url.get_secret_value().startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return url

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self._each_port_once()
        name = "control_bind" if self.control_bind else "control_host"
        if not is_loopback(getattr(self, name)) and not self.control_password.get_secret_value():
            raise ValueError(f"PENSTOCK_CONTROL_PASSWORD is needed with {_variable(name)}={getattr(self, name)}")
        if self.kafka_security_protocol.startswith("SASL") and not self.kafka_username:
            raise ValueError("PENSTOCK_KAFKA_USERNAME is needed with a SASL PENSTOCK_KAFKA_SECURITY_PROTOCOL")
        return self

    def _each_port_once(self) -> None:
        taken: dict[int, str] = {}
        for name, port in self.ports().items():
            if port in taken:
                raise ValueError(f"{_variable(name)} and {_variable(taken[port])} are both {port}")
            taken[port] = name

    def ports(self) -> dict[str, int]:
        """Port by setting name."""
        return {name: getattr(self, name) for name in type(self).model_fields if name.endswith("_port")}

    @property
    def checkpoint(self) -> str:
        """Where the Spark job keeps its place."""
        return self.spark_checkpoint or str(self.home / "data" / f"checkpoint-{self.coordination}")

    @property
    def watch_beat(self) -> Path:
        """The file that `watch` touches after each look."""
        return self.home / "run" / "watch.beat"

    @property
    def watch_beat_s(self) -> float:
        """The age at which that file tells that nobody watches: three rounds, and time for services that are away."""
        return max(3 * self.watch_s, 30.0)

    def plain(self) -> dict[str, str]:
        """These settings as text by name, to build them again elsewhere. Holds secrets: never log it."""
        return {name: _plain(value) for name, value in self if value is not None}

    def environment(self) -> dict[str, str]:
        """These settings as environment variables, for a child process. Holds secrets: never log it."""
        return {PREFIX + name.upper(): value for name, value in self.plain().items()}


def _plain(value: Any) -> str:
    return str(value.get_secret_value() if isinstance(value, SecretStr) else value)


@cache
def load() -> Settings:
    """The settings in force. Raises `WrongSettings` that names each wrong variable."""
    return read()


def read(**overrides: Any) -> Settings:
    """Settings from the environment, with `overrides` on top. Raises `WrongSettings`."""
    folder = os.environ.get(f"{PREFIX}SECRETS_DIR")
    if folder and not Path(folder).is_dir():
        raise WrongSettings(f"{PREFIX}SECRETS_DIR={folder} is no folder", hint="./penstock config")
    try:
        return Settings(_secrets_dir=folder or None, **overrides)  # type: ignore[call-arg]  # pydantic-settings takes it
    except ValidationError as error:
        lines = [
            ": ".join([*map(_variable, item["loc"]), item["msg"].removeprefix("Value error, ")])
            for item in error.errors(include_input=False)
            if item["type"] != "default_factory_not_called"
        ]
        raise WrongSettings("; ".join(lines), hint="./penstock config") from None


def _variable(name: int | str) -> str:
    return PREFIX + str(name).upper()
