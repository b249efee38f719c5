"""Stage 3: the broker. Topics with explicit settings, their offsets, and the schema registry.

kafka     client settings shared by every producer, consumer and admin client; how one record is produced
topics    create topics, read their watermarks and their records
registry  register schemas, look up a record's writer schema
headers   the headers that penstock gives a record
"""
