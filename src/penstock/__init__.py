"""penstock carries records from an HTTP API to a Cassandra table, and can prove that nothing was lost.

Packages in the order in which a record passes them:

    source     1  API responses: fetch, validate, retry
    produce    2  serialize records and produce them to Kafka with acknowledgements
    broker     3  topics, schema registry, dead-letter topic
    process    4  decode Kafka values in Spark to records or dead letters
    sink       5  rows to Cassandra, dead letters to Kafka, ledger of offsets
    observe    6  receipts: records requested, produced, stored, dead-lettered, missing

Shared: `contract` defines records, `pipelines` lists them, `pipeline` wires the stages. `stack` runs the services on
one machine, `cli` is the command line. `config`, `retry`, `errors` and `log` are used everywhere.
"""

__version__ = "0.1.0"
