"""Stage 3: the broker. Topics with explicit settings, their offsets, and the schema registry.

kafka     the client settings shared by every producer, consumer and admin
topics    creating topics, reading their watermarks and their records
registry  registering schemas, finding a record's writer schema
frame     the registry's 5 bytes in front of a value
headers   the headers that penstock gives a record
dlq       the dead-letter topic: rejects to messages, and messages to letters
"""
