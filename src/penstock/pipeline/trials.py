"""Run a transform on some records of a batch, without writing, to see for which of them it raises."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce
from itertools import groupby
from operator import or_
from typing import NamedTuple

from pyspark import SparkContext
from pyspark.sql import Column, DataFrame, functions

from penstock.pipeline.bisection import Group, NotIsolated, Position
from penstock.pipeline.cause import TaskFailed, find_cause

LIMIT_S = 60.0
"""Time limit for all trials of a batch together."""
_POLL_S = 0.1
_LISTENER_S = 3.0
"""How long Spark may take to report the status of a task that ended."""
_GROUP = "_group"

Transform = Callable[[DataFrame], DataFrame]
Outcomes = Mapping[int, Exception | None]


class Trials:
    """Runs `transform` on groups of the records in `good`, for at most `limit_s` seconds in total.

    Each group is a partition, and hence a task, of its own, so that Spark reports which failed. `file` is the
    pipeline's file.
    """

    def __init__(self, good: DataFrame, transform: Transform, file: str, limit_s: float = LIMIT_S) -> None:
        self._good = good
        self._transform = transform
        self._file = file
        self._limit_s = limit_s
        self._deadline_s = time.monotonic() + limit_s

    def run(self, groups: Sequence[Group]) -> Outcomes:
        """Return the exception that the transform raises for each group, by number, or None if it passes.

        Groups whose tasks did not end are omitted; at least one group is returned. Raises `NotIsolated` if the time is
        up or the transform raises before any record is read, and any error that is not the transform's fault.
        """
        if len(groups) > 1 and not hasattr(self._good, "repartitionById"):  # before Spark 4.1
            return self.run(groups[:1])
        watch = _Watch(self._good.sparkSession.sparkContext, self._deadline_s)
        grouped = self._group_records(groups).persist()  # otherwise Spark filters by the transform before it groups
        rows: DataFrame | None = None
        try:
            with watch.watching():
                rows = self._transform(grouped).persist()
                rows.count()
        except Exception as error:  # noqa: BLE001  the pipeline's own code runs here and may raise anything
            return self._find_outcomes(error, watch, groups)
        finally:
            for cached in (rows, grouped):
                if cached is not None:
                    cached.unpersist()
        return dict.fromkeys(range(len(groups)))

    def _group_records(self, groups: Sequence[Group]) -> DataFrame:
        """Return the records of the groups, each group in a partition of its own."""
        numbered = self._good.where(reduce(or_, map(_match_group, groups)))
        if len(groups) == 1:
            return numbered.coalesce(1)
        number = reduce(lambda cases, case: cases.when(*case), _iter_cases(groups), functions)
        grouped = numbered.withColumn(_GROUP, number).repartitionById(len(groups), _GROUP)
        return grouped.drop(_GROUP)

    def _find_outcomes(self, error: Exception, watch: "_Watch", groups: Sequence[Group]) -> Outcomes:
        if watch.is_late or time.monotonic() >= self._deadline_s:
            raise NotIsolated(f"no failing record was found within {self._limit_s:g} s") from error
        failed = watch.failed_stage()
        errors = [task.error for task in failed.tasks if task.error] if failed else [error]
        for each in errors:
            if not find_cause(each, self._file).is_transform:
                raise each
        if failed is None:
            raise NotIsolated("it fails before it receives a record") from error
        if len(groups) == 1:
            return {0: errors[0]}
        if failed.size == len(groups):
            return {task.partition: task.error for task in failed.tasks}
        return self.run(groups[:1])  # the transform moved rows to other partitions


def _match_group(group: Group) -> Column:
    """Return the condition that a record is in a group, a contiguous part of the batch's sorted positions."""
    return reduce(or_, [_match_range(*each) for each in _iter_ranges(group)])


def _iter_cases(groups: Sequence[Group]) -> Iterator[tuple[Column, int]]:
    for number, group in enumerate(groups):
        yield _match_group(group), number


def _match_range(partition: int, first: int, last: int) -> Column:
    offset = functions.col("kafka_offset")
    return (functions.col("kafka_partition") == partition) & (offset >= first) & (offset <= last)


def _iter_ranges(positions: Sequence[Position]) -> Iterator[tuple[int, int, int]]:
    """Yield partition, first and last offset of the positions of each partition."""
    for partition, group in groupby(positions, key=lambda position: position[0]):
        offsets = [offset for _, offset in group]
        yield partition, offsets[0], offsets[-1]


class _Task(NamedTuple):
    """A task that ended, and its error if it failed."""

    partition: int
    error: TaskFailed | None


class _Stage(NamedTuple):
    """A stage with failed tasks: its number of tasks, and those that ended."""

    size: int
    tasks: list[_Task]


class _Watch:
    """Cancels the jobs of a trial when the time is up, or as soon as a task fails.

    Spark would run a failing task `spark.task.maxFailures` times, and start a Python worker for each.
    """

    def __init__(self, context: SparkContext, deadline_s: float) -> None:
        self._context = context
        self._deadline_s = deadline_s
        self._tag = f"penstock-trial-{uuid.uuid4().hex}"
        self._ended = threading.Event()
        self._failed: _Stage | None = None
        self.is_late = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the jobs that this thread starts within the block."""
        thread = threading.Thread(target=self._poll_status, name="trial", daemon=True)
        self._context.addJobTag(self._tag)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()
            self._context.removeJobTag(self._tag)

    def _poll_status(self) -> None:
        while not self._ended.wait(_POLL_S):
            self.is_late = time.monotonic() >= self._deadline_s
            self._failed = self._failed or self._find_failed()
            if self.is_late or self._failed:
                self._context.cancelJobsWithTag(self._tag)

    def failed_stage(self) -> _Stage | None:
        """Return the stage with failed tasks, or None if the trial failed before it had one."""
        until_s = time.monotonic() + _LISTENER_S
        while self._failed is None and self._list_jobs() and time.monotonic() < until_s:
            time.sleep(_POLL_S)
            self._failed = self._find_failed()
        return self._failed

    def _list_jobs(self) -> list[int]:
        jobs = self._context._jsc.sc().statusTracker().getJobIdsForTag(self._tag)
        return list(jobs)

    def _find_failed(self) -> _Stage | None:
        tracker = self._context.statusTracker()
        for job in self._list_jobs():
            info = tracker.getJobInfo(job)
            for stage in info.stageIds if info else ():
                stage_info = tracker.getStageInfo(stage)
                if stage_info is not None and stage_info.numFailedTasks:
                    return _Stage(
                        stage_info.numTasks,
                        list(self._iter_tasks(stage, stage_info.currentAttemptId, stage_info.numTasks)),
                    )
        return None

    def _iter_tasks(self, stage: int, attempt: int, size: int) -> Iterator[_Task]:
        """Yield the tasks of a stage that ended, each partition's first attempt, without the cancelled ones."""
        tasks = self._context._jsc.sc().statusStore().taskList(stage, attempt, 10 * size)
        seen: set[int] = set()
        for number in range(tasks.size()):
            task = tasks.apply(number)
            status, partition = task.status(), int(task.partitionId())
            if partition not in seen and status in ("FAILED", "SUCCESS"):
                seen.add(partition)
                yield _Task(partition, TaskFailed(str(task.errorMessage().get())) if status == "FAILED" else None)
