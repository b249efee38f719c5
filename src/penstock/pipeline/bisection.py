"""Find the records for which a row-wise transform raises, by running it on parts of a batch. Pure.

The batch is cut into groups that are run side by side; those that fail are cut again, until they are single records. A
record is to blame when it fails in a group of its own and then once more, alone. Whoever asks runs the rest afterwards,
which must pass.
"""

from collections.abc import Callable, Mapping, Sequence

MOST = 20
"""When more records of one batch fail, the transform is to blame, not the records."""
GROUPS = 32
"""So many groups are run side by side."""

Position = tuple[int, int]
"""A record's partition and offset."""
Group = Sequence[Position]
Run = Callable[[Sequence[Group]], Mapping[int, Exception | None]]
"""Runs the transform on groups of records, without writing; returns by number, for one group at least, what it raised
or None."""


class NotIsolated(Exception):
    """No record alone is to blame; the message says why."""


def find_failing(positions: Group, run: Run) -> dict[Position, Exception]:
    """Return the records that fail alone, twice, with what they raised. `positions`, sorted, is known to fail.

    Raises `NotIsolated`, and whatever `run` raises.
    """
    groups = _split([positions], GROUPS)
    while True:
        failing = _failing(groups, run)
        if not failing:
            raise NotIsolated("it fails for the batch as a whole, and passes for each part of it")
        if all(len(group) == 1 for group in failing):
            return {group[0]: _confirm(group, run) for group in failing}
        groups = _split(failing, max(2, GROUPS // len(failing)))


def _split(groups: Sequence[Group], ways: int) -> list[Group]:
    """Cut each group into so many parts of about the same size; of single records there are no parts."""
    parts: list[Group] = []
    for group in groups:
        size = -(-len(group) // ways)
        parts += [group[at : at + size] for at in range(0, len(group), size)]
    return parts


def _failing(groups: Sequence[Group], run: Run) -> list[Group]:
    """Return the groups that fail, in order. Those of which a run says nothing are run again."""
    failing: list[Group] = []
    unknown = list(groups)
    while unknown:
        outcomes = run(unknown)
        failing += [unknown[number] for number, error in outcomes.items() if error is not None]
        unknown = [group for number, group in enumerate(unknown) if number not in outcomes]
        if len(failing) > MOST:
            raise NotIsolated(f"it fails for more than {MOST} records of one batch")
    return sorted(failing, key=lambda group: group[0])


def _confirm(record: Group, run: Run) -> Exception:
    """Return what a record raises alone. Raises `NotIsolated` when it passes."""
    error = run([record])[0]
    if error is None:
        partition, offset = record[0]
        raise NotIsolated(f"the record at {partition}:{offset} fails with others, and passes alone")
    return error
