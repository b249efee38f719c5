"""Pipelines: one file each, with the record, its source and its destination. Copy `users.py` to create your own.

definition   what a pipeline's file defines
loading      find a pipeline, and explain a file that cannot be imported
mapping      map an entry of the API to the message to send, with the pipeline's own code
validate     detect what Kafka, Spark, Cassandra or the registry would refuse later
identity     what two processes must agree on before one executes the other's run
started      what the local stack's services were started with
"""

from penstock.pipelines.definition import Pipeline
from penstock.pipelines.loading import load, of

__all__ = ["Pipeline", "load", "of"]
