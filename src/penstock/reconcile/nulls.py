"""How often fields are null: shares of the stored rows, and how they changed. Pure: no I/O."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Nulls:
    """The share of stored rows in which a field is null: of all rows, and of those since the last receipt."""

    share: float
    since_last: float | None
    moved: float | None
    """The share since the last receipt minus the share up to it."""


def compute_null_shares(
    names: Iterable[str], counts: dict[str, int], last: dict[str, int] | None
) -> tuple[dict[str, Nulls], list[str]]:
    """Return the share of nulls of each field, and a warning for each field that was never null before.

    `counts` and `last` hold the stored rows under the empty name, and the nulls of each nullable field. `last` is that
    of the last receipt.
    """
    shares, warnings = {}, []
    stored, before = counts[""], (last or {}).get("", 0)
    fresh = stored - before if last else 0
    for name in names:
        nulls, nulls_before = counts.get(name, 0), (last or {}).get(name, 0)
        since_last = (nulls - nulls_before) / fresh if fresh > 0 else None
        was = nulls_before / before if before else None
        moved = None if since_last is None or was is None else since_last - was
        shares[name] = Nulls(nulls / stored if stored else 0.0, since_last, moved)
        if last and name in last and was == 0 and since_last:
            new = nulls - nulls_before
            warnings.append(f"{name} was never null before; it is null in {new} of the {fresh} rows stored since")
    return shares, warnings
