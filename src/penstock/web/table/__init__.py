"""The page Table: rows, a record's trace, Cassandra's nodes."""
