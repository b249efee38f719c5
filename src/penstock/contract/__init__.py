"""What a record is: one `msgspec.Struct`, and everything that is derived from its fields.

    record   the base class, and the marks a field can carry
    names    what topics, keyspaces, tables and fields may be called, and which names are taken
    fields   the fields of a record, and each type's name in Avro, Spark and CQL
    rules    which rules a record breaks, each by field and name
    schemas  a record as JSON Schema, Avro schema and Spark DDL
    cql      a record as keyspace, table, INSERT, and bound values; how a name is quoted
    batch    what passes between decode and write, and the tally of a stretch of a partition
    reject   a record that was set aside: its bytes, its place, its reason

Needs the standard library and msgspec only, so it loads wherever a record goes.
"""
