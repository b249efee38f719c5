"""penstock carries records from an HTTP API to a Cassandra table, and can prove that nothing was lost.

The packages in the order a record meets them:

    source     1  an API's answers: fetched, judged for form, tried again
    produce    2  a record becomes bytes, and bytes an acknowledged Kafka record
    broker     3  topics, schema registry, dead-letter topic
    process    4  Kafka's bytes become records, or rejects, in Spark
    sink       5  rows to Cassandra, rejects aside, and the ledger of offsets
    observe    6  receipts: what was asked, produced, stored, set aside, and what is missing

What they share: `contract` is what a record is, `pipelines` the records there are, `pipeline` the wiring. `stack` runs
the services on one machine, `cli` is the command. `config`, `retry`, `errors`, `log` are what the names say.
"""

__version__ = "0.1.0"
