"""Find the records for which a row-wise transform raises, by running it on parts of a batch. Pure.

The batch is split into groups that run in parallel until one fails. That group is split again, down to a single
record. A record is to blame if it fails in a group of its own and then once more, alone. The caller runs the rest
afterwards, which must pass, or asks for the next record: groups that have passed are not run again.
"""

from collections.abc import Callable, Mapping, Sequence

MOST = 20
"""If more records of one batch fail, the transform is to blame, not the records."""
GROUPS = 32
"""Maximum number of groups run in parallel."""

Position = tuple[int, int]
"""A record's partition and offset."""
Group = Sequence[Position]
Run = Callable[[Sequence[Group]], Mapping[int, Exception | None]]
"""Runs the transform on groups of records without writing. Returns the exception or None by group number, for at least
one group.
"""


class NotIsolated(Exception):
    """No single record is to blame; the message says why."""


class FailureSearch:
    """Finds the failing records of a batch, one at a time. `positions` is sorted and known to fail."""

    def __init__(self, positions: Group, run: Run) -> None:
        self._run = run
        self._pending = _split_group(positions)
        self._found = 0

    def find_next(self) -> tuple[Position, Exception]:
        """Return a record that fails alone, twice, and its exception. Raises `NotIsolated` and whatever `run` raises.

        The record and the groups that passed are not run again.
        """
        while self._pending:
            group = self._find_group()
            if group is None:
                continue
            if len(group) > 1:
                self._pending = [*_split_group(group), *self._pending]
                continue
            self._found += 1
            if self._found > MOST:
                raise NotIsolated(f"it fails for more than {MOST} records of one batch")
            return group[0], self._confirm_failure(group)
        raise NotIsolated("it fails for the batch as a whole, but passes for each part of it")

    def _find_group(self) -> Group | None:
        """Run the next groups and return the first that failed. It and those that passed are no longer pending."""
        groups = self._pending[:GROUPS]
        outcomes = self._run(groups)
        failing = next((number for number in sorted(outcomes) if outcomes[number] is not None), None)
        ended = {number for number, error in outcomes.items() if error is None or number == failing}
        self._pending = [group for number, group in enumerate(self._pending) if number not in ended]
        return None if failing is None else groups[failing]

    def _confirm_failure(self, record: Group) -> Exception:
        """Return the exception that a record raises alone. Raises `NotIsolated` if it passes."""
        error = self._run([record])[0]
        if error is None:
            partition, offset = record[0]
            raise NotIsolated(f"the record at {partition}:{offset} fails with others, but passes alone")
        return error


def _split_group(group: Group) -> list[Group]:
    """Split a group into at most `GROUPS` parts of about equal size."""
    size = -(-len(group) // GROUPS)
    return [group[at : at + size] for at in range(0, len(group), size)]
