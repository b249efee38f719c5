import json
from pathlib import Path
from types import SimpleNamespace
from zipfile import ZipFile

import pyarrow as pa
import pyspark
import pytest
from pyspark.sql import types
from pyspark.sql.pandas.types import to_arrow_schema

from penstock.broker.topics import OffsetRange
from penstock.config import read
from penstock.contract.fields import fields
from penstock.contract.order_by import OrderBy
from penstock.process import session
from penstock.process.checkpoint import CheckpointOrigin, checkpoint_of
from tests.unit.ddl import arrow_schema
from tests.unit.records import Versioned


def test_the_job_gets_the_settings():
    """Cores, memory and the page's port are those of the settings; times are UTC."""
    conf = session.session_settings(read(spark_cores=3, spark_driver_memory_mib=700, spark_job_ui_port=4100))
    assert (conf["spark.cores.max"], conf["spark.driver.memory"], conf["spark.ui.port"]) == ("3", "700m", "4100")
    assert conf["spark.sql.session.timeZone"] == "UTC"


def test_the_driver_binds_to_loopback_on_the_local_stack_only(settings):
    """On the local stack no port is open elsewhere; on a cluster the executors must reach the driver."""
    assert session.session_settings(settings)["spark.driver.bindAddress"] == "127.0.0.1"
    assert "spark.driver.host" not in session.session_settings(read(spark_master="spark://cluster:7077"))


def test_nothing_in_kafka_is_skipped(settings):
    """The stream starts at the beginning, and fails instead of skipping what Kafka has deleted."""
    options = session.kafka_options(settings)
    assert options["kafka.bootstrap.servers"] == "127.0.0.1:9092"
    assert (options["startingOffsets"], options["failOnDataLoss"]) == ("earliest", "true")
    assert options["kafka.isolation.level"] == "read_committed"
    assert options["maxOffsetsPerTrigger"] == "100000"
    assert not any("sasl" in name or "ssl" in name for name in options)


def test_records_are_fetched_without_waits_and_with_one_header(settings):
    """No list of headers is passed on, a fetch waits briefly at the end of a partition, a poll returns many records."""
    options = session.kafka_options(settings)
    assert options["includeHeaders"] == "true"
    assert not any(column.split()[-1] == "headers" for column in session.RAW_COLUMNS)
    assert "get(headers, 0).key = 'penstock.order'" in session.RAW_COLUMNS[-1]
    assert int(options["kafka.fetch.max.wait.ms"]) < settings.spark_trigger_ms
    assert options["kafka.max.poll.records"] == "10000"


_MANAGER = "spark.sql.streaming.checkpointFileManagerClass"


@pytest.mark.parametrize("folder", ["s3a://bucket/checkpoints", "hdfs://there/checkpoints", "file:///there"])
def test_a_remote_checkpoint_is_written_by_spark(folder):
    """Our writer of local files does not apply to a checkpoint with a URL."""
    assert _MANAGER not in session.session_settings(read(spark_checkpoint=folder))


def test_the_writer_of_a_local_checkpoint_exists(tmp_path):
    """The class is one of this Spark's, for a configured folder and for the one in the data directory."""
    name = session.session_settings(read(spark_checkpoint=str(tmp_path)))[_MANAGER]
    assert session.session_settings(read(home=tmp_path))[_MANAGER] == name
    assert name.rpartition(".")[2] == "FileSystemBasedCheckpointFileManager"
    (jar,) = (Path(pyspark.__file__).parent / "jars").glob("spark-sql_2*.jar")
    with ZipFile(jar) as classes:
        assert f"{name.replace('.', '/')}.class" in classes.namelist()


class Reader:
    """Stands for Spark and its reader; `load` returns the options."""

    def __init__(self) -> None:
        self.options: dict[str, str] = {}
        self.read = self.readStream = self

    def format(self, _name):
        return self

    def option(self, key, value):
        self.options[key] = value
        return self

    def load(self):
        return self.options


