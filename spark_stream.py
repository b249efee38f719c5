"""The Spark job, topic users_created to table created_users: `python spark_stream.py`, or by spark-submit."""

from cassandra.cluster import Session
from pyspark.sql import DataFrame, SparkSession

from penstock import log, pipelines
from penstock.config import load as settings
from penstock.errors import exits_by_kind
from penstock.pipeline import job, stream
from penstock.process import session as spark_session
from penstock.sink import cassandra


def create_spark_connection() -> SparkSession:
    """Return a Spark session on the effective master, with the Kafka source."""
    return spark_session.spark_session(settings(), f"penstock {pipelines.of(settings()).topic}")


def connect_to_kafka(spark: SparkSession) -> DataFrame:
    """Return the topic as a stream of Kafka's columns, from its beginning."""
    return spark_session.kafka_stream(spark, settings(), pipelines.of(settings()).topic)


def create_cassandra_connection() -> Session:
    """Return a session on Cassandra. Raises `CassandraUnreachable`."""
    return cassandra.connect(settings())


def create_keyspace(session: Session) -> None:
    """Create the keyspace if it does not exist."""
    job.create_keyspace(session, settings())


def create_table(session: Session) -> None:
    """Create the pipeline's table and the ledger if they do not exist."""
    job.create_tables(session, settings())


def create_selection_df_from_kafka(kafka: DataFrame) -> DataFrame:
    """Return Kafka's records as the pipeline's columns, decoded as the job does. `_rejected` is set on invalid ones."""
    raw = spark_session.raw_records(kafka, pipelines.of(settings()).declared_order)
    return stream.decode_records(raw, stream.build_plan(settings(), epoch_us=0))


def main() -> None:
    """Stream until stopped. On SIGTERM, the batch in flight finishes first."""
    log.configure(settings().log_level, json=settings().log_json)
    job.wait_for_services(settings())
    session = create_cassandra_connection()
    with cassandra.translate_errors(settings()):
        create_keyspace(session)
        create_table(session)
        with create_spark_connection() as spark:
            job.run(spark, connect_to_kafka, session, settings())


if __name__ == "__main__":
    with exits_by_kind("spark_stream"):
        main()
