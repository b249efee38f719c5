"""The entries of a run that become dead letters before the topic: how many, why, and whether they are too many."""

from collections import Counter

from penstock import remedies
from penstock.contract.fault import Fault, Reason
from penstock.errors import TooManyFailed, clean_line

_KIND_CHARS = 300
JUDGED_AFTER_ENTRIES = 200
MIN_FAILURES = 10
"""Fewer failures never fail a run, unless they are all of its entries."""


class FailedEntries:
    """Counts a run's failed entries by kind."""

    def __init__(self, max_share: float) -> None:
        self._max_share = max_share
        self._kinds: Counter[str] = Counter()
        self._examples: dict[str, tuple[int, Reason]] = {}

    def add(self, number: int, fault: Fault) -> None:
        """Count the failed entry with this number in the run, counted from 0. Raises `TooManyFailed`."""
        self._kinds[fault.kind] += 1
        self._examples.setdefault(fault.kind, (number, fault.reason))
        self.check(number + 1)

    def check(self, entries: int, *, at_end: bool = False) -> None:
        """Raise `TooManyFailed` if too large a share of `entries` failed. Early in a run nothing is checked."""
        if entries < JUDGED_AFTER_ENTRIES and not at_end:
            return
        failed = self._kinds.total()
        if failed > self._max_share * entries and (failed >= MIN_FAILURES or failed == entries):
            raise self._too_many(failed, entries)

    def _too_many(self, failed: int, entries: int) -> TooManyFailed:
        ((kind, count),) = self._kinds.most_common(1)
        example, reason = self._examples[kind]
        return TooManyFailed(
            f"{failed} of {entries} entries became dead letters, more than {self._max_share:.0%}; "
            f"most often, {count} times: {clean_line(kind, _KIND_CHARS)}, for example entry {example}",
            hint=f"{remedies.list_dead_letters(reason)}, then correct from_source and run again; "
            "or set PENSTOCK_SOURCE_MAX_FAILED_SHARE higher",
            failed=failed,
            entries=entries,
        )
