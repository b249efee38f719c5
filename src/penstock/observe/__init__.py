"""Stage 6: what can be known from outside, by asking the services alone.

airflow   Airflow's REST API: trigger a run, follow it, read what its task says
receipt   a run from the order to the rows: asked, fetched, produced, stored, rejected, missing
auditor   what an audit compares, asked of Kafka, ledger, table and dead-letter topic
audit     what became of each record; coverage: what the ledger's lines say of a partition
verify    the balance of the topic, from sources that know nothing of each other
trace     the way of one record
services  which service answers; gauges: a snapshot of the pipeline
alerts    the rules over a snapshot; watch: the loop that tells them to history and webhook
"""
