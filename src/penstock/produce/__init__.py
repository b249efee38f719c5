"""Stage 2: produce serialized records (`codec.encode`) to Kafka with acknowledgements.

send          bytes -> topic, counts every delivery report
delivery_log  acknowledged offsets, on disk
"""
