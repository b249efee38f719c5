"""Settings. The only module that reads environment variables.

Each setting is an environment variable: `PENSTOCK_` and its name in upper case. To use your own cluster, set the
addresses of its services. Addresses default to the ports of the local stack. Settings can also be files in the folder
`PENSTOCK_SECRETS_DIR`, as Docker and Kubernetes mount secrets.
"""

import ast
import getpass
import os
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from penstock import remedies
from penstock.errors import WrongSettings
from penstock.net import is_loopback

PREFIX = "PENSTOCK_"
REAL_API_URL = "https://randomuser.me/api/"
LOOPBACK = "127.0.0.1"
LOOPBACKS = frozenset({LOOPBACK, "localhost", "::1"})
LEAST_SPARK_HEAP_MIB = 466
"""Spark requires 450 MiB of usable memory, which is what Java's serial collector leaves of this heap."""

_BROKER = re.compile(r"([A-Z_]+://)?(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):\d{1,5}")
_HOST = re.compile(r"[^\s:/]+|[0-9a-fA-F:]*:[0-9a-fA-F:.]*:[0-9a-fA-F:.]*")


def _format_local(template: str) -> Callable[[dict[str, Any]], str]:
    """Return a default factory that formats an address from the effective ports."""
    return lambda data: template.format(host=LOOPBACK, **data)


