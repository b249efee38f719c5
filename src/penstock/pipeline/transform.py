"""Apply a pipeline's transform to a batch. Its rows are materialised and checked before anything is written.

If it raises for a record, and is declared row-wise, that record is identified and left out (`bisection`, `trials`).
Otherwise no single record can be identified, and the batch fails with `TransformFailed`.
"""

from collections.abc import Iterable, Mapping
from functools import reduce
from operator import or_
from typing import NamedTuple

from pyspark.sql import Column, DataFrame, functions

from penstock import remedies
from penstock.contract.fault import Fault, Reason, Stage
from penstock.errors import TransformFailed
from penstock.log import get_logger
from penstock.pipeline.bisection import FailureSearch, NotIsolated, Position
from penstock.pipeline.cause import Cause, find_cause
from penstock.pipeline.trials import Trials
from penstock.pipelines import Pipeline
from penstock.pipelines.mapping import file_of
from penstock.process.batches import DELETION_DDL, REJECT_DDL, SHIFT_DDL

log = get_logger(__name__)

_POSITION = ("kafka_partition", "kafka_offset")
_KEPT = (*_POSITION, "ingested_at")
_FAILED_DDL = f"kafka_partition INT, kafka_offset BIGINT, {REJECT_DDL}, {DELETION_DDL}, {SHIFT_DDL}"
_HINT = (
    f"correct transform, then {remedies.restart('spark-job')} "
    "(Docker Compose: docker compose restart spark-submitter); until then the job is idle and records wait in Kafka"
)


class Transformed(NamedTuple):
    """The transform's rows, persisted, and the records that it fails for, as rejects, if there are any."""

    rows: DataFrame
    failed: DataFrame | None = None


def apply_transform(good: DataFrame, pipeline: Pipeline, shift_us: int | None) -> Transformed:
    """Return the checked rows of the persisted records in `good`. `shift_us` is None if their shifts differ.

    Raises `TransformFailed` if the transform raises or breaks its promises and no single record is to blame. Failures
    with another cause are raised unchanged.
    """
    assert pipeline.transform is not None
    file = file_of(pipeline.transform)
    failing: dict[Position, Cause] = {}
    search: FailureSearch | None = None
    while True:
        try:
            rows = _materialise_rows(good.where(~_match_positions(failing)) if failing else good, pipeline, shift_us)
            break
        except Exception as error:
            cause = find_cause(error, file)
            if not cause.is_transform:
                raise
            search = search or _begin_search(cause, good, pipeline, file)
            position, raised = _find_next(search, cause)
            failing[position] = find_cause(raised, file)
    if not failing:
        return Transformed(rows)
    log.warning("records_isolated", records=[f"{partition}:{offset}" for partition, offset in failing])
    return Transformed(rows, _as_rejects(good, failing))


def _materialise_rows(good: DataFrame, pipeline: Pipeline, shift_us: int | None) -> DataFrame:
    """Return the rows of the transform, persisted and checked."""
    rows = _with_shift(good, pipeline, shift_us).persist()
    try:
        _check_positions(rows, good)
        _check_expiry(rows, good, pipeline)
    except BaseException:
        rows.unpersist()
        raise
    return rows


def _with_shift(good: DataFrame, pipeline: Pipeline, shift_us: int | None) -> DataFrame:
    """Apply the pipeline's transform, and add the shift of its record to each row again."""
    rows = _run_transform(good, pipeline)
    kept = (*_KEPT, pipeline.ttl) if isinstance(pipeline.ttl, str) else _KEPT
    missing = [name for name in kept if name not in rows.columns]
    if missing:
        raise ValueError(f"transform returned rows without {' and '.join(missing)}: keep these columns unchanged")
    if shift_us is not None:
        return rows.withColumn("_shift_us", functions.lit(shift_us).cast("long"))
    return rows.join(good.select(*_POSITION, "_shift_us"), list(_POSITION), "left")


def _run_transform(good: DataFrame, pipeline: Pipeline) -> DataFrame:
    assert pipeline.transform is not None
    rows = pipeline.transform(good.drop("_rejected", "_deleted", "_shift_us"))
    if not isinstance(rows, DataFrame):
        raise TypeError(f"transform returned a {type(rows).__name__}: return a DataFrame of the rows to store")
    return rows


def _check_positions(rows: DataFrame, good: DataFrame) -> None:
    """Raise `ValueError`, before anything is written, unless each row is the only one of a record that was read."""
    doubled = rows.groupBy(*_POSITION).count().where("count > 1").select(*_POSITION).take(1)
    if doubled:
        raise ValueError(f"transform returned more than one row for the record at {doubled[0][0]}:{doubled[0][1]}")
    unknown = rows.join(good.select(*_POSITION), list(_POSITION), "left_anti").select(*_POSITION).take(1)
    if unknown:
        raise ValueError(
            f"transform returned a row at {unknown[0][0]}:{unknown[0][1]}, which is not a record of the batch"
        )


def _check_expiry(rows: DataFrame, good: DataFrame, pipeline: Pipeline) -> None:
    """Raise `ValueError` unless each row has its record's value in the field by which rows expire, if one does."""
    if not isinstance(pipeline.ttl, str):
        return
    before = good.select(*_POSITION, functions.col(pipeline.ttl).alias("_before"))
    is_same = functions.col(pipeline.ttl).eqNullSafe(functions.col("_before"))
    changed = rows.join(before, list(_POSITION)).where(~is_same).select(*_POSITION).take(1)
    if changed:
        raise ValueError(
            f"transform changed {pipeline.ttl} of the record at {changed[0][0]}:{changed[0][1]}, by which rows expire: "
            "keep it unchanged, or compute it in from_source"
        )


def _begin_search(cause: Cause, good: DataFrame, pipeline: Pipeline, file: str) -> FailureSearch:
    """Return the search for the records for which the transform raises. Raises `TransformFailed`."""
    if not pipeline.transform_is_row_wise:
        raise _build_transform_error(cause, "it is not declared row-wise, so no record can be left out")
    trials = Trials(good, lambda part: _run_transform(part, pipeline), file)
    return FailureSearch(sorted((row[0], row[1]) for row in good.select(*_POSITION).collect()), trials.run)


def _find_next(search: FailureSearch, cause: Cause) -> tuple[Position, Exception]:
    """Return a record for which the transform raises, and the exception. Raises `TransformFailed`."""
    try:
        return search.find_next()
    except NotIsolated as reason:
        raise _build_transform_error(cause, str(reason)) from reason


def _build_transform_error(cause: Cause, reason: str) -> TransformFailed:
    return TransformFailed(f"{cause.message}\n  transform fails on this batch: {reason}", hint=_HINT, kind=cause.kind)


def _match_positions(positions: Iterable[Position]) -> Column:
    partition, offset = (functions.col(name) for name in _POSITION)
    conditions = [(partition == number) & (offset == at) for number, at in positions]
    return reduce(or_, conditions)


def _as_rejects(good: DataFrame, failing: Mapping[Position, Cause]) -> DataFrame:
    """Return rejects of the records at these positions. Their bytes are in Kafka."""
    faults = {
        position: Fault(Reason.TRANSFORM_FAILED, cause.message, Stage.TRANSFORM) for position, cause in failing.items()
    }
    rows = [
        (*position, (str(fault.reason), fault.message, list(fault.rules), None, None, None), None, 0)
        for position, fault in faults.items()
    ]
    return good.sparkSession.createDataFrame(rows, _FAILED_DDL)
