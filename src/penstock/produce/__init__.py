"""Stage 2: serialize records and produce them to Kafka with acknowledgements.

serialize  record -> bytes with wire-format header, JSON or Avro
send       bytes -> topic, counts every delivery report
delivery_log  acknowledged offsets, on disk
"""