class Settings(BaseSettings):
    """All settings. Immutable, validated together when read."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="ignore", validate_default=True
    )

    secrets_dir: Path | None = Field(
        None,
        description="Folder of files with one setting each, named like its variable in lower case; variables win.",
    )
    home: Path = Field(Path(".penstock"), description="Data directory: all generated files, such as data, logs, jars.")
    cache: Path | None = Field(
        None, description="Folder of downloads, which data directories can share; empty: in PENSTOCK_HOME."
    )
    pipeline: str = Field("penstock.pipelines.users", description="Module or .py file that defines PIPELINE.")
    wire_format: Literal["json", "avro"] = Field("json", description="Encoding of the values in Kafka.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Lowest level that is logged.")
    log_json: bool = Field(False, description="Log JSON lines instead of text.")

    # Ports of the local stack, all on 127.0.0.1
    kafka_port: int = Field(9092, ge=1, le=65535, description="Kafka of the local stack.")
    kafka_controller_port: int = Field(9093, ge=1, le=65535, description="Kafka's KRaft controller.")
    zookeeper_port: int = Field(2181, ge=1, le=65535, description="ZooKeeper, with coordination=zookeeper.")
    registry_port: int = Field(8081, ge=1, le=65535, description="Schema registry.")
    registry_management_port: int = Field(8082, ge=1, le=65535, description="Schema registry's health endpoint.")
    cassandra_port: int = Field(
        9042, ge=1, le=65535, description="Cassandra's CQL port, of the local stack or of your own cluster."
    )
    cassandra_storage_port: int = Field(7000, ge=1, le=65535, description="Cassandra's node-to-node port.")
    spark_port: int = Field(7077, ge=1, le=65535, description="Spark master.")
    spark_ui_port: int = Field(9090, ge=1, le=65535, description="Spark master's UI.")
    spark_worker_ui_port: int = Field(9091, ge=1, le=65535, description="Spark worker's UI.")
    spark_job_ui_port: int = Field(4040, ge=1, le=65535, description="UI of the running Spark job.")
    airflow_port: int = Field(8080, ge=1, le=65535, description="Airflow's UI and API.")
    source_port: int = Field(8000, ge=1, le=65535, description="Stand-in for the random user API.")
    control_port: int = Field(9021, ge=1, le=65535, description="Control center.")

    # Local stack
    coordination: Literal["kraft", "zookeeper"] = Field("kraft", description="Coordination of Kafka.")
    ready_timeout_s: float = Field(
        240, gt=0, description="Timeout for a service of the local stack to become ready, in seconds."
    )
    kafka_heap_mib: int = Field(512, ge=256, description="Kafka's heap.")
    zookeeper_heap_mib: int = Field(128, ge=64, description="ZooKeeper's heap.")
    registry_heap_mib: int = Field(256, ge=128, description="Schema registry's heap.")
    cassandra_heap_mib: int = Field(1024, ge=512, description="Cassandra's heap.")
    spark_daemon_heap_mib: int = Field(192, ge=128, description="Heap of Spark's master and worker, each.")

    # Source
    source_url: str = Field(
        REAL_API_URL, description="URL of the HTTP API; the local stack uses its stand-in unless set."
    )
    source_hosts: str = Field(
        "", description="Hosts that a run may use in addition to that of PENSTOCK_SOURCE_URL: host[,host]; empty: any."
    )
    source_batch_records: int = Field(500, ge=1, le=5000, description="Records per request.")
    source_timeout_s: float = Field(20, gt=0, description="Timeout of a request, in seconds.")
    source_attempts: int = Field(8, ge=1, description="Attempts per request before the run fails.")
    source_max_wait_s: float = Field(
        300, ge=0, description="Longest total wait for an API's rate limit, per response, in seconds."
    )
    source_max_failed_share: float = Field(
        0.2, ge=0, le=1, description="A run fails if more than this share of its entries become dead letters."
    )

    # Kafka
    kafka_bootstrap: str = Field(
        default_factory=_format_local("{host}:{kafka_port}"), description="host:port[,host:port]."
    )
    kafka_partitions: int = Field(4, ge=1, description="Partitions of topics that penstock creates.")
    kafka_replication: int = Field(1, ge=1, description="Replication factor of topics that penstock creates.")
    kafka_retention_hours: int = Field(168, ge=1, description="Retention of topics that penstock creates, in hours.")
    kafka_timeout_s: float = Field(30, gt=0, description="Timeout of requests and acknowledgements, in seconds.")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="Kafka's security.protocol."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="Kafka's sasl.mechanism."
    )
    kafka_username: str = Field("", description="SASL user.")
    kafka_password: SecretStr = Field(SecretStr(""), description="SASL password.")
    kafka_ca_file: Path | None = Field(None, description="PEM file of the CA that signed the brokers' certificates.")

    # Schema registry
    registry_url: str = Field(
        default_factory=_format_local("http://{host}:{registry_port}/apis/ccompat/v7"),
        description="Confluent-compatible API of the schema registry.",
    )
    registry_timeout_s: float = Field(10, gt=0, description="Timeout of a request, in seconds.")
    registry_username: str = Field("", description="Basic-auth user.")
    registry_password: SecretStr = Field(SecretStr(""), description="Basic-auth password.")

    # Cassandra
    cassandra_hosts: str = Field(LOOPBACK, description="Contact points: host[,host].")
    cassandra_datacenter: str = Field("", description="Local data centre; empty: that of the first contact point.")
    cassandra_keyspace: str = Field("", description="Keyspace; empty: the pipeline's.")
    cassandra_replication: str = Field(
        "{'class': 'SimpleStrategy', 'replication_factor': 1}",
        description="Replication of a keyspace that penstock creates.",
    )
    cassandra_consistency: Literal["ONE", "QUORUM", "LOCAL_ONE", "LOCAL_QUORUM", "EACH_QUORUM", "ALL"] = Field(
        "LOCAL_QUORUM", description="Consistency level of writes and reads."
    )
    cassandra_timeout_s: float = Field(15, gt=0, description="Timeout of a request, in seconds.")
    cassandra_concurrency: int = Field(8, ge=1, description="Batches in flight per Spark task.")
    cassandra_username: str = Field("", description="User.")
    cassandra_password: SecretStr = Field(SecretStr(""), description="Password.")
    cassandra_ca_file: Path | None = Field(None, description="PEM file of the CA; if set, TLS is used.")

    # Spark
    spark_master: str = Field(
        default_factory=_format_local("spark://{host}:{spark_port}"), description="Master to submit to."
    )
    spark_checkpoint: str = Field("", description="Checkpoint folder or URL; empty: in PENSTOCK_HOME.")
    spark_trigger_ms: int = Field(200, ge=0, description="Minimum interval between micro-batches, in ms.")
    spark_batch_records: int = Field(100_000, ge=1, le=1_000_000, description="Maximum records per micro-batch.")
    spark_cores: int = Field(2, ge=1, description="Cores of the job.")
    spark_driver_memory_mib: int = Field(
        512, ge=LEAST_SPARK_HEAP_MIB, description="Heap of the job's driver; Spark requires at least 466."
    )
    spark_executor_memory_mib: int = Field(
        640, ge=LEAST_SPARK_HEAP_MIB, description="Heap of the job's executor; Spark requires at least 466."
    )
    spark_wait_s: float = Field(
        120,
        gt=0,
        description="Timeout for Kafka and Cassandra at startup, and for an executor of `verify`, in seconds.",
    )

    # Airflow
    airflow_url: str = Field(
        default_factory=_format_local("http://{host}:{airflow_port}"), description="Airflow's API."
    )
    airflow_username: str = Field("airflow", description="User.")
    airflow_password: SecretStr = Field(SecretStr("airflow"), description="Password.")
    airflow_timeout_s: float = Field(60, gt=0, description="Timeout of a request, in seconds.")

    # Alerts
    watch_s: float = Field(10, ge=1, description="Interval between polls for alerts, in seconds.")
    watch_verify_hours: float = Field(
        6, ge=0, description="Interval between runs of `verify` by the watch, in hours; 0: never."
    )
    verify_memory_mib: int = Field(
        512,
        ge=64,
        description="Memory of a verification's database, in MiB, which spills to PENSTOCK_HOME/data/verify; a process "
        "needs about 300 MiB more. In a container, at most a quarter of its memory limit.",
    )
    alert_lag_records: int = Field(
        10_000, ge=0, description="Alert if the lag exceeds this number of records for PENSTOCK_ALERT_LAG_S."
    )
    alert_lag_s: float = Field(
        300, ge=0, description="How long the lag must exceed PENSTOCK_ALERT_LAG_RECORDS before the alert, in seconds."
    )
    alert_rejected_share: float = Field(
        0.05, ge=0, le=1, description="Alert if more than this share of the records of five minutes is rejected."
    )
    alert_no_data_hours: float = Field(26, gt=0, description="Alert if the newest record is older, in hours.")
    alert_down_s: float = Field(120, ge=0, description="Alert if a service is unavailable for this long, in seconds.")
    alert_webhook_url: SecretStr = Field(
        SecretStr(""), description="URL to which each change of an alert is posted as JSON; empty: none."
    )

    # Control center
    control_host: str = Field(
        LOOPBACK, description="Address to listen on; addresses other than loopback require a password."
    )
    control_bind: str = Field(
        "",
        description="Address on which a container engine publishes it; loopback requires no password; "
        "empty: PENSTOCK_CONTROL_HOST.",
    )
    control_password: SecretStr = Field(SecretStr(""), description="Password to sign in; empty: no sign-in.")
    control_names: str = Field(
        "", description="Host names by which browsers reach it, in addition to its address: a[,b]."
    )

    @field_validator("home", "cache", "kafka_ca_file", "cassandra_ca_file")
    @classmethod
    def _make_absolute(cls, path: Path | None) -> Path | None:
        return path and path.expanduser().absolute()

    @field_validator("pipeline")
    @classmethod
    def _make_file_absolute(cls, pipeline: str) -> str:
        return str(Path(pipeline).expanduser().absolute()) if pipeline.endswith(".py") else pipeline

    @field_validator("source_url", "registry_url", "airflow_url")
    @classmethod
    def _check_http_url(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return url

    @field_validator("kafka_bootstrap")
    @classmethod
    def _check_brokers(cls, brokers: str) -> str:
        if not all(map(_BROKER.fullmatch, brokers.split(","))):
            raise ValueError(f"invalid {brokers!r}: expected host:port[,host:port], e.g. kafka-1:9092,kafka-2:9092")
        return brokers

    @field_validator("cassandra_hosts")
    @classmethod
    def _check_hosts(cls, hosts: str) -> str:
        if not all(map(_HOST.fullmatch, hosts.split(","))):
            raise ValueError(f"invalid {hosts!r}: expected host[,host]; the port is PENSTOCK_CASSANDRA_PORT")
        return hosts

    @field_validator("cassandra_replication")
    @classmethod
    def _check_replication(cls, replication: str) -> str:
        try:
            options = ast.literal_eval(replication)
        except (ValueError, SyntaxError):
            options = None
        if not (isinstance(options, dict) and "class" in options):
            raise ValueError(
                f"invalid {replication}: expected a map, e.g. {{'class': 'NetworkTopologyStrategy', 'dc1': 3}}"
            )
        return replication

    @field_validator("alert_webhook_url")
    @classmethod
    def _check_webhook_url(cls, url: SecretStr) -> SecretStr:
        if url.get_secret_value() and not url.get_secret_value().startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return url

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources in order of precedence, without `.env` files, whose lookup is slow."""
        return init_settings, env_settings, file_secret_settings

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        self._check_unique_ports()
        name = "control_bind" if self.control_bind else "control_host"
        if not is_loopback(getattr(self, name)) and not self.control_password.get_secret_value():
            raise ValueError(f"PENSTOCK_CONTROL_PASSWORD is required with {_variable(name)}={getattr(self, name)}")
        if self.kafka_security_protocol.startswith("SASL") and not self.kafka_username:
            raise ValueError("PENSTOCK_KAFKA_USERNAME is required with a SASL PENSTOCK_KAFKA_SECURITY_PROTOCOL")
        return self

    def _check_unique_ports(self) -> None:
        names: dict[int, str] = {}
        for name, port in self.ports().items():
            if port in names:
                raise ValueError(f"{_variable(name)} and {_variable(names[port])} both use port {port}")
            names[port] = name

    def ports(self) -> dict[str, int]:
        """Return all ports by setting name."""
        return {name: getattr(self, name) for name in type(self).model_fields if name.endswith("_port")}

    @property
    def checkpoint(self) -> str:
        """Return the folder or URL of the Spark job's checkpoint."""
        return self.spark_checkpoint or str(self.home / "data" / f"checkpoint-{self.coordination}")

    @property
    def watch_beat(self) -> Path:
        """Return the heartbeat file that `watch` touches after each poll."""
        return self.home / "run" / "watch.beat"

    @property
    def watch_beat_s(self) -> float:
        """Return the age in seconds at which the heartbeat is stale: three polls, and time for unavailable services."""
        return max(3 * self.watch_s, 30.0)

    def plain(self) -> dict[str, str]:
        """Return the settings as text by name, to rebuild them elsewhere. Contains secrets: never log it."""
        return {name: _to_text(value) for name, value in self if value is not None}

    def environment(self) -> dict[str, str]:
        """Return the settings as environment variables for a child process. Contains secrets: never log it."""
        return {PREFIX + name.upper(): value for name, value in self.plain().items()}


def _to_text(value: Any) -> str:
    return str(value.get_secret_value() if isinstance(value, SecretStr) else value)


@cache
def load() -> Settings:
    """Return the effective settings. Raises `WrongSettings` that names each invalid variable."""
    return read()


def read(**overrides: Any) -> Settings:
    """Read settings from the environment. `overrides` take precedence. Raises `WrongSettings`."""
    folder = os.environ.get(f"{PREFIX}SECRETS_DIR")
    if folder and not Path(folder).is_dir():
        raise WrongSettings(f"{PREFIX}SECRETS_DIR={folder} is not a folder", hint=remedies.show_settings())
    try:
        return Settings(_secrets_dir=folder or None, **overrides)  # type: ignore[call-arg]  # pydantic-settings takes it
    except ValidationError as error:
        lines = [
            ": ".join([*map(_variable, item["loc"]), item["msg"].removeprefix("Value error, ")])
            for item in error.errors(include_input=False)
            if item["type"] != "default_factory_not_called"
        ]
        raise WrongSettings("; ".join(lines), hint=remedies.show_settings()) from None


def _variable(name: int | str) -> str:
    return PREFIX + str(name).upper()


def current_user() -> str:
    """Return the name of the user who runs this process, or `unknown` if the system has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "unknown"
