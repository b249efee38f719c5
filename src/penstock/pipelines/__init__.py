"""The pipelines: one file each, holding the record, its source and its destination. Copy `users.py` to make yours.

definition   what a pipeline's file defines
loading      how it is found, and what is said of a file that cannot be imported
validate     what would be refused later, by Kafka, Spark, Cassandra or the registry
identity     what two processes must agree on before one carries out the other's run
started      what the local stack's services were started with
"""

from penstock.pipelines.definition import Pipeline
from penstock.pipelines.loading import load, of

__all__ = ["Pipeline", "load", "of"]
