"""Stage 5: rows to Cassandra, rejects to the dead-letter topic, and the ledger that says what became of each offset.

cassandra   the connection, keyspace and table
rows        rows and deletions -> acknowledged writes
ledger      which offsets were stored or set aside, and when
settled     which rejected records were redriven or discarded
receipts    the receipts that were given
accepted    differences that an operator accepted
lease       which job owns a checkpoint
"""
