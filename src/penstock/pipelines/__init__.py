"""The pipelines: one file each, holding the record, its source and its destination. Copy `users.py` to make yours."""

from penstock.pipelines.definition import Pipeline, load, of

__all__ = ["Pipeline", "load", "of"]
