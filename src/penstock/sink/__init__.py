"""Stage 5: rows to Cassandra, and a ledger that records what became of each offset.

cassandra   the connection, keyspace and table
cells       columns of a row, as commands and pages show them
rows        rows and deletions -> acknowledged writes
ledger      which offsets were stored or dead-lettered, and when
receipts    the receipts that were issued
accepted    differences that an operator accepted
lease       which job owns a checkpoint
"""
