"""Stage 2: a record becomes bytes, and bytes become an acknowledged Kafka record.

serialize  record -> framed bytes, JSON or Avro
send       bytes -> topic, every delivery report counted
journal    which offsets were acknowledged, on disk
"""
