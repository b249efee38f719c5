"""What was lost? Kafka, the ledger, the table, the dead letters and the delivery log, compared record by record.

verify          the receipt of a whole topic; receipt: of one run; trace: the stages of one record
reconciliation  loads the facts and runs reconciliation.sql, which holds every check; queries: its statements
engine          DuckDB, in which they run; spark_tables: Spark instead, for topics larger than a machine
auditor         reads the facts from Kafka and Cassandra; coverage: the ledger's entries
fact_loading    facts as columns; spark_loading: the same, read by Spark's executors
audit           the types: a record, a row, and what became of each
excuse_evidence what excuses an absence; excuses: how far it goes
acceptance      differences that an operator accepts
acknowledged, nulls, stuck_streams    what else a receipt reports
"""
