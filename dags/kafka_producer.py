"""The Airflow DAG `user_automation`: once a day, users from the API to the topic `users_created`."""

from datetime import timedelta
from typing import Any

import pendulum

try:
    from airflow.sdk import Asset, Param, dag, task
    from airflow.sdk.exceptions import AirflowFailException
except ModuleNotFoundError as error:
    raise ImportError("the DAG user_automation needs Airflow 3 or newer: this Airflow has no airflow.sdk") from error

USERS_CREATED = Asset("users_created")
"""The topic. Updated by every run that produced all requested records. Schedule a DAG on it to follow this one."""

PARAMETERS = {
    "records": Param(500, type=["null", "integer"], minimum=1, description="Number of records."),
    "seconds": Param(None, type=["null", "number"], exclusiveMinimum=0, description="Duration in seconds; needs rate."),
    "rate": Param(None, type=["null", "number"], exclusiveMinimum=0, description="Maximum records per second."),
    "source_url": Param(None, type=["null", "string"], description="API to read, instead of PENSTOCK_SOURCE_URL."),
    "clock_offset_s": Param(None, type=["null", "number"], description="Seconds added to Kafka's timestamps."),
    "pipeline": Param(None, type=["null", "object"], description="Filled in by penstock: fail if it is another one."),
}


@task(
    outlets=[USERS_CREATED],
    retries=3,
    retry_delay=timedelta(seconds=10),
    retry_exponential_backoff=True,
    max_retry_delay=timedelta(minutes=5),
    execution_timeout=timedelta(hours=1),
)
def stream_data(params: dict[str, Any] | None = None, run_id: str | None = None) -> dict[str, Any]:
    """Fetch, format, produce. Returns asked, fetched, produced, bytes, seconds and offsets; fails on any loss."""
    from penstock import config, pipelines
    from penstock.errors import TooManyFailed, UsageError
    from penstock.pipeline import ingest

    try:
        settings = config.load()
        order = ingest.RunOrder(run_id=str(run_id), **(params or {}))
        return ingest.run(settings, pipelines.of(settings), order).as_dict()
    except (UsageError, TooManyFailed) as error:
        raise AirflowFailException(str(error)) from error  # a retry would fail again


@dag(
    schedule="@daily",
    start_date=pendulum.datetime(2025, 1, 1, tz="UTC"),
    catchup=False,
    params=PARAMETERS,
    tags=["penstock"],
    doc_md=__doc__,
)
def user_automation() -> None:
    """Run one task: the API's users into the topic."""
    stream_data()


user_automation()
