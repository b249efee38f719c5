"""Stage 5: rows to Cassandra, rejects to the dead-letter topic, and the ledger that says what became of each offset.

cassandra   the connection, keyspace and table
rows        rows -> acknowledged upserts
ledger      which offsets were stored or set aside, and when
"""
