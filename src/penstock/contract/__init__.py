"""What a record is: a `msgspec.Struct`, and everything that is derived from its fields.

    record   the base class, and the marks of fields
    names    valid names of topics, keyspaces, tables and fields, and reserved names
    fields   the fields of a record; nesting: those of composite types, as a record's file declares them
    kinds    each scalar type's name in Avro, Spark and CQL, and its values there; composites: those of the others
    aliases  former names of fields in messages
    identity  the KEY fields and their texts; primary_key: a table's key as declared; table: its columns and keys
    expiry   when a row expires, by the table's TTL or by a field; ttl_change: another TTL of an existing table
    evolution  changes of a record's schemas (field_schemas: what they say; continuation: as they are registered);
               table_evolution: changes of a table
    rules    validation: which rules a record breaks, each by field and name; value_rules: those of single types
    checks   the rules that msgspec does not have; refusals: each broken rule of a value that msgspec refuses
    violation  a broken rule; assignment: values set at the paths that violations have
    decimals   decimals of a fixed number of digits, never rounded
    json_text  JSON in which no object has a duplicate name; values stored as text
    json_numbers  numbers of JSON with more digits than a float keeps
    schemas  a record as JSON Schema, Avro schema and Spark DDL
    cql      a record as keyspace, types, table, INSERT, and bound values; cql_values: composite ones; quoting: names
    fault    what is wrong with a value or a record
    batch    data between decode and write: rows, deletions, rejects; and the summary of an offset range

Requires only the standard library and msgspec, so it can be imported wherever a record goes.
"""
