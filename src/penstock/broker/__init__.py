"""Stage 3: the broker. Topics with explicit settings, their offsets, and the schema registry.

kafka     client settings shared by every producer, consumer and admin client
topics    create topics, read their watermarks and their records
registry  register schemas, look up a record's writer schema
wire_format  the schema registry's 5-byte wire-format header of a value
headers   the headers that penstock gives a record
dlq       the dead-letter topic: converts rejects to messages, and messages to dead letters
"""
