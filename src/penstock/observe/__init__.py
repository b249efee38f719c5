"""Stage 6: what can be known from outside, by asking the services alone.

What was lost?
    reconciliation  loads the facts and runs reconciliation.sql, in which every check stands; queries: its statements
    engine    the database that they run in; audit: what a fact is, and what became of each record
    auditor   where the facts come from: Kafka, ledger, table and dead-letter topic; coverage: the ledger's lines
    evidence  what excuses an absence, asked when something is absent; excuses: how far it goes
    acceptance  differences that an operator accepts
    receipt   a run from the order to the rows; verify: the whole topic, from sources that know nothing of each other
    trace     the way of one record

How is it now?
    services  which service answers; gauges: a snapshot of the pipeline
    flow      counts, rates and latencies of each hop, look by look; hops: the same in words
    alerts    the rules over a snapshot; watch: the loop that tells them to history and webhook
    reasons   rejected records by reason, as they come

What is there?
    inventory, browse, content, groups    topics, their messages, what those hold, who reads them
    subjects, difference, usage           schemas, what differs between two, where they are in use
    application, query                    Spark's application and the streaming query
    table, nodes                          rows, and Cassandra's nodes
    airflow, runs, dag                    Airflow's REST API; the DAG's runs, and what can be done with them
    rejected, space                       the rejected records; disk and memory
"""
