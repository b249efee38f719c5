"""Records, keys and other values as bytes, and back: JSON or Avro, with or without the schema registry's header.

wire_format  the header: 5 bytes with a schema id
avro         Avro schemas from the registry, and values read by them; expansion: bounds on what bytes expand to
records      strictly: value -> record of the pipeline | fault, every rule checked
keys         strictly: Kafka key -> id | fault
values       leniently: any value -> JSON types, valid or not, for display and repair
fields       values that JSON and Avro represent by something else: exact numbers, durations
renaming     JSON objects with former names of fields, by their present names
encode       record -> value; JSON value -> Avro of a given schema
avro_values  JSON values as fastavro writes them, in the forms in which they are shown, with the path of what is wrong

A value that cannot be decoded is data: a `Fault` with a reason. An unavailable registry is an exception.
"""
