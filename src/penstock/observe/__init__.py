"""Stage 6: observe the pipeline from outside, by querying the services alone.

What was lost?
    reconciliation  loads the facts and runs reconciliation.sql, which holds every check; queries: its statements
    engine    the database that runs them; audit: the facts, and the outcome of each record
    auditor   reads the facts from Kafka, ledger, table and dead-letter topic; coverage: the ledger's lines
    evidence  what excuses an absence, read when something is absent; excuses: how far it goes
    acceptance  differences that an operator accepts
    receipt   a run, from the request to the rows; verify: the whole topic, from independent sources
    trace     the path of one record

What is its state now?
    services  which services are available; gauges: a snapshot of the pipeline
    flow      counts, rates and latencies of each stage, poll by poll; hops: the same in words
    alerts    the rules over a snapshot; watch: the loop that sends changes to history and webhook
    reasons   dead letters by reason, counted as they arrive

What is there?
    inventory, browse, content, groups    topics, their messages, the messages' content, their consumers
    subjects, difference, usage           schemas, the difference of two, where they are in use
    application, query                    Spark's application and the streaming query
    table, nodes                          rows, and Cassandra's nodes
    airflow, runs, dag                    Airflow's REST API; the DAG's runs, and how users operate them
    rejected, space                       dead letters; disk and memory
"""
