"""The change of an existing table's TTL to the declared one. Pure: seconds and a declared table in, a change out."""

from penstock.contract.evolution import Change, ChangeKind
from penstock.contract.table import Table


def compare_ttl(existing_s: int, declared: Table) -> Change | None:
    """Return the change of `default_time_to_live`, in seconds, to what is declared; None if there is nothing to change.

    A TTL that is not declared is not managed.
    """
    if declared.ttl_s is None or declared.ttl_s == existing_s:
        return None
    why = f"{_describe_existing(existing_s)}, and the pipeline declares {_describe_declared(declared)}"
    return Change.of("", ChangeKind.TTL_CHANGED, f"{why}; existing rows keep the TTL that they were written with")


def _describe_existing(ttl_s: int) -> str:
    return f"rows of the table expire after {ttl_s} s" if ttl_s else "rows of the table do not expire"


def _describe_declared(table: Table) -> str:
    if table.expiry is not None:
        return f"that the field {table.expiry.field.column} decides"
    return f"{table.ttl_s} s"