def test_the_stream_starts_where_the_reset_said(tmp_path, monkeypatch):
    """Each partition by name, as Spark requires; one that was added since from its beginning."""
    settings = read(spark_checkpoint=str(tmp_path))
    monkeypatch.setattr(
        session.topics,
        "fetch_offset_ranges",
        lambda *_: [OffsetRange(0, 0, 9), OffsetRange(1, 2, 3), OffsetRange(2, 1, 4)],
    )
    assert session.kafka_stream(Reader(), settings, "t")["startingOffsets"] == "earliest"
    checkpoint_of(settings, "t").begin_at(CheckpointOrigin(topic_id="i", start={0: 7, 1: 2}))
    options = session.kafka_stream(Reader(), settings, "t")
    assert json.loads(options["startingOffsets"]) == {"t": {"0": 7, "1": 2, "2": -2}}
    assert (options["subscribe"], options["failOnDataLoss"]) == ("t", "true")


def test_a_range_is_read_from_its_first_offset_to_its_end(settings):
    """Only the requested partitions are read, and no micro-batch limit applies."""
    options = session.load_offset_ranges(Reader(), settings, "t", [OffsetRange(0, 3, 9), OffsetRange(2, 1, 4)])
    asked = {name: json.loads(options[name]) for name in ("assign", "startingOffsets", "endingOffsets")}
    assert asked == {
        "assign": {"t": [0, 2]},
        "startingOffsets": {"t": {"0": 3, "2": 1}},
        "endingOffsets": {"t": {"0": 9, "2": 4}},
    }
    assert not {"subscribe", "maxOffsetsPerTrigger"} & options.keys()
    assert options["failOnDataLoss"] == "true"


def test_a_secured_kafka_is_configured():
    """User and password are quoted for JAAS, and the authority is a PEM file."""
    options = session.kafka_options(
        read(
            kafka_security_protocol="SASL_SSL",
            kafka_username="me",
            kafka_password='a"b\\c',
            kafka_ca_file="/etc/ca.pem",
        )
    )
    assert options["kafka.sasl.mechanism"] == "SCRAM-SHA-512"
    assert options["kafka.sasl.jaas.config"] == (
        'org.apache.kafka.common.security.scram.ScramLoginModule required username="me" password="a\\"b\\\\c";'
    )
    assert options["kafka.ssl.truststore.location"] == "/etc/ca.pem"


def test_a_plain_login_is_configured():
    """SASL PLAIN has its own login module."""
    options = session.kafka_options(
        read(kafka_security_protocol="SASL_PLAINTEXT", kafka_sasl_mechanism="PLAIN", kafka_username="me")
    )
    assert "plain.PlainLoginModule" in options["kafka.sasl.jaas.config"]


def test_the_arrow_schemas_of_these_tests_are_sparks():
    """The tests' Arrow schema of a DDL string is the one that Spark creates."""
    structure = types.StructType(
        [
            types.StructField("a", types.StringType()),
            types.StructField("b", types.TimestampType()),
            types.StructField("c", types.IntegerType()),
            types.StructField("d", types.LongType()),
            types.StructField("e", types.DoubleType()),
            types.StructField("f", types.BooleanType()),
            types.StructField("g", types.ArrayType(types.StructType([types.StructField("h", types.BinaryType())]))),
            types.StructField("i", types.MapType(types.StringType(), types.LongType())),
        ]
    )
    ddl = (
        "a STRING, b TIMESTAMP, c INT, d BIGINT, e DOUBLE, f BOOLEAN, g ARRAY<STRUCT<h: BINARY>>, i MAP<STRING, BIGINT>"
    )
    assert pa.schema([(item.name, item.type) for item in to_arrow_schema(structure)]) == arrow_schema(ddl)


def test_headers_of_tombstones_are_read_if_the_pipeline_needs_them():
    """Only for a function that derives a tombstone's order, and only of tombstones."""
    stream = SimpleNamespace(selectExpr=lambda *columns: list(columns))
    field = next(field for field in fields(Versioned) if field.column == "number")
    for order_by in (None, OrderBy(), OrderBy(field)):
        assert session.raw_records(stream, order_by) == list(session.RAW_COLUMNS)
    *others, last = session.raw_records(stream, OrderBy(field, lambda _: 1))
    assert others == list(session.RAW_COLUMNS)
    assert last == "IF(value IS NULL, headers, NULL) AS tombstone_headers"
